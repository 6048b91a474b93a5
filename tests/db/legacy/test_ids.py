"""Ids that replace a UUID: always the same, and told apart by what they are of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dorkos.db.legacy.ids import derived_id, ulid_of
from dorkos.ids import is_ulid

UUID = "1003a099-4450-48a0-bf7d-921a61c6c544"
AT = datetime(2026, 2, 16, 8, 7, 0, 1000, tzinfo=UTC)


def test_a_uuid_becomes_a_ulid_of_its_row_s_time() -> None:
    """The value itself is a promise: a home that was imported by an older version is imported again."""
    found = ulid_of("pulse_schedules", UUID, AT)
    assert is_ulid(found)
    assert found == "01KHJQT351VQV502E9BQ6EY3DK"
    assert found == ulid_of("pulse_schedules", UUID, AT)
    assert found != ulid_of("pulse_runs", UUID, AT)


@pytest.mark.parametrize("old", ["01KJF26055201HBEYTQ8HB1F1D", "01HZZZZZZZLEGACYTOOL000001", "job-7"])
def test_other_ids_stay(old: str) -> None:
    """Manifests and mailbox files name them."""
    assert ulid_of("agents", old, AT) == old


@pytest.mark.parametrize("old", ["", "a b", "x" * 65, "é", "a/b", "half \ud83d"])
def test_what_no_address_can_hold_is_replaced(old: str) -> None:
    """Else nobody could ever ask for it."""
    assert is_ulid(ulid_of("agents", old, AT))


def test_a_row_that_tells_no_time_has_an_id_all_the_same() -> None:
    """Not one of the time of the import: that would be another one each time."""
    assert derived_id("x", None).startswith("0000000000")
    assert is_ulid(derived_id("x", datetime(1, 1, 1, tzinfo=UTC)))
    assert is_ulid(derived_id("x", datetime(9999, 12, 31, tzinfo=UTC)))
