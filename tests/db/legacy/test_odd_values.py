"""Values that no store of the lineage wrote, but its tables take: none stops an import, none is lost."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from dorkos.db.engine import sqlite_driver
from dorkos.db.verify import verify_sqlite
from tests.db.legacy.adopt_kit import NOW_TEXT, Target, copy_of, new_target

SCHEDULE = "01KJF26055201HBEYTQ8HB1F1D"
RUN = "01KJHRBBYAHG3WNGWYZT6463RH"
AGENT = "01KJHRJWQ4B0TSYWC6NPJ94AK7"

# Table, id, column, what is put there in SQL, what stands here then, what is kept.
CASES = [
    ("pulse_schedules", SCHEDULE, "name", "X'FF41'", "\ufffdA", "X'ff41'"),
    ("pulse_schedules", SCHEDULE, "name", "'a' || char(0) || 'b'", "a\ufffdb", "X'610062'"),
    ("pulse_schedules", SCHEDULE, "prompt", "X'3137'", "17", "X'3137'"),
    ("pulse_schedules", SCHEDULE, "enabled", "'maybe'", 0, "maybe"),
    ("pulse_schedules", SCHEDULE, "max_runtime", "'long'", None, "long"),
    ("pulse_schedules", SCHEDULE, "max_runtime", "1.5", None, "1.5"),
    ("pulse_schedules", SCHEDULE, "status", "'asleep'", "paused", "asleep"),
    ("pulse_schedules", SCHEDULE, "permission_mode", "'yolo'", "default", "yolo"),
    ("pulse_schedules", SCHEDULE, "created_at", "'yesterday'", NOW_TEXT, "yesterday"),
    (
        *("pulse_schedules", SCHEDULE, "created_at", "'2026-02-16T09:07:00+01:00'"),
        *("2026-02-16T08:07:00.000Z", "2026-02-16T09:07:00+01:00"),
    ),
    ("pulse_schedules", SCHEDULE, "updated_at", "'0099-01-01T00:00:00Z'", NOW_TEXT, "0099-01-01T00:00:00Z"),
    ("pulse_runs", RUN, "status", "'queued'", "failed", "queued"),
    ("pulse_runs", RUN, "status", "'exploded'", "failed", "exploded"),
    ("pulse_runs", RUN, "trigger", "'moon'", "scheduled", "moon"),
    ("pulse_runs", RUN, "finished_at", "X'00'", NOW_TEXT, "X'00'"),
    ("pulse_runs", RUN, "duration_ms", "'quick'", None, "quick"),
    ("pulse_runs", RUN, "output", "X'EDA0BDEDB880'", "\ufffd\ufffd", "X'eda0bdedb880'"),
    ("agents", AGENT, "runtime", "'abacus'", "other", "abacus"),
    ("agents", AGENT, "status", "'dreaming'", "inactive", "dreaming"),
    ("agents", AGENT, "capabilities_json", "'{\"a\": 1}'", "[]", '{"a": 1}'),
    ("agents", AGENT, "capabilities_json", "'[1]'", "[]", "[1]"),
    ("agents", AGENT, "capabilities_json", "'not json'", "[]", "not json"),
    ("agents", AGENT, "capabilities_json", r"""'["a\u0000"]'""", '["a\ufffd"]', r'["a\u0000"]'),
    ("agents", AGENT, "entrypoint", "'node index.js'", None, "node index.js"),
    ("agents", AGENT, "last_seen_at", "'recently'", NOW_TEXT, "recently"),
]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A fresh data directory."""
    return new_target(tmp_path / "target")


def _with(folder: Path, *statements: str) -> Path:
    """A copy of a fixture home after these statements, whose foreign keys nobody checks."""
    home = copy_of("home-node-0002", folder)
    with closing(sqlite_driver().connect(str(home / "dork.db"), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return home


@pytest.mark.parametrize(("table", "row_id", "column", "sql", "stands", "kept"), CASES)
def test_an_odd_value_is_replaced_and_kept(  # noqa: PLR0917  # One for each column of the cases.
    table: str,
    row_id: str,
    column: str,
    sql: str,
    stands: object,
    kept: str,
    tmp_path: Path,
    target: Target,
) -> None:
    """By its safest reading; the original word for word; and reported without showing it."""
    home = _with(tmp_path, f"UPDATE {table} SET {column} = {sql} WHERE id = '{row_id}'")
    adoption = target.adopt(home)
    assert target.by_id(table)[row_id][column] == stands
    assert target.kept(f"{table}:{row_id}:{column}") == kept
    (told,) = (value for value in adoption.report.values if (value.key, value.column) == (row_id, column))
    assert told.part == f"dork.db {table}"
    assert adoption.report.left_out == []
    assert verify_sqlite(target.home.database_path) == []
    assert target.adopt(home).added == 0


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ("cron = '61 * * * *'", "61 * * * *"),
        ("cron = '0 0 30 2 *'", "day-of-month"),
        ("cron = '2026-03-01T09:00:00'", "looks like a date"),
        ("timezone = 'GMT+2 '", "GMT+2 "),
        ("timezone = ''", "not an IANA time zone"),
        ("prompt = ''", "no prompt"),
        ("name = '  '", "no name"),
        ("max_runtime = -5", "-5 ms"),
    ],
)
def test_what_we_would_refuse_today_does_not_fire(
    edit: str, reason: str, tmp_path: Path, target: Target
) -> None:
    """It stands unchanged, needs attention, and says why."""
    target.adopt(_with(tmp_path, f"UPDATE pulse_schedules SET {edit} WHERE id = '{SCHEDULE}'"))
    row = target.by_id("pulse_schedules")[SCHEDULE]
    column, _, value = edit.partition(" = ")
    assert str(row[column]) == value.strip("'")
    assert (row["status"], row["next_due_at"]) == ("needs_attention", None)
    assert reason in row["status_reason"]


@pytest.mark.parametrize("status", ["paused", "pending_approval"])
def test_what_waits_for_a_person_goes_on_waiting(status: str, tmp_path: Path, target: Target) -> None:
    """A schedule that cannot fire besides says so, but nobody's decision is overwritten."""
    edit = f"status = '{status}', cron = 'whenever'"
    target.adopt(_with(tmp_path, f"UPDATE pulse_schedules SET {edit} WHERE id = '{SCHEDULE}'"))
    row = target.by_id("pulse_schedules")[SCHEDULE]
    assert row["status"] == status
    assert "whenever" in row["status_reason"]


@pytest.mark.parametrize(
    ("old_id", "sql"),
    [
        ("1003A099-4450-48A0-BF7D-921A61C6C544", "'1003A099-4450-48A0-BF7D-921A61C6C544'"),
        ("nightly audit", "'nightly audit'"),
        ("", "''"),
        ("X'00ff'", "X'00FF'"),
    ],
)
def test_an_id_that_no_address_can_hold_is_replaced_and_references_follow(
    old_id: str, sql: str, tmp_path: Path, target: Target
) -> None:
    """Also on the next import, which finds the same id again."""
    home = _with(
        tmp_path,
        "PRAGMA foreign_keys = OFF",
        f"UPDATE pulse_schedules SET id = {sql} WHERE id = '{SCHEDULE}'",
        f"UPDATE pulse_runs SET schedule_id = {sql} WHERE schedule_id = '{SCHEDULE}'",
    )
    runs = len(_runs_of(tmp_path, SCHEDULE))
    assert target.adopt(home).report.left_out == []
    (key,) = (
        row["key"]
        for row in target.rows("SELECT key FROM system_state WHERE value = ? AND key LIKE '%:id'", old_id)
    )
    new_id = key.split(":")[2]
    assert len(new_id) == 26
    found = target.rows("SELECT id FROM pulse_runs WHERE schedule_id = ?", new_id)
    assert len(found) == runs > 0
    assert target.adopt(home).added == 0


def _runs_of(folder: Path, schedule: str) -> list[object]:
    home = copy_of("home-node-0002", folder / "untouched")
    with closing(sqlite_driver().connect(str(home / "dork.db"))) as connection:
        return list(connection.execute("SELECT id FROM pulse_runs WHERE schedule_id = ?", (schedule,)))


def test_an_odd_bucket_counts_for_nothing_and_stops_nothing(tmp_path: Path, target: Target) -> None:
    """Its minute is no number; the count is kept all the same."""
    home = _with(tmp_path, "INSERT INTO rate_limit_buckets VALUES ('x', 'noon', 3)")
    target.adopt(home)
    (row,) = target.rows("SELECT * FROM rate_limit_buckets WHERE agent_id = 'x'")
    assert row["bucket_minute"] < 0
    assert row["count"] == 3
    assert target.kept("rate_limit_buckets:x:noon:bucket_minute") == "noon"


def test_a_manifest_that_says_more_than_its_row_is_kept_whole(tmp_path: Path, target: Target) -> None:
    """The row stands; what only the manifest says of behaviour and budget is taken from it."""
    home = copy_of("home-three-databases", tmp_path)
    manifest = {
        "name": "another name",
        "behavior": {"responseMode": "silent"},
        "budget": "none",
        "tags": ["x"],
    }
    with closing(sqlite_driver().connect(str(home / "mesh" / "mesh.db"), isolation_level=None)) as connection:
        connection.execute(
            "UPDATE agents SET manifest_json = ? WHERE id = '01HZZZZZZZLEGACYTOOL000001'",
            (json.dumps(manifest),),
        )
    target.adopt(home)
    row = target.by_id("agents")["01HZZZZZZZLEGACYTOOL000001"]
    assert (row["name"], row["budget_json"]) == ("legacy-tool", None)
    assert json.loads(row["behavior_json"]) == {"responseMode": "silent"}
    assert json.loads(target.kept("agents:01HZZZZZZZLEGACYTOOL000001:manifest_json") or "") == manifest


@pytest.mark.parametrize(
    ("key", "value", "column", "stands", "kept"),
    [
        ("maxRuntime", "soon", "max_runtime", None, "soon"),
        ("maxRuntime", 1e300, "max_runtime", None, "1e+300"),
        ("enabled", "no", "enabled", 0, "no"),
        ("name", "half \ud83d", "name", "half \ufffd", "X'68616c6620eda0bd'"),
        ("cwd", {"a": 1}, "cwd", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_an_odd_value_of_a_json_file_is_replaced_and_kept(  # noqa: PLR0917  # One for each column.
    key: str, value: object, column: str, stands: object, kept: str, tmp_path: Path, target: Target
) -> None:
    """As one of a database is."""
    new_id = _adopt_with_first_schedule(target, tmp_path, {key: value})
    assert target.by_id("pulse_schedules")[new_id][column] == stands
    assert target.kept(f"pulse_schedules:{new_id}:{column}") == kept


def test_a_field_that_nobody_knows_is_kept(tmp_path: Path, target: Target) -> None:
    """Under its own name, as JSON."""
    new_id = _adopt_with_first_schedule(target, tmp_path, {"tags": ["x"]})
    assert target.kept(f"pulse_schedules:{new_id}:tags") == '["x"]'


def _adopt_with_first_schedule(target: Target, folder: Path, change: dict[str, object]) -> str:
    """The new id of the schedule that was changed."""
    home = copy_of("home-three-databases", folder)
    path = home / "schedules.json"
    schedules = json.loads(path.read_text("utf-8"))
    schedules[0] |= change
    path.write_text(json.dumps(schedules), "utf-8")
    target.adopt(home)
    (row,) = target.rows("SELECT key FROM system_state WHERE value = ?", schedules[0]["id"])
    return str(row["key"].split(":")[2])
