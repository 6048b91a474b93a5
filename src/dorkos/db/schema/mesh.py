"""Mesh's tables: agents and the paths that must not become one."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Instant, Integer, Json, Text, Ulid, one_of
from dorkos.vocabulary import AgentRuntime, AgentStatus

agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("runtime", Choice(AgentRuntime), nullable=False),
    # The real path, links resolved: the same folder cannot be registered under two names.
    sa.Column("project_path", Text, nullable=False),
    sa.Column("namespace", Text, nullable=False, server_default="default"),
    sa.Column("capabilities_json", Json, nullable=False, server_default="[]"),
    # The program that takes a turn of this agent, as argv. Copied from the manifest when a person
    # registered it: editing the file afterwards changes nothing until it is registered again.
    sa.Column("entrypoint", Json),
    sa.Column("version", Text),
    sa.Column("description", Text),
    sa.Column("approver", Text),
    sa.Column("status", Choice(AgentStatus), nullable=False, server_default="active"),
    sa.Column("last_seen_at", Instant),
    sa.Column("last_seen_event", Text),
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("manifest_hash", Text),
    one_of("runtime", AgentRuntime),
    one_of("status", AgentStatus),
    sa.UniqueConstraint("project_path"),
    sqlite_strict=True,
)

# Still as the lineage made them; a later migration gives them a subsystem's full shape.
agent_denials = sa.Table(
    "agent_denials",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("path", Text, nullable=False),
    sa.Column("reason", Text),
    sa.Column("denier", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index("agent_denials_path_unique", "path", unique=True),
)

rate_limit_buckets = sa.Table(
    "rate_limit_buckets",
    metadata,
    sa.Column("agent_id", Text, nullable=False),
    sa.Column("bucket_minute", Integer, nullable=False),
    sa.Column("count", Integer, nullable=False, server_default="0"),
    sa.Index("idx_rate_limit_agent_minute", "agent_id", "bucket_minute", unique=True),
)
