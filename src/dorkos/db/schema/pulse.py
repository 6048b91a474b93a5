"""Pulse's tables: schedules, slots, runs, what runs printed, and what a person was asked."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Flag, Instant, Integer, Json, Text, Ulid, is_flag, one_of
from dorkos.vocabulary import (
    ApprovalKind,
    ApprovalStatus,
    CatchUpPolicy,
    OutputStream,
    OverlapPolicy,
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
    # At most one of `cron`, `every_ms` and `run_at`; none means on demand.
    sa.Column("cron", Text),
    # An interval is counted from the anchor, so that a late decision does not shift those after it.
    sa.Column("every_ms", Integer),
    sa.Column("anchor_at", Instant),
    sa.Column("run_at", Instant),
    # NULL inherits the `scheduler.timezone` setting, resolved whenever an instant is computed.
    sa.Column("timezone", Text),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    # The program to run, as argv. NULL where the target is an agent, whose own entrypoint is run.
    sa.Column("command", Json),
    # Unregistering an agent hides its schedules in the same transaction; the rows outlive it as history.
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    # What drives the turn; NULL leaves it to the agent, else to the setting.
    sa.Column("runtime", Text),
    # Where the prompt is sent as a request, instead of a program that is run.
    sa.Column("target_subject", Text),
    sa.Column("status", Choice(ScheduleStatus), nullable=False, server_default="active"),
    # Why it is paused or needs attention, in words for a person.
    sa.Column("status_reason", Text),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("max_runtime", Integer),
    sa.Column("permission_mode", Choice(PermissionMode), nullable=False, server_default="acceptEdits"),
    sa.Column("overlap", Choice(OverlapPolicy), nullable=False, server_default="skip"),
    # How many runs may be under way at once where `overlap` allows several; NULL has no cap of its own.
    sa.Column("max_active", Integer),
    sa.Column("catch_up", Choice(CatchUpPolicy), nullable=False, server_default="latest"),
    # An instant older than this is worthless; NULL means it never is.
    sa.Column("catch_up_window_ms", Integer),
    sa.Column("catch_up_max", Integer),
    sa.Column("jitter_ms", Integer, nullable=False, server_default="0"),
    sa.Column("max_attempts", Integer, nullable=False, server_default="1"),
    sa.Column("retry_delay_ms", Integer),
    # Declared by its author: doing it twice does no harm, so an unconfirmed end may be tried again.
    sa.Column("repeatable", Flag, nullable=False, server_default=sa.false()),
    sa.Column("idle_timeout_ms", Integer),
    sa.Column("alarm_after_ms", Integer),
    sa.Column("pause_after_failures", Integer),
    sa.Column("failures_in_row", Integer, nullable=False, server_default="0"),
    # Every edit adds one; a plan made for an older revision is thrown away.
    sa.Column("revision", Integer, nullable=False, server_default="1"),
    # Every instant up to and including this one is decided.
    sa.Column("decided_until", Instant, nullable=False),
    # The next instant to decide; NULL means it will not fire (disabled, deleted, over, on demand).
    sa.Column("next_due_at", Instant),
    sa.Column("created_by", Text),
    # Why its author wants it; what a person granted is bound to the hash of prompt, trigger, target, rights.
    sa.Column("reason", Text),
    sa.Column("grant_hash", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
    one_of("status", ScheduleStatus),
    one_of("permission_mode", PermissionMode),
    one_of("overlap", OverlapPolicy),
    one_of("catch_up", CatchUpPolicy),
    is_flag("enabled"),
    is_flag("repeatable"),
    sa.CheckConstraint(
        "(cron IS NULL OR run_at IS NULL) AND (every_ms IS NULL OR (cron IS NULL AND run_at IS NULL))",
        name="one_trigger",
    ),
    sa.CheckConstraint("(every_ms IS NULL) = (anchor_at IS NULL)", name="anchor"),
    sa.Index(
        None,
        "next_due_at",
        "id",
        sqlite_where=sa.text("next_due_at IS NOT NULL"),
        postgresql_where=sa.text("next_due_at IS NOT NULL"),
    ),
    sa.Index(None, "agent_id"),
    sa.Index(None, "created_at", "id"),
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
    # When its outcome is overdue; NULL once there is one, or where none is expected.
    sa.Column("expected_by", Instant),
    sa.Column("alarmed_at", Instant),
    # This key is what makes firing once-only on any number of servers.
    sa.UniqueConstraint("schedule_id", "due_at"),
    one_of("verdict", Verdict),
    one_of("reason", SlotReason),
    sa.CheckConstraint("count >= 1 AND (count = 1 OR verdict <> 'run')", name="count"),
    # What reaches into a window: by the key alone, all that was ever due before its end would be looked at.
    sa.Index(None, "schedule_id", "through_at"),
    sa.Index(
        None,
        "expected_by",
        sqlite_where=sa.text("expected_by IS NOT NULL"),
        postgresql_where=sa.text("expected_by IS NOT NULL"),
    ),
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
    sa.Column("runtime", Text),
    sa.Column("permission_mode", Choice(PermissionMode)),
    sa.Column("target_subject", Text),
    sa.Column("max_runtime", Integer),
    sa.Column("idle_timeout_ms", Integer),
    sa.Column("repeatable", Flag, nullable=False, server_default=sa.false()),
    # Not to be started before: jitter, or the pause before another attempt.
    sa.Column("available_at", Instant),
    # The delivery that this run holds, and the chain it belongs to; Relay settles it when the run ends.
    sa.Column("delivery_id", Ulid),
    sa.Column("chain_id", Ulid, nullable=False),
    # What its program is told about the cause, as environment names and values.
    sa.Column("context", Json),
    # The request that it sent, where its target is a subject.
    sa.Column("message_id", Ulid),
    # The run whose session it goes on with.
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
    sa.Column("usage", Json),
    # Millionths of a US dollar, as the runtime reported them.
    sa.Column("cost_microusd", Integer),
    # What it wanted to know when it ended as `blocked`.
    sa.Column("question", Json),
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
    one_of("permission_mode", PermissionMode),
    is_flag("repeatable"),
    sa.CheckConstraint("(status = 'running') = (lease_token IS NOT NULL)", name="lease"),
    sa.UniqueConstraint("slot_id", "attempt"),
    sa.Index(None, "schedule_id", "created_at", "id"),
    sa.Index(None, "created_at", "id"),
    sa.Index(None, "status", "created_at", "id"),
    sa.Index(None, "schedule_id", "status", "created_at", "id"),
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

approvals = sa.Table(
    "approvals",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("kind", Choice(ApprovalKind), nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id", ondelete="CASCADE")),
    sa.Column("run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE")),
    sa.Column("proposed_by", Text),
    sa.Column("reason", Text),
    # Exactly what is asked for, as the person saw it; the hash binds the answer to it.
    sa.Column("content", Json, nullable=False),
    sa.Column("content_hash", Text, nullable=False),
    sa.Column("status", Choice(ApprovalStatus), nullable=False, server_default="pending"),
    sa.Column("answer", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("decided_at", Instant),
    sa.Column("decided_by", Text),
    one_of("kind", ApprovalKind),
    one_of("status", ApprovalStatus),
    sa.CheckConstraint("(status = 'pending') = (decided_at IS NULL)", name="decided"),
    sa.Index(None, "schedule_id"),
    sa.Index(None, "run_id"),
    sa.Index(
        "ix_approvals_pending",
        "created_at",
        "id",
        sqlite_where=sa.text("status = 'pending'"),
        postgresql_where=sa.text("status = 'pending'"),
    ),
    sqlite_strict=True,
)
