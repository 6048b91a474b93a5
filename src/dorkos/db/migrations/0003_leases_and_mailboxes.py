"""Slots, leases, mailboxes, events and tokens; the lineage's schedules, runs, deliveries and agents move in.

No row of the lineage is lost and no value either: what a column can no longer hold as it stood is
replaced by its safest reading, kept in `system_state` under `lineage:<table>:<id>:<column>`, and noted.
Nothing old may fire: schedules get no next instant, and a run that was under way is interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa

from dorkos.db.keeper import Keeper, plain_text
from dorkos.db.rebuild import Aside, fill, rebuilding
from dorkos.db.step import Step
from dorkos.db.types import Flag, Instant, Integer, Text, Ulid
from dorkos.ids import new_id

_metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _one_of(column: str, words: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN ({', '.join(repr(word) for word in words.split())})", name=column)


_agents = sa.Table(
    "agents",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("runtime", Text, nullable=False),
    sa.Column("project_path", Text, nullable=False),
    sa.Column("namespace", Text, nullable=False, server_default="default"),
    sa.Column("capabilities_json", Text, nullable=False, server_default="[]"),
    sa.Column("entrypoint", Text),
    sa.Column("version", Text),
    sa.Column("description", Text),
    sa.Column("approver", Text),
    sa.Column("status", Text, nullable=False, server_default="active"),
    sa.Column("last_seen_at", Instant),
    sa.Column("last_seen_event", Text),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("manifest_hash", Text),
    _one_of("runtime", "claude-code cursor codex command other"),
    _one_of("status", "active inactive"),
    sa.UniqueConstraint("project_path"),
    sqlite_strict=True,
)

_pulse_schedules = sa.Table(
    "pulse_schedules",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("cron", Text),
    sa.Column("run_at", Instant),
    sa.Column("timezone", Text),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    sa.Column("command", Text),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("status", Text, nullable=False, server_default="active"),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("max_runtime", Integer),
    sa.Column("permission_mode", Text, nullable=False, server_default="acceptEdits"),
    sa.Column("revision", Integer, nullable=False, server_default="1"),
    sa.Column("decided_until", Instant, nullable=False),
    sa.Column("next_due_at", Instant),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    _one_of("status", "active paused pending_approval"),
    _one_of("permission_mode", "default plan acceptEdits bypassPermissions"),
    sa.CheckConstraint("enabled IN (0, 1)", name="enabled").ddl_if(dialect="sqlite"),
    sa.CheckConstraint("cron IS NULL OR run_at IS NULL", name="one_trigger"),
    sa.Index(
        None,
        "next_due_at",
        sqlite_where=sa.text("next_due_at IS NOT NULL"),
        postgresql_where=sa.text("next_due_at IS NOT NULL"),
    ),
    sa.Index(None, "agent_id"),
    sqlite_strict=True,
)

_pulse_slots = sa.Table(
    "pulse_slots",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE"), nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("through_at", Instant, nullable=False),
    sa.Column("count", Integer, nullable=False),
    sa.Column("verdict", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.Column("revision", Integer, nullable=False),
    sa.Column("decided_at", Instant, nullable=False),
    sa.UniqueConstraint("schedule_id", "due_at"),
    _one_of("verdict", "run coalesced skipped missed"),
    _one_of("reason", "due catch_up overlap"),
    sa.CheckConstraint("count >= 1 AND (count = 1 OR verdict <> 'run')", name="count"),
    sqlite_strict=True,
)

_pulse_runs = sa.Table(
    "pulse_runs",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE")),
    sa.Column("slot_id", Ulid, sa.ForeignKey("pulse_slots.id", ondelete="CASCADE")),
    sa.Column("attempt", Integer, nullable=False, server_default="1"),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("status", Text, nullable=False),
    sa.Column("reason", Text),
    sa.Column("trigger", Text, nullable=False, server_default="scheduled"),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    sa.Column("command", Text),
    sa.Column("max_runtime", Integer),
    sa.Column("delivery_id", Ulid),
    sa.Column("chain_id", Ulid, nullable=False),
    sa.Column("context", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("duration_ms", Integer),
    sa.Column("output", Text),
    sa.Column("error", Text),
    sa.Column("session_id", Text),
    sa.Column("exit_code", Integer),
    sa.Column("cancel_requested_at", Instant),
    sa.Column("lease_owner", Ulid),
    sa.Column("lease_token", Ulid),
    sa.Column("lease_expires_at", Instant),
    sa.Column("host", Text),
    sa.Column("boot_id", Text),
    sa.Column("pid", Integer),
    sa.Column("process_started_at", Text),
    _one_of("status", "queued running completed failed cancelled timeout interrupted blocked"),
    _one_of(
        "reason",
        "exit_code signal start_failed deadline cancel_requested shutdown lease_expired "
        "unconfirmed target_removed",
    ),
    _one_of("trigger", "scheduled manual agent message"),
    sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
    sa.UniqueConstraint("slot_id", "attempt"),
    sa.Index(None, "schedule_id", "created_at", "id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "agent_id"),
    sa.Index(
        "ix_pulse_runs_active",
        "status",
        "created_at",
        "id",
        sqlite_where=sa.text("status IN ('queued', 'running')"),
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    ),
    sqlite_strict=True,
)

_pulse_run_output = sa.Table(
    "pulse_run_output",
    _metadata,
    sa.Column(
        "run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE"), primary_key=True, nullable=False
    ),
    sa.Column("seq", Integer, primary_key=True, nullable=False, autoincrement=False),
    sa.Column("stream", Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("text", Text, nullable=False),
    _one_of("stream", "stdout stderr system"),
    sqlite_strict=True,
)

_relay_endpoints = sa.Table(
    "relay_endpoints",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("consumer", Text, nullable=False, server_default="claim"),
    sa.Column("position", Integer, nullable=False, server_default="0"),
    sa.Column("pending_count", Integer, nullable=False, server_default="0"),
    sa.Column("pending_bytes", Integer, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("closed_at", Instant),
    _one_of("consumer", "claim run"),
    sa.CheckConstraint("pending_count >= 0 AND pending_bytes >= 0", name="pending"),
    sa.UniqueConstraint("subject"),
    sa.Index(None, "agent_id"),
    sqlite_strict=True,
)

_relay_messages = sa.Table(
    "relay_messages",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("sender", Text),
    sa.Column("reply_to", Text),
    sa.Column("payload", Text),
    sa.Column("bytes", Integer, nullable=False),
    sa.Column("chain_id", Ulid, nullable=False),
    sa.Column("parent_id", Ulid),
    sa.Column("run_id", Ulid),
    sa.Column("hop_count", Integer, nullable=False),
    sa.Column("max_hops", Integer, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index(None, "chain_id"),
    sa.Index(None, "subject", "id"),
    sqlite_strict=True,
)

_relay_index = sa.Table(
    "relay_index",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Ulid, sa.ForeignKey("relay_messages.id", ondelete="CASCADE"), nullable=False),
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE"), nullable=False),
    sa.Column("position", Integer, nullable=False),
    sa.Column("status", Text, nullable=False, server_default="pending"),
    sa.Column("attempts", Integer, nullable=False, server_default="0"),
    sa.Column("available_at", Instant, nullable=False),
    sa.Column("lease_token", Ulid),
    sa.Column("lease_owner", Text),
    sa.Column("run_id", Ulid),
    sa.Column("expires_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    _one_of("status", "pending delivered failed"),
    sa.CheckConstraint("status = 'pending' OR (lease_token IS NULL AND run_id IS NULL)", name="lease"),
    sa.UniqueConstraint("message_id", "endpoint_id"),
    sa.Index(
        "ix_relay_index_claimable",
        "endpoint_id",
        "position",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    ),
    sa.Index(None, "endpoint_id", "id"),
    sa.Index(
        "ix_relay_index_expiring",
        "expires_at",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    ),
    sqlite_strict=True,
)

_relay_dead_letters = sa.Table(
    "relay_dead_letters",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Ulid, sa.ForeignKey("relay_messages.id", ondelete="CASCADE"), nullable=False),
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE")),
    sa.Column("reason", Text, nullable=False),
    sa.Column("detail", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    _one_of(
        "reason",
        "no_recipient backpressure expired hops_exceeded attempts_exhausted rejected "
        "run_unconfirmed endpoint_removed",
    ),
    sa.Index(None, "message_id"),
    sa.Index(None, "endpoint_id"),
    sqlite_strict=True,
)

_events = sa.Table(
    "events",
    _metadata,
    sa.Column("position", Integer, sa.Identity(), primary_key=True, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("entity_id", Text, nullable=False),
    sa.Column("actor", Text),
    sa.Column("at", Instant, nullable=False),
    sa.Column("data", Text, nullable=False),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

_tokens = sa.Table(
    "tokens",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("scopes", Text, nullable=False),
    sa.Column("run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE")),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE")),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),
    sa.UniqueConstraint("hash"),
    sa.Index(None, "run_id"),
    sa.Index(None, "agent_id"),
    sqlite_strict=True,
)

_nodes = sa.Table(
    "nodes",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("host", Text, nullable=False),
    sa.Column("boot_id", Text, nullable=False),
    sa.Column("pid", Integer, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("heartbeat_at", Instant, nullable=False),
    sa.Column("stopped_at", Instant),
    sqlite_strict=True,
)

_system_state = sa.Table(
    "system_state",
    _metadata,
    sa.Column("key", Text, primary_key=True, nullable=False),
    sa.Column("value", Text, nullable=False),
    sqlite_strict=True,
)


def upgrade(step: Step) -> None:
    """Rebuild four tables, create the others, and move every row."""
    with rebuilding(step, "pulse_schedules", "pulse_runs", "relay_index", "agents") as old:
        _metadata.create_all(step.connection, checkfirst=False)
        keeper = Keeper(step)
        fill(step, _agents, _agent_rows(old, keeper))
        fill(step, _pulse_schedules, _schedule_rows(old, keeper))
        fill(step, _pulse_runs, _run_rows(old, keeper))
        _move_deliveries(step, old, keeper)
        fill(step, _system_state, keeper.rows())
    keeper.write_notes()


def _required(keeper: Keeper, table: str, row: Mapping[str, Any], *columns: str) -> dict[str, object]:
    return {column: keeper.required(table, row, column) for column in columns}


def _texts(keeper: Keeper, table: str, row: Mapping[str, Any], *columns: str) -> dict[str, object]:
    return {column: keeper.text(table, row, column) for column in columns}


def _agent_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "agents"
    runtimes = ("claude-code", "cursor", "codex", "other")
    for row in old.rows(table, "id"):
        capabilities, entrypoint = row["capabilities_json"], row["entrypoint"]
        if keeper.words(table, row, "capabilities_json") is None:
            keeper.keep(table, row, "capabilities_json", "was not a JSON list of texts and became []")
            capabilities = "[]"
        if entrypoint is not None and not keeper.words(table, row, "entrypoint"):
            # Text for people is no argv; guessing one would arm a command that nobody wrote.
            keeper.keep(table, row, "entrypoint", "was not an argv in JSON and is empty now")
            entrypoint = None
        yield {
            **_required(keeper, table, row, "id", "name", "project_path", "namespace"),
            **_texts(keeper, table, row, "version", "description", "approver", "last_seen_event"),
            "runtime": keeper.word(table, row, "runtime", runtimes, "other"),
            "capabilities_json": capabilities,
            "entrypoint": entrypoint,
            "status": keeper.word(table, row, "status", ("active", "inactive"), "inactive"),
            "last_seen_at": keeper.optional_instant(table, row, "last_seen_at"),
            "registered_at": keeper.instant(table, row, "registered_at"),
            "updated_at": keeper.instant(table, row, "updated_at"),
        }


def _schedule_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "pulse_schedules"
    modes = ("default", "plan", "acceptEdits", "bypassPermissions")
    for row in old.rows(table, "id"):
        enabled = row["enabled"]
        if enabled not in (0, 1):
            keeper.keep(table, row, "enabled", "was neither 0 nor 1 and became 0")
            enabled = 0
        yield {
            **_required(keeper, table, row, "id", "name", "cron", "timezone", "prompt"),
            **_texts(keeper, table, row, "description", "cwd"),
            "status": keeper.word(table, row, "status", ("active", "paused", "pending_approval"), "paused"),
            "enabled": bool(enabled),
            "max_runtime": keeper.integer(table, row, "max_runtime"),
            "permission_mode": keeper.word(table, row, "permission_mode", modes, "default"),
            "decided_until": keeper.now,
            "next_due_at": None,
            "created_at": keeper.instant(table, row, "created_at"),
            "updated_at": keeper.instant(table, row, "updated_at"),
        }


def _run_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "pulse_runs"
    schedules = {row["id"] for row in old.rows("pulse_schedules", "id")}
    # The lineage never queued. Whatever claims to wait here must not start now.
    final = ("completed", "failed", "cancelled", "timeout", "interrupted", "blocked")
    for row in old.rows(table, "id"):
        was_running = row["status"] == "running"
        schedule = keeper.text(table, row, "schedule_id")
        if row["schedule_id"] not in schedules:
            keeper.keep(table, row, "schedule_id", "named a schedule that does not exist and is empty now")
            schedule = None
        finished = keeper.optional_instant(table, row, "finished_at")
        error = keeper.text(table, row, "error")
        yield {
            "id": keeper.required(table, row, "id"),
            "chain_id": keeper.required(table, row, "id"),
            "schedule_id": schedule,
            "status": "interrupted" if was_running else keeper.word(table, row, "status", final, "failed"),
            "reason": "unconfirmed" if was_running else None,
            "trigger": keeper.word(table, row, "trigger", ("scheduled", "manual", "agent"), "scheduled"),
            # The lineage did not record it, and the schedule's may have been edited since.
            "prompt": "",
            "created_at": keeper.instant(table, row, "created_at"),
            "started_at": keeper.instant(table, row, "started_at"),
            "finished_at": (finished or keeper.now) if was_running else finished,
            "duration_ms": keeper.integer(table, row, "duration_ms"),
            "output": keeper.text(table, row, "output"),
            "error": (error or "Interrupted by server restart") if was_running else error,
            "session_id": keeper.text(table, row, "session_id"),
        }


class _Mailbox:
    """A mailbox of the lineage, which had no row for it: known only from its messages."""

    def __init__(self, hash12: str) -> None:
        self.id = new_id()
        self.hash = hash12
        # The hash alone cannot be turned back into a subject; a message sent to it directly tells it.
        self.subject = f"lineage.{hash12}"
        self.position = 0
        self.pending_count = 0
        self.pending_bytes = 0


def _move_deliveries(step: Step, old: Aside, keeper: Keeper) -> None:
    """One lineage row was message and delivery in one, and named its mailbox: each becomes a row."""
    mailboxes = _mailboxes(old)
    fill(
        step,
        _relay_endpoints,
        [
            {"id": mailbox.id, "subject": mailbox.subject, "hash": mailbox.hash, "created_at": step.now}
            for mailbox in mailboxes.values()
        ],
    )
    fill(step, _relay_messages, _message_rows(old, keeper))
    fill(step, _relay_index, _delivery_rows(old, keeper, mailboxes))
    for mailbox in mailboxes.values():
        step.connection.execute(
            _relay_endpoints.update()
            .where(_relay_endpoints.c.id == mailbox.id)
            .values(
                position=mailbox.position,
                pending_count=mailbox.pending_count,
                pending_bytes=mailbox.pending_bytes,
            )
        )


def _mailboxes(old: Aside) -> dict[str, _Mailbox]:
    found: dict[str, _Mailbox] = {}
    for row in old.rows("relay_index", "created_at, id"):
        name, subject = plain_text(row["endpoint_hash"]), plain_text(row["subject"])
        mailbox = found.setdefault(name, _Mailbox(name))
        if hashlib.sha256(subject.encode()).hexdigest()[:12] == name:
            mailbox.subject = subject
    return found


def _message_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "relay_index"
    for row in old.rows(table, "created_at, id"):
        if row["metadata"] is not None:
            keeper.keep(table, row, "metadata", "has no column any more")
        payload = _payload(row, keeper)
        yield {
            "id": keeper.required(table, row, "id"),
            "chain_id": keeper.required(table, row, "id"),
            "subject": keeper.required(table, row, "subject"),
            "payload": payload,
            "bytes": _size(payload),
            "hop_count": 0,
            "max_hops": 5,
            "expires_at": keeper.optional_instant(table, row, "expires_at"),
            "created_at": keeper.instant(table, row, "created_at"),
        }


def _delivery_rows(
    old: Aside, keeper: Keeper, mailboxes: Mapping[str, _Mailbox]
) -> Iterator[dict[str, object]]:
    table = "relay_index"
    for row in old.rows(table, "created_at, id"):
        mailbox = mailboxes[keeper.required(table, row, "endpoint_hash")]
        mailbox.position += 1
        status = keeper.word(table, row, "status", ("pending", "delivered", "failed"), "failed")
        if status == "pending":
            mailbox.pending_count += 1
            mailbox.pending_bytes += _size(_payload(row, keeper))
        yield {
            "id": keeper.required(table, row, "id"),
            "message_id": keeper.required(table, row, "id"),
            "endpoint_id": mailbox.id,
            "position": mailbox.position,
            "status": status,
            "available_at": keeper.instant(table, row, "created_at"),
            "expires_at": keeper.optional_instant(table, row, "expires_at"),
            "created_at": keeper.instant(table, row, "created_at"),
        }


def _payload(row: Mapping[str, Any], keeper: Keeper) -> str | None:
    payload = keeper.text("relay_index", row, "payload")
    if payload is None:
        return None
    try:
        json.loads(payload, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        keeper.keep("relay_index", row, "payload", "was not JSON and is a JSON string of that text now")
        return json.dumps(payload, ensure_ascii=False)
    return payload


def _refuse_constant(name: str) -> None:
    # NaN and infinities: Python reads them, no other reader does.
    raise ValueError(name)


def _size(payload: str | None) -> int:
    return 0 if payload is None else len(payload.encode())
