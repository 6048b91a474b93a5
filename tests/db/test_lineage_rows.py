"""Rows of the lineage on their way through 0003: none is lost, no value is lost, nothing old may fire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock, from_iso, iso
from dorkos.db.connections import migrating_postgres
from dorkos.db.ledger import revisions
from dorkos.db.migrate import MigrationReport, Plan, migrate_postgres
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.relay import relay_endpoints, relay_index, relay_messages
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_sqlite
from dorkos.testing import empty_postgres
from dorkos.vocabulary import (
    AgentRuntime,
    AgentStatus,
    DeliveryStatus,
    PermissionMode,
    RunReason,
    RunState,
    RunTrigger,
    ScheduleStatus,
)
from tests.db.conftest import Bench

AT = "2026-02-27T08:07:00.001Z"
LATER = "2026-02-27T09:00:00.250Z"
NOW = ManualClock().now()

SCHEDULE = {
    "id": "S1",
    "name": "Zoë: “standup” ☕",
    "description": "two\nlines",
    "cron": "every day at noon",
    "timezone": "Mars/Olympus_Mons",
    "prompt": "it's `$HOME`",
    "cwd": "/srv/a b",
    "status": "pending_approval",
    "created_at": AT,
    "updated_at": LATER,
    "enabled": 0,
    "max_runtime": 1_800_000,
    "permission_mode": "bypassPermissions",
}
RUN = {
    "id": "R1",
    "schedule_id": "S1",
    "status": "completed",
    "started_at": AT,
    "finished_at": LATER,
    "duration_ms": 57_262,
    "output": "done ✓",
    "error": None,
    "session_id": "R1",
    "trigger": "manual",
    "created_at": AT,
}
AGENT = {
    "id": "A1",
    "name": "агент",
    "runtime": "codex",
    "project_path": "/srv/project",
    "namespace": "docs",
    "capabilities_json": '["a", "b"]',
    "entrypoint": '["python", "main.py"]',
    "version": "1",
    "description": 'says "hello"',
    "approver": "ada",
    "status": "inactive",
    "last_seen_at": LATER,
    "last_seen_event": "heartbeat",
    "registered_at": AT,
    "updated_at": LATER,
}
SUBJECT = "relay.team.backend"
HASH = hashlib.sha256(SUBJECT.encode()).hexdigest()[:12]
MESSAGE = {
    "id": "M1",
    "subject": SUBJECT,
    "endpoint_hash": HASH,
    "status": "pending",
    "expires_at": "2099-01-01T00:00:00.000Z",
    "payload": '{"content": "✉️"}',
    "metadata": None,
    "created_at": AT,
}
ROWS: dict[str, Sequence[Mapping[str, object]]] = {
    "pulse_schedules": [SCHEDULE],
    "pulse_runs": [RUN],
    "agents": [AGENT],
    "relay_index": [MESSAGE],
}


def _upgrade(
    bench: Bench, rows: Mapping[str, Sequence[Mapping[str, object]]], *, also: str = "SELECT 1"
) -> MigrationReport:
    """Make the lineage's database, fill it, and lead it to the end."""
    bench.copy_revisions(3)
    bench.migrate()
    with bench.raw() as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        for table, those in rows.items():
            for row in those:
                names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
        connection.execute(also)
    bench.copy_revisions(len(revisions()))
    report = bench.migrate(declared=metadata)
    assert verify_sqlite(bench.path) == []
    return report


def _all(bench: Bench, table: sa.Table) -> Sequence[Mapping[str, Any]]:
    """Every row as the program reads it: through the declared types."""
    engine = sa.create_engine(f"sqlite:///{bench.path}")
    with engine.connect() as connection:
        found = [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]
    engine.dispose()
    return found


def _one(bench: Bench, table: sa.Table) -> Mapping[str, Any]:
    (row,) = _all(bench, table)
    return row


def _check_moved(found: Mapping[str, Mapping[str, Any]]) -> None:
    """What ROWS became, by table."""
    schedule, run, agent = found["pulse_schedules"], found["pulse_runs"], found["agents"]
    for name, value in SCHEDULE.items():
        if name not in ("created_at", "updated_at", "enabled"):
            assert schedule[name] == value, name
    assert schedule["status"] is ScheduleStatus.PENDING_APPROVAL
    assert schedule["enabled"] is False
    assert schedule["permission_mode"] is PermissionMode.BYPASS_PERMISSIONS
    assert (iso(schedule["created_at"]), iso(schedule["updated_at"])) == (AT, LATER)
    assert (schedule["next_due_at"], schedule["decided_until"]) == (None, NOW)
    for name, value in RUN.items():
        if not name.endswith("_at"):
            assert run[name] == value, name
    assert [iso(run[name]) for name in ("created_at", "started_at", "finished_at")] == [AT, AT, LATER]
    assert (run["chain_id"], run["attempt"], run["slot_id"], run["reason"]) == ("R1", 1, None, None)
    for name, value in AGENT.items():
        if not name.endswith("_at") and name not in ("capabilities_json", "entrypoint"):
            assert agent[name] == value, name
    assert agent["capabilities_json"] == ["a", "b"]
    assert agent["entrypoint"] == ["python", "main.py"]
    assert [iso(agent[name]) for name in ("registered_at", "updated_at", "last_seen_at")] == [
        AT,
        LATER,
        LATER,
    ]
    message, delivery, endpoint = found["relay_messages"], found["relay_index"], found["relay_endpoints"]
    assert (message["id"], message["subject"], message["sender"]) == ("M1", SUBJECT, None)
    assert message["payload"] == MESSAGE["payload"]
    assert message["bytes"] == len(str(MESSAGE["payload"]).encode())
    assert (message["chain_id"], message["hop_count"], message["max_hops"]) == ("M1", 0, 5)
    assert message["expires_at"] == delivery["expires_at"] == from_iso("2099-01-01T00:00:00Z")
    assert (delivery["id"], delivery["message_id"], delivery["endpoint_id"]) == ("M1", "M1", endpoint["id"])
    assert delivery["status"] is DeliveryStatus.PENDING
    assert (endpoint["subject"], endpoint["hash"], endpoint["position"]) == (SUBJECT, HASH, 1)
    assert (endpoint["pending_count"], endpoint["pending_bytes"]) == (1, message["bytes"])


MOVED = (pulse_schedules, pulse_runs, agents, relay_messages, relay_index, relay_endpoints)


def test_every_value_arrives(bench: Bench) -> None:
    """Each column of each row is where it belongs, read through the declared types; nothing to note."""
    report = _upgrade(bench, ROWS)
    _check_moved({table.name: _one(bench, table) for table in MOVED})
    assert report.applied[0].notes == ()
    assert bench.rows("SELECT key FROM system_state WHERE key LIKE 'lineage:%'") == []


def test_every_value_arrives_on_postgres(bench: Bench) -> None:
    """The same revision moves the same rows there."""
    bench.copy_revisions(3)
    with empty_postgres() as url:
        migrate_postgres(url, clock=bench.clock, plan=Plan(bench.directory, sa.MetaData()))
        with migrating_postgres(url) as connection, connection.begin():
            for table, rows in ROWS.items():
                old = sa.Table(table, sa.MetaData(), autoload_with=connection)
                for row in rows:
                    flags = {"enabled": False} if "enabled" in row else {}
                    connection.execute(old.insert().values({**row, **flags}))
        report = migrate_postgres(url, clock=bench.clock)
        assert report.applied[0].notes == ()
        with migrating_postgres(url) as connection, connection.begin():
            found = {
                table.name: dict(connection.execute(sa.select(table)).mappings().one()) for table in MOVED
            }
    _check_moved(found)


def test_the_report_counts_rows_before_and_after(bench: Bench) -> None:
    """A table that is rebuilt has as many rows as before; new ones show where they came from."""
    many = [{**MESSAGE, "id": f"M{number:04}"} for number in range(1203)]
    report = _upgrade(bench, {"relay_index": many})
    counts = {row.table: (row.before, row.after) for row in report.applied[0].rows}
    assert counts["relay_index"] == (1203, 1203)
    assert counts["relay_messages"] == (None, 1203)
    assert counts["relay_endpoints"] == (None, 1)


def test_tables_that_stay_keep_their_rows(bench: Bench) -> None:
    """Denials, buckets and traces are not touched by the migration."""
    rows: dict[str, Sequence[Mapping[str, object]]] = {
        "agent_denials": [{"id": "D", "path": "/srv/x", "reason": None, "denier": "ada", "created_at": AT}],
        "rate_limit_buckets": [{"agent_id": "A", "bucket_minute": 29_539_673, "count": 7}],
        "relay_traces": [
            {"id": "T", "message_id": "M", "trace_id": "t", "subject": "s", "status": "sent", "sent_at": AT}
        ],
    }
    _upgrade(bench, rows)
    for table, (row,) in rows.items():
        names = ", ".join(row)
        assert bench.rows(f"SELECT {names} FROM {table}") == [tuple(row.values())]


def test_a_run_that_was_under_way_is_interrupted(bench: Bench) -> None:
    """Whether its process ended nobody knows any more: final, unconfirmed, at the time of the migration."""
    running = {**RUN, "status": "running", "finished_at": None, "duration_ms": None}
    _upgrade(bench, {"pulse_schedules": [SCHEDULE], "pulse_runs": [running]})
    run = _one(bench, pulse_runs)
    assert run["status"] is RunState.INTERRUPTED
    assert run["reason"] is RunReason.UNCONFIRMED
    assert run["error"] == "Interrupted by server restart"
    assert run["finished_at"] == NOW


def test_nothing_claims_to_wait_for_a_start(bench: Bench) -> None:
    """The lineage never queued; a row that says so is odd, and must not become a run that starts."""
    _upgrade(bench, {"pulse_schedules": [SCHEDULE], "pulse_runs": [{**RUN, "status": "queued"}]})
    assert _one(bench, pulse_runs)["status"] is RunState.FAILED


def test_a_mailbox_is_found_again_by_its_hash(bench: Bench) -> None:
    """Its subject where a message names it, else a made-up one; positions and pending counts are right."""
    rows = [
        {**MESSAGE, "id": "M3", "created_at": LATER, "status": "delivered", "payload": None},
        {**MESSAGE, "id": "M2", "subject": "relay.team.>", "payload": None, "created_at": LATER},
        {**MESSAGE, "id": "M9", "payload": "[1]"},
        {
            **MESSAGE,
            "id": "M4",
            "subject": "relay.fan.*",
            "endpoint_hash": "0123456789ab",
            "status": "failed",
        },
    ]
    _upgrade(bench, {"relay_index": rows})
    known = {row["hash"]: row for row in _all(bench, relay_endpoints)}
    assert known[HASH]["subject"] == SUBJECT
    assert known["0123456789ab"]["subject"] == "lineage.0123456789ab"
    assert [known[HASH][name] for name in ("position", "pending_count", "pending_bytes")] == [3, 2, 3]
    assert known["0123456789ab"]["pending_count"] == 0
    order = {row["id"]: row["position"] for row in _all(bench, relay_index)}
    assert order == {"M9": 1, "M2": 2, "M3": 3, "M4": 1}


Odd = tuple[str, str, object, sa.Table, object]
ODD: list[Odd] = [
    ("pulse_schedules", "status", "archived", pulse_schedules, ScheduleStatus.PAUSED),
    ("pulse_schedules", "permission_mode", "yolo", pulse_schedules, PermissionMode.DEFAULT),
    ("pulse_schedules", "enabled", 7, pulse_schedules, False),
    ("pulse_schedules", "max_runtime", "soon", pulse_schedules, None),
    ("pulse_schedules", "max_runtime", 1.5, pulse_schedules, None),
    ("pulse_schedules", "created_at", "yesterday", pulse_schedules, NOW),
    ("pulse_schedules", "updated_at", "0001-01-01T00:00:00+23:00", pulse_schedules, NOW),
    ("pulse_schedules", "name", b"\xff\x00name", pulse_schedules, "\ufffd\x00name"),
    ("pulse_runs", "status", "exploded", pulse_runs, RunState.FAILED),
    ("pulse_runs", "trigger", "cosmic ray", pulse_runs, RunTrigger.SCHEDULED),
    ("pulse_runs", "finished_at", "", pulse_runs, NOW),
    ("pulse_runs", "schedule_id", "nobody", pulse_runs, None),
    ("pulse_runs", "duration_ms", "long", pulse_runs, None),
    ("agents", "runtime", "gemini-cli", agents, AgentRuntime.OTHER),
    ("agents", "status", "asleep", agents, AgentStatus.INACTIVE),
    ("agents", "capabilities_json", "css, a11y", agents, []),
    ("agents", "capabilities_json", '{"css": 1}', agents, []),
    ("agents", "entrypoint", "python main.py", agents, None),
    ("relay_index", "status", "cur", relay_index, DeliveryStatus.FAILED),
    ("relay_index", "expires_at", "1772141678848", relay_index, NOW),
    ("relay_index", "payload", "hello “you”", relay_messages, '"hello “you”"'),
    ("relay_index", "payload", '{"x": NaN}', relay_messages, '"{\\"x\\": NaN}"'),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd[0]}.{odd[1]}")
def test_a_value_that_no_longer_fits_takes_its_safest_reading(bench: Bench, odd: Odd) -> None:
    """The row stays, the original is kept word for word, and the report names the column."""
    table, column, value, target, expected = odd
    (row,) = ROWS[table]
    report = _upgrade(bench, {**ROWS, table: [{**row, column: value}]})
    assert _one(bench, target)[column] == expected
    key = f"lineage:{table}:{row['id']}:{column}"
    kept = f"X'{value.hex()}'" if isinstance(value, bytes) else str(value)
    assert bench.rows(f"SELECT value FROM system_state WHERE key = '{key}'") == [(kept,)]
    (note,) = report.notes
    assert note.startswith(f"0003_leases_and_mailboxes: {table}.{column}: 1 value")


def test_a_text_cut_in_the_middle_of_a_character_is_kept(bench: Bench) -> None:
    """The lineage cut summaries by UTF-16 units; half a pair is no UTF-8 and no reader takes it."""
    cut = "UPDATE pulse_runs SET output = CAST(X'78eda0bd' AS TEXT)"
    _upgrade(bench, {"pulse_schedules": [SCHEDULE], "pulse_runs": [RUN]}, also=cut)
    assert _one(bench, pulse_runs)["output"] == "x\ufffd\ufffd\ufffd"
    assert bench.rows("SELECT value FROM system_state WHERE key = 'lineage:pulse_runs:R1:output'") == [
        ("X'78eda0bd'",)
    ]


def test_metadata_of_a_delivery_is_kept(bench: Bench) -> None:
    """No column takes it any more, so it is kept aside and noted."""
    report = _upgrade(bench, {"relay_index": [{**MESSAGE, "metadata": '{"source": "x"}'}]})
    assert "relay_index.metadata: 1 value" in report.applied[0].notes[0]
    assert bench.rows("SELECT value FROM system_state WHERE key = 'lineage:relay_index:M1:metadata'") == [
        ('{"source": "x"}',)
    ]
