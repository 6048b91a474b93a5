"""Counting tokens that do not hold, by address."""

from __future__ import annotations

from dorkos.clock import ManualClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.server.failures import LIMIT, Failures

_INVALID = DorkError(ErrorCode.TOKEN_INVALID, "No.")


def _codes(failures: Failures, address: str, times: int) -> set[ErrorCode]:
    return {failures.counted(_INVALID, address).code for _ in range(times)}


def test_each_address_has_its_own_count() -> None:
    """One that is over the limit costs no other anything."""
    failures = Failures(ManualClock())
    assert _codes(failures, "10.0.0.1", LIMIT) == {ErrorCode.TOKEN_INVALID}
    assert _codes(failures, "10.0.0.1", 5) == {ErrorCode.TOO_MANY_FAILURES}
    assert _codes(failures, "10.0.0.2", 1) == {ErrorCode.TOKEN_INVALID}


def test_it_remembers_a_bounded_number_of_addresses() -> None:
    """Whoever has many of them does not fill the memory."""
    failures = Failures(ManualClock())
    for number in range(3000):
        failures.counted(_INVALID, str(number))
    assert len(failures._windows) == 1000
