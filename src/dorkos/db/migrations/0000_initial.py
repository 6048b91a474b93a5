"""The seven tables of the lineage, as DorkOS for Node first made them.

On SQLite the text is the lineage's to the letter, so that its file and ours cannot be told apart. No
PostgreSQL lineage exists: there the same tables have our types and names from the start.
"""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.step import Step
from dorkos.db.types import Instant, Integer, Text, Ulid

_SQLITE = (
    """CREATE TABLE `pulse_runs` (
	`id` text PRIMARY KEY NOT NULL,
	`schedule_id` text NOT NULL,
	`status` text NOT NULL,
	`started_at` text NOT NULL,
	`finished_at` text,
	`duration_ms` integer,
	`output` text,
	`error` text,
	`session_id` text,
	`trigger` text DEFAULT 'scheduled' NOT NULL,
	`created_at` text NOT NULL,
	FOREIGN KEY (`schedule_id`) REFERENCES `pulse_schedules`(`id`) ON UPDATE no action ON DELETE no action
)""",
    """CREATE TABLE `pulse_schedules` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`description` text,
	`cron` text NOT NULL,
	`timezone` text DEFAULT 'UTC' NOT NULL,
	`prompt` text NOT NULL,
	`cwd` text,
	`status` text DEFAULT 'active' NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
)""",
    """CREATE TABLE `relay_index` (
	`id` text PRIMARY KEY NOT NULL,
	`subject` text NOT NULL,
	`endpoint_hash` text NOT NULL,
	`status` text DEFAULT 'pending' NOT NULL,
	`expires_at` text,
	`payload` text,
	`metadata` text,
	`created_at` text NOT NULL
)""",
    """CREATE TABLE `relay_traces` (
	`id` text PRIMARY KEY NOT NULL,
	`message_id` text NOT NULL,
	`trace_id` text NOT NULL,
	`subject` text NOT NULL,
	`status` text NOT NULL,
	`sent_at` text NOT NULL,
	`delivered_at` text,
	`processed_at` text,
	`error_message` text,
	`metadata` text
)""",
    "CREATE UNIQUE INDEX `relay_traces_message_id_unique` ON `relay_traces` (`message_id`)",
    """CREATE TABLE `agent_denials` (
	`id` text PRIMARY KEY NOT NULL,
	`path` text NOT NULL,
	`reason` text,
	`denier` text,
	`created_at` text NOT NULL
)""",
    "CREATE UNIQUE INDEX `agent_denials_path_unique` ON `agent_denials` (`path`)",
    """CREATE TABLE `agents` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`runtime` text NOT NULL,
	`project_path` text NOT NULL,
	`namespace` text DEFAULT 'default' NOT NULL,
	`capabilities_json` text DEFAULT '[]' NOT NULL,
	`entrypoint` text,
	`version` text,
	`description` text,
	`approver` text,
	`status` text DEFAULT 'active' NOT NULL,
	`last_seen_at` text,
	`last_seen_event` text,
	`registered_at` text NOT NULL,
	`updated_at` text NOT NULL
)""",
    "CREATE UNIQUE INDEX `agents_project_path_unique` ON `agents` (`project_path`)",
    """CREATE TABLE `rate_limit_buckets` (
	`agent_id` text NOT NULL,
	`bucket_minute` integer NOT NULL,
	`count` integer DEFAULT 0 NOT NULL
)""",
)

_metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

sa.Table(
    "pulse_schedules",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("cron", Text, nullable=False),
    sa.Column("timezone", Text, nullable=False, server_default="UTC"),
    sa.Column("prompt", Text, nullable=False),
    sa.Column("cwd", Text),
    sa.Column("status", Text, nullable=False, server_default="active"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

sa.Table(
    "pulse_runs",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("schedule_id", Ulid, sa.ForeignKey("pulse_schedules.id"), nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("duration_ms", Integer),
    sa.Column("output", Text),
    sa.Column("error", Text),
    sa.Column("session_id", Text),
    sa.Column("trigger", Text, nullable=False, server_default="scheduled"),
    sa.Column("created_at", Instant, nullable=False),
)

sa.Table(
    "relay_index",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("endpoint_hash", Text, nullable=False),
    sa.Column("status", Text, nullable=False, server_default="pending"),
    sa.Column("expires_at", Instant),
    sa.Column("payload", Text),
    sa.Column("metadata", Text),
    sa.Column("created_at", Instant, nullable=False),
)

sa.Table(
    "relay_traces",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Text, nullable=False),
    sa.Column("trace_id", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("sent_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    sa.Column("processed_at", Instant),
    sa.Column("error_message", Text),
    sa.Column("metadata", Text),
    sa.Index("relay_traces_message_id_unique", "message_id", unique=True),
)

sa.Table(
    "agent_denials",
    _metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("path", Text, nullable=False),
    sa.Column("reason", Text),
    sa.Column("denier", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("agent_denials_path_unique", "path", unique=True),
)

sa.Table(
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
    sa.Index("agents_project_path_unique", "project_path", unique=True),
)

sa.Table(
    "rate_limit_buckets",
    _metadata,
    sa.Column("agent_id", Text, nullable=False),
    sa.Column("bucket_minute", Integer, nullable=False),
    sa.Column("count", Integer, nullable=False, server_default="0"),
)


def upgrade(step: Step) -> None:
    """Create the tables and their unique indexes."""
    if step.dialect == "sqlite":
        for statement in _SQLITE:
            step.connection.exec_driver_sql(statement)
    else:
        _metadata.create_all(step.connection, checkfirst=False)
