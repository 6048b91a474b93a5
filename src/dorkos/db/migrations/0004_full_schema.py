"""The full schema: policies and targets of schedules, approvals, rules, breakers, adapters, hops, limits.

Every table gets its final shape by a rebuild, rows and values as they stand. The last three tables of
the lineage become strict here; a value that they can no longer hold is kept in `system_state` under
`lineage:<table>:<id>:<column>`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from dorkos.db.keeper import Keeper, plain_text
from dorkos.db.rebuild import Aside, carry, fill, rebuilding
from dorkos.db.step import Step
from dorkos.db.types import Flag, Instant, Integer, Text, Ulid

LOSS = {
    "D004": "Denials, buckets and traces become strict: what no longer fits is kept in system_state. A "
    "schedule has one trigger as before; the CHECK only learned of the new one.",
}

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


def _flag(column: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} IN (0, 1)", name=column).ddl_if(dialect="sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


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
    sa.Column("scan_root", Text, nullable=False, server_default=""),
    sa.Column("behavior_json", Text),
    sa.Column("budget_json", Text),
    sa.Column("persona", Text),
    sa.Column("persona_enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("color", Text),
    sa.Column("icon", Text),
    sa.Column("unreachable_since", Instant),
    _one_of("runtime", "claude-code cursor codex command gemini opencode acp other"),
    _one_of("status", "active inactive unreachable archived"),
    _flag("persona_enabled"),
    sa.UniqueConstraint("project_path"),
    sa.Index(None, "registered_at", "id"),
    sqlite_strict=True,
)

_agent_denials = sa.Table(
    "agent_denials",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("path", Text, nullable=False),
    sa.Column("reason", Text),
    sa.Column("denier", Text),
    sa.Column("strategy", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("path"),
    sqlite_strict=True,
)

_rate_limit_buckets = sa.Table(
    "rate_limit_buckets",
    _metadata,
    sa.Column("kind", Text, primary_key=True, nullable=False, server_default="agent"),
    sa.Column("agent_id", Text, primary_key=True, nullable=False),
    sa.Column("bucket_minute", Integer, primary_key=True, nullable=False, autoincrement=False),
    sa.Column("count", Integer, nullable=False, server_default="0"),
    _one_of("kind", "agent sender pair"),
    sqlite_strict=True,
)

_pulse_schedules = sa.Table(
    "pulse_schedules",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("cron", Text),
    sa.Column("every_ms", Integer),
    sa.Column("anchor_at", Instant),
    sa.Column("run_at", Instant),
    sa.Column("timezone", Text),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    sa.Column("command", Text),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("runtime", Text),
    sa.Column("target_subject", Text),
    sa.Column("status", Text, nullable=False, server_default="active"),
    sa.Column("status_reason", Text),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("max_runtime", Integer),
    sa.Column("permission_mode", Text, nullable=False, server_default="acceptEdits"),
    sa.Column("overlap", Text, nullable=False, server_default="skip"),
    sa.Column("max_active", Integer),
    sa.Column("catch_up", Text, nullable=False, server_default="latest"),
    sa.Column("catch_up_window_ms", Integer),
    sa.Column("catch_up_max", Integer),
    sa.Column("jitter_ms", Integer, nullable=False, server_default="0"),
    sa.Column("max_attempts", Integer, nullable=False, server_default="1"),
    sa.Column("retry_delay_ms", Integer),
    sa.Column("repeatable", Flag, nullable=False, server_default=sa.false()),
    sa.Column("idle_timeout_ms", Integer),
    sa.Column("alarm_after_ms", Integer),
    sa.Column("pause_after_failures", Integer),
    sa.Column("failures_in_row", Integer, nullable=False, server_default="0"),
    sa.Column("revision", Integer, nullable=False, server_default="1"),
    sa.Column("decided_until", Instant, nullable=False),
    sa.Column("next_due_at", Instant),
    sa.Column("created_by", Text),
    sa.Column("reason", Text),
    sa.Column("grant_hash", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    _one_of("status", "active paused pending_approval needs_attention"),
    _one_of("permission_mode", "default plan acceptEdits bypassPermissions"),
    _one_of("overlap", "skip queue cancel_previous allow"),
    _one_of("catch_up", "skip latest all"),
    _flag("enabled"),
    _flag("repeatable"),
    sa.CheckConstraint(
        "(cron IS NULL OR run_at IS NULL) AND (every_ms IS NULL OR (cron IS NULL AND run_at IS NULL))",
        name="one_trigger",
    ),
    sa.CheckConstraint("(every_ms IS NULL) = (anchor_at IS NULL)", name="anchor"),
    sa.Index(None, "agent_id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "next_due_at", "id", **_where("next_due_at IS NOT NULL")),
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
    sa.Column("expected_by", Instant),
    sa.Column("alarmed_at", Instant),
    _one_of("verdict", "run coalesced skipped missed"),
    _one_of(
        "reason",
        "due catch_up overlap paused pending_approval needs_attention fleet_paused window_passed "
        "limit budget_exceeded",
    ),
    sa.CheckConstraint("count >= 1 AND (count = 1 OR verdict <> 'run')", name="count"),
    sa.UniqueConstraint("schedule_id", "due_at"),
    sa.Index(None, "expected_by", **_where("expected_by IS NOT NULL")),
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
    sa.Column("runtime", Text),
    sa.Column("permission_mode", Text),
    sa.Column("target_subject", Text),
    sa.Column("max_runtime", Integer),
    sa.Column("idle_timeout_ms", Integer),
    sa.Column("repeatable", Flag, nullable=False, server_default=sa.false()),
    sa.Column("available_at", Instant),
    sa.Column("delivery_id", Ulid),
    sa.Column("chain_id", Ulid, nullable=False),
    sa.Column("context", Text),
    sa.Column("message_id", Ulid),
    sa.Column("resumed_from", Ulid),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("duration_ms", Integer),
    sa.Column("output", Text),
    sa.Column("error", Text),
    sa.Column("session_id", Text),
    sa.Column("exit_code", Integer),
    sa.Column("model", Text),
    sa.Column("usage", Text),
    sa.Column("cost_microusd", Integer),
    sa.Column("question", Text),
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
        "unconfirmed target_removed idle overlap fleet_stopped question unavailable empty_result "
        "agent_error budget_exceeded undelivered no_reply",
    ),
    _one_of("trigger", "scheduled manual agent message resume test"),
    _one_of("permission_mode", "default plan acceptEdits bypassPermissions"),
    _flag("repeatable"),
    sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
    sa.UniqueConstraint("slot_id", "attempt"),
    sa.Index(
        "ix_pulse_runs_active", "status", "created_at", "id", **_where("status IN ('queued', 'running')")
    ),
    sa.Index(None, "agent_id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "schedule_id", "created_at", "id"),
    sa.Index(None, "status", "created_at", "id"),
    sa.Index(None, "schedule_id", "status", "created_at", "id"),
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

_approvals = sa.Table(
    "approvals",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE")),
    sa.Column("run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE")),
    sa.Column("proposed_by", Text),
    sa.Column("reason", Text),
    sa.Column("content", Text, nullable=False),
    sa.Column("content_hash", Text, nullable=False),
    sa.Column("status", Text, nullable=False, server_default="pending"),
    sa.Column("answer", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("decided_at", Instant),
    sa.Column("decided_by", Text),
    _one_of("kind", "schedule question"),
    _one_of("status", "pending approved rejected expired superseded"),
    sa.CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="decided"),
    sa.Index("ix_approvals_pending", "created_at", "id", **_where("status = 'pending'")),
    sa.Index(None, "run_id"),
    sa.Index(None, "schedule_id"),
    sqlite_strict=True,
)

_tokens = sa.Table(
    "tokens",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("hash", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("name", Text),
    sa.Column("scopes", Text, nullable=False),
    sa.Column("run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE")),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE")),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("last_used_at", Instant),
    sa.Column("revoked_at", Instant),
    sa.UniqueConstraint("hash"),
    sa.Index(None, "agent_id"),
    sa.Index(None, "run_id"),
    sqlite_strict=True,
)

_relay_adapters = sa.Table(
    "relay_adapters",
    _metadata,
    sa.Column("id", Text, primary_key=True, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.false()),
    sa.Column("config", Text, nullable=False, server_default="{}"),
    sa.Column("secrets", Text, nullable=False, server_default="{}"),
    sa.Column("extra", Text, nullable=False, server_default="{}"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    _flag("enabled"),
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
    sa.Column("adapter_id", Text, sa.ForeignKey("relay_adapters.id", ondelete="SET NULL")),
    sa.Column("max_pending", Integer),
    sa.Column("max_pending_bytes", Integer),
    sa.Column("retention_ms", Integer),
    sa.Column("expires_at", Instant),
    sa.Column("position", Integer, nullable=False, server_default="0"),
    sa.Column("pending_count", Integer, nullable=False, server_default="0"),
    sa.Column("pending_bytes", Integer, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("closed_at", Instant),
    _one_of("consumer", "claim run adapter"),
    sa.CheckConstraint("pending_count >= 0 AND pending_bytes >= 0", name="pending"),
    sa.UniqueConstraint("subject"),
    sa.Index(None, "adapter_id"),
    sa.Index(None, "hash"),
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
    sa.Column("calls_left", Integer),
    sa.Column("ancestors", Text, nullable=False, server_default="[]"),
    sa.Column("expires_at", Instant),
    sa.Column("idempotency_key", Text),
    sa.Column("body_hash", Text),
    sa.Column("claimed_sender", Text),
    sa.Column("traceparent", Text),
    sa.Column("metadata", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index(None, "chain_id"),
    sa.Index(None, "sender", "id"),
    sa.Index(None, "subject", "id"),
    sa.Index(
        "uq_relay_messages_idempotency",
        "sender",
        "idempotency_key",
        unique=True,
        **_where("idempotency_key IS NOT NULL"),
    ),
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
    sa.Column("claimed_at", Instant),
    sa.Column("error", Text),
    sa.Column("expires_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    _one_of("status", "pending delivered failed"),
    sa.CheckConstraint("status = 'pending' OR (lease_token IS NULL AND run_id IS NULL)", name="lease"),
    sa.UniqueConstraint("message_id", "endpoint_id"),
    sa.Index("ix_relay_index_claimable", "endpoint_id", "position", **_where("status = 'pending'")),
    sa.Index(None, "endpoint_id", "id"),
    sa.Index("ix_relay_index_expiring", "expires_at", **_where("status = 'pending'")),
    sa.Index(None, "run_id", **_where("run_id IS NOT NULL")),
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
    sa.Column("redriven_at", Instant),
    sa.Column("redriven_by", Text),
    sa.Column("redrive_count", Integer, nullable=False, server_default="0"),
    _one_of(
        "reason",
        "no_recipient backpressure expired hops_exceeded attempts_exhausted rejected "
        "run_unconfirmed endpoint_removed cycle budget_exceeded loop denied rate_limited "
        "circuit_open adapter_failed",
    ),
    sa.Index(None, "endpoint_id", "id"),
    sa.Index(None, "message_id"),
    sqlite_strict=True,
)

_relay_traces = sa.Table(
    "relay_traces",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Text, nullable=False),
    sa.Column("trace_id", Text, nullable=False),
    sa.Column("parent_id", Text),
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="SET NULL")),
    sa.Column("run_id", Ulid),
    sa.Column("subject", Text, nullable=False),
    sa.Column("sender", Text),
    sa.Column("status", Text, nullable=False),
    sa.Column("hop_count", Integer),
    sa.Column("sent_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    sa.Column("processed_at", Instant),
    sa.Column("latency_us", Integer),
    sa.Column("error_message", Text),
    sa.Column("metadata", Text),
    _one_of("status", "sent delivered failed timeout"),
    sa.Index(None, "endpoint_id"),
    sa.Index(None, "message_id"),
    sa.Index(None, "trace_id", "sent_at"),
    sqlite_strict=True,
)

_relay_rules = sa.Table(
    "relay_rules",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("from_pattern", Text, nullable=False),
    sa.Column("to_pattern", Text, nullable=False),
    sa.Column("action", Text, nullable=False),
    sa.Column("priority", Integer, nullable=False),
    sa.Column("position", Integer, nullable=False, server_default="0"),
    sa.Column("description", Text),
    sa.Column("managed_by", Text),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    _one_of("action", "allow deny"),
    sa.Index(None, "managed_by"),
    sa.Index(None, "priority", "position", "id"),
    sqlite_strict=True,
)

_relay_breakers = sa.Table(
    "relay_breakers",
    _metadata,
    sa.Column(
        "endpoint_id",
        Ulid,
        sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("state", Text, nullable=False, server_default="closed"),
    sa.Column("failures", Integer, nullable=False, server_default="0"),
    sa.Column("opened_at", Instant),
    sa.Column("probe_at", Instant),
    sa.Column("updated_at", Instant, nullable=False),
    _one_of("state", "closed open half_open"),
    sqlite_strict=True,
)

_system_state = sa.table("system_state", sa.column("key"), sa.column("value"))

# As they stand: parents before their children.
_CARRIED = (
    _agents,
    _pulse_schedules,
    _pulse_slots,
    _pulse_runs,
    _pulse_run_output,
    _tokens,
    _relay_endpoints,
    _relay_messages,
    _relay_index,
    _relay_dead_letters,
)
# Before any minute that a row of the lineage could name, save on purpose.
_NEVER = -(2**62)
_STRICT_NOW = (_agent_denials, _rate_limit_buckets, _relay_traces)


def upgrade(step: Step) -> None:
    """Rebuild all tables but the system's, and make the new ones."""
    names = [table.name for table in (*_CARRIED, *_STRICT_NOW)]
    # What refers to a rebuilt table and is not rebuilt itself does not exist.
    with rebuilding(step, *names) as old:
        _metadata.create_all(step.connection, checkfirst=False)
        for table in _CARRIED:
            carry(step, table)
        keeper = Keeper(step)
        fill(step, _agent_denials, _denial_rows(old, keeper))
        fill(step, _rate_limit_buckets, _bucket_rows(old, keeper))
        fill(step, _relay_traces, _trace_rows(old, keeper))
        fill(step, _system_state, keeper.rows())
    keeper.write_notes()


def _denial_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "agent_denials"
    taken: set[str] = set()
    for row in old.rows(table, "id"):
        path = keeper.required(table, row, "path")
        if path in taken:
            # Two paths that differ only in bytes which are no text.
            keeper.keep(
                table, row, "path", "was another's once what is no text was taken out, and has its id"
            )
            path = f"{path}\ufffd{plain_text(row['id'])}"
        taken.add(path)
        yield {
            "id": keeper.required(table, row, "id"),
            "path": path,
            "reason": keeper.text(table, row, "reason"),
            "denier": keeper.text(table, row, "denier"),
            "created_at": keeper.instant(table, row, "created_at"),
        }


def _bucket_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "rate_limit_buckets"
    taken: set[tuple[str, int]] = set()
    for number, stored in enumerate(old.rows(table, "agent_id, bucket_minute")):
        row = {**stored, "id": f"{plain_text(stored['agent_id'])}:{plain_text(stored['bucket_minute'])}"}
        agent, minute = keeper.required(table, row, "agent_id"), keeper.integer(table, row, "bucket_minute")
        if minute is None or (agent, minute) in taken:
            # A minute long ago that no other row has: such a row counts for nothing.
            keeper.keep(table, row, "bucket_minute", "was no minute of its own and became one long ago")
            minute = _NEVER + number
        taken.add((agent, minute))
        yield {
            "agent_id": agent,
            "bucket_minute": minute,
            "count": keeper.integer(table, row, "count") or 0,
        }


def _trace_rows(old: Aside, keeper: Keeper) -> Iterator[dict[str, object]]:
    table = "relay_traces"
    for row in old.rows(table, "id"):
        yield {
            "id": keeper.required(table, row, "id"),
            "message_id": keeper.required(table, row, "message_id"),
            "trace_id": keeper.required(table, row, "trace_id"),
            "subject": keeper.required(table, row, "subject"),
            "status": keeper.word(table, row, "status", ("sent", "delivered", "failed", "timeout"), "failed"),
            "sent_at": keeper.instant(table, row, "sent_at"),
            "delivered_at": keeper.optional_instant(table, row, "delivered_at"),
            "processed_at": keeper.optional_instant(table, row, "processed_at"),
            "error_message": keeper.text(table, row, "error_message"),
            "metadata": _json(keeper.text(table, row, "metadata"), row, keeper),
        }


def _json(text: str | None, row: dict[str, Any], keeper: Keeper) -> str | None:
    if text is None:
        return None
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        keeper.keep("relay_traces", row, "metadata", "was not JSON and is a JSON string of that text now")
        return json.dumps(text, ensure_ascii=False)
    return text


def _refuse_constant(name: str) -> None:
    # NaN and infinities: Python reads them, no other reader does.
    raise ValueError(name)
