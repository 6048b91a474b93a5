"""Pulse's tables: schedules, slots, runs and what runs printed."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Flag, Instant, Integer, Json, Text, Ulid, is_flag, one_of
from dorkos.vocabulary import (
    OutputStream,
    PermissionMode,
    RunReason,
    RunState,
    RunTrigger,
    ScheduleStatus,
    SlotReason,
    Verdict,
)

pulse_schedules = sa.Table(
    "pulse_schedules",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text),
    # At most one of `cron` and `run_at`; neither means on demand.
    sa.Column("cron", Text),
    sa.Column("run_at", Instant),
    # NULL inherits the `scheduler.timezone` setting, resolved whenever an instant is computed.
    sa.Column("timezone", Text),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    # The program to run, as argv. NULL where the target is an agent, whose own entrypoint is run.
    sa.Column("command", Json),
    # Unregistering an agent hides its schedules in the same transaction; the rows outlive it as history.
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("status", Choice(ScheduleStatus), nullable=False, server_default="active"),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("max_runtime", Integer),
    sa.Column("permission_mode", Choice(PermissionMode), nullable=False, server_default="acceptEdits"),
    # Every edit adds one; a plan made for an older revision is thrown away.
    sa.Column("revision", Integer, nullable=False, server_default="1"),
    # Every instant up to and including this one is decided.
    sa.Column("decided_until", Instant, nullable=False),
    # The next instant to decide; NULL means it will not fire (disabled, deleted, over, on demand).
    sa.Column("next_due_at", Instant),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    one_of("status", ScheduleStatus),
    one_of("permission_mode", PermissionMode),
    is_flag("enabled"),
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

pulse_slots = sa.Table(
    "pulse_slots",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE"), nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    # A row may stand for neighbouring instants with one verdict other than `run`: from due_at through this.
    sa.Column("through_at", Instant, nullable=False),
    sa.Column("count", Integer, nullable=False),
    sa.Column("verdict", Choice(Verdict), nullable=False),
    sa.Column("reason", Choice(SlotReason), nullable=False),
    sa.Column("revision", Integer, nullable=False),
    sa.Column("decided_at", Instant, nullable=False),
    # This key is what makes firing once-only on any number of servers.
    sa.UniqueConstraint("schedule_id", "due_at"),
    one_of("verdict", Verdict),
    one_of("reason", SlotReason),
    sa.CheckConstraint("count >= 1 AND (count = 1 OR verdict <> 'run')", name="count"),
    sqlite_strict=True,
)

pulse_runs = sa.Table(
    "pulse_runs",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    # NULL for a run that a message started.
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE")),
    # NULL for a run that no due instant asked for.
    sa.Column("slot_id", Ulid, sa.ForeignKey("pulse_slots.id", ondelete="CASCADE")),
    sa.Column("attempt", Integer, nullable=False, server_default="1"),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("status", Choice(RunState), nullable=False),
    sa.Column("reason", Choice(RunReason)),
    sa.Column("trigger", Choice(RunTrigger), nullable=False, server_default="scheduled"),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    sa.Column("command", Json),
    sa.Column("max_runtime", Integer),
    # The delivery that this run holds, and the chain it belongs to; Relay settles it when the run ends.
    sa.Column("delivery_id", Ulid),
    sa.Column("chain_id", Ulid, nullable=False),
    # What its program is told about the cause, as environment names and values.
    sa.Column("context", Json),
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
    # Who ran it where: rescue kills an orphan only if all four still match.
    sa.Column("host", Text),
    sa.Column("boot_id", Text),
    sa.Column("pid", Integer),
    sa.Column("process_started_at", Text),
    one_of("status", RunState),
    one_of("reason", RunReason),
    one_of("trigger", RunTrigger),
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

pulse_run_output = sa.Table(
    "pulse_run_output",
    metadata,
    sa.Column(
        "run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE"), primary_key=True, nullable=False
    ),
    sa.Column("seq", Integer, primary_key=True, nullable=False, autoincrement=False),
    sa.Column("stream", Choice(OutputStream), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("text", Text, nullable=False),
    one_of("stream", OutputStream),
    sqlite_strict=True,
)
