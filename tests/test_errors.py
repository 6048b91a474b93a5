"""The closed list of error codes."""

from __future__ import annotations

import pytest

from dorkos.errors import ERRORS, DorkError, ErrorCode


def test_every_code_has_exactly_one_row() -> None:
    """No code without a status, an exit code and a meaning, and no row without a code."""
    assert set(ErrorCode) == set(ERRORS)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_an_error_on_each_surface(code: ErrorCode) -> None:
    """Statuses are 4xx or 5xx, and exit codes are never 0."""
    row = ERRORS[code]

    assert 400 <= row.http_status < 600
    assert 0 < row.exit_code < 126
    assert row.meaning.endswith(".")


def test_the_body_holds_details_and_hint_only_when_given() -> None:
    """The wire shape is {error, code, details?, hint?}."""
    bare = DorkError(ErrorCode.NOT_FOUND, "nothing here")
    full = DorkError(ErrorCode.CONFLICT, "changed", hint="read again", details={"revision": 2})

    assert bare.body() == {"error": "nothing here", "code": "not_found"}
    assert full.body() == {
        "error": "changed",
        "code": "conflict",
        "hint": "read again",
        "details": {"revision": 2},
    }
