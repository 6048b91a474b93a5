"""Schedules and runs of every fixture home, value by value, as they are stored after an import."""

from __future__ import annotations

from typing import Any

import pytest

from tests.db.legacy.adopt_kit import NOW_TEXT, brought, brought_adoption, shown, ulid_for
from tests.db.legacy.relay_kit import HOMES, expected, expected_rows

_INVALID_CRON = "every day at noon"
_INTERRUPTED = "Interrupted by server restart"


def _expected_schedules(home: str) -> list[dict[str, Any]]:
    """Every schedule in the columns that it has here."""
    newer = [row | {"runtime": "claude"} for _, row in expected_rows(home, "pulse_schedules")]
    older = [
        {
            "id": ulid_for("pulse_schedules", entry["id"], entry["createdAt"]),
            "description": None,
            "runtime": "claude",
            "max_runtime": entry["maxRuntime"],
            "permission_mode": entry["permissionMode"],
            "created_at": entry["createdAt"],
            "updated_at": entry["updatedAt"],
            **{key: entry[key] for key in ("name", "cron", "timezone", "prompt", "cwd", "status")},
            "enabled": int(entry["enabled"]),
        }
        for entry in expected(home)["files"].get("schedules.json", [])
    ]
    return newer + older


@pytest.mark.parametrize("home", HOMES)
def test_every_schedule_is_there_with_every_value(home: str) -> None:
    """Also those that we would refuse today: unchanged, but for the status, which keeps them from firing."""
    stored = brought(home).by_id("pulse_schedules")
    schedules = _expected_schedules(home)
    assert len(stored) == len(schedules)
    for schedule in schedules:
        row = stored[schedule["id"]]
        refused = schedule["cron"] == _INVALID_CRON
        status = "needs_attention" if refused and schedule["status"] == "active" else schedule["status"]
        assert {column: row[column] for column in schedule} == {**schedule, "status": status}
        assert (row["status_reason"] is not None) is refused
        armed = status != "needs_attention" and schedule["enabled"] == 1
        assert (row["decided_until"], row["next_due_at"]) == (NOW_TEXT, NOW_TEXT if armed else None)
        assert row["deleted_at"] is None


@pytest.mark.parametrize("home", HOMES)
def test_a_schedule_that_we_would_refuse_says_why(home: str) -> None:
    """There is one in every home, and it must not stop the import."""
    refused = [
        row for row in brought(home).by_id("pulse_schedules").values() if row["status"] == "needs_attention"
    ]
    assert refused
    for row in refused:
        assert row["cron"] in row["status_reason"] or row["timezone"] in row["status_reason"]
        told = f"{row['name']!r} ({row['id']}) was kept as it is and cannot fire: {row['status_reason']}"
        assert any(told in note for note in brought_adoption(home).report.notes)


@pytest.mark.parametrize("home", HOMES)
def test_every_run_is_there_with_every_value(home: str) -> None:
    """One that was under way is over, as far as is known; one whose schedule is gone keeps what it named."""
    target = brought(home)
    stored = target.by_id("pulse_runs")
    schedules = {row["id"] for row in _expected_schedules(home)}
    ids = {
        entry["id"]: ulid_for("pulse_schedules", entry["id"], entry["createdAt"])
        for entry in expected(home)["files"].get("schedules.json", [])
    }
    runs = expected_rows(home, "pulse_runs", "runs")
    assert len(stored) == len(runs)
    for place, run in runs:
        run_id = (
            ulid_for("pulse_runs", run["id"], run["created_at"]) if place == "pulse.db runs" else run["id"]
        )
        row = stored[run_id]
        for column in ("started_at", "duration_ms", "session_id", "trigger", "created_at"):
            assert row[column] == run[column]
        assert row["output"] == shown(run["output_summary"] if "output_summary" in run else run["output"])
        schedule_id = ids.get(run["schedule_id"], run["schedule_id"])
        if schedule_id in schedules:
            assert row["schedule_id"] == schedule_id
        else:
            assert row["schedule_id"] is None
            assert target.kept(f"pulse_runs:{run_id}:schedule_id") == run["schedule_id"]
        if run["status"] == "running":
            assert (row["status"], row["reason"]) == ("interrupted", "unconfirmed")
            assert (row["finished_at"], row["error"]) == (NOW_TEXT, _INTERRUPTED)
        else:
            assert (row["status"], row["reason"]) == (run["status"], None)
            assert (row["finished_at"], row["error"]) == (run["finished_at"], run["error"])
        assert (row["prompt"], row["chain_id"], row["attempt"]) == ("", run_id, 1)
        assert [row[column] for column in ("slot_id", "lease_token", "pid", "delivery_id")] == [None] * 4


@pytest.mark.parametrize("home", HOMES)
def test_an_output_cut_inside_an_emoji_is_kept_byte_for_byte(home: str) -> None:
    """No reader takes half a pair, so one U+FFFD is shown for it, and the bytes are kept as a literal."""
    target = brought(home)
    found = 0
    for place, run in expected_rows(home, "pulse_runs", "runs"):
        output = run["output_summary"] if "output_summary" in run else run["output"]
        if not isinstance(output, dict):
            continue
        run_id = (
            ulid_for("pulse_runs", run["id"], run["created_at"]) if place == "pulse.db runs" else run["id"]
        )
        assert target.kept(f"pulse_runs:{run_id}:output") == f"X'{output['$invalid_utf8_hex']}'"
        found += 1
    assert found == 1


@pytest.mark.parametrize("home", ["home-three-databases", "home-upgraded-by-server"])
def test_the_uuid_that_an_id_was_is_kept(home: str) -> None:
    """So that what people wrote down elsewhere can still be found."""
    target = brought(home)
    for entry in expected(home)["files"]["schedules.json"]:
        new_id = ulid_for("pulse_schedules", entry["id"], entry["createdAt"])
        assert target.kept(f"pulse_schedules:{new_id}:id") == entry["id"]
