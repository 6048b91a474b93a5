"""Mesh's tables: agents and copies of them, the paths that must not become one, and the calls that agents
made."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Flag, Instant, Integer, Json, Text, Ulid, is_flag, one_of
from dorkos.vocabulary import AgentRuntime, AgentStatus, LimitKind

agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("runtime", Choice(AgentRuntime), nullable=False),
    # The real path, links resolved: on one machine no folder can be registered under two names.
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
    # The folder whose scan found it, as the caller wrote it; empty where nobody scanned.
    sa.Column("scan_root", Text, nullable=False, server_default=""),
    # How it answers, and what it may spend; NULL inherits the defaults.
    sa.Column("behavior_json", Json),
    sa.Column("budget_json", Json),
    sa.Column("persona", Text),
    sa.Column("persona_enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("color", Text),
    sa.Column("icon", Text),
    # Since when its folder could not be seen; cleared on sight.
    sa.Column("unreachable_since", Instant),
    # The machine on whose disk the project lies; empty until a server there has seen it.
    sa.Column("host", Text, nullable=False, server_default=""),
    one_of("runtime", AgentRuntime),
    one_of("status", AgentStatus),
    is_flag("persona_enabled"),
    # One path on two machines is two folders.
    sa.UniqueConstraint("project_path", "host"),
    sa.Index(None, "registered_at", "id"),
    sqlite_strict=True,
)

# Folders that were seen to claim the identity of an agent that is registered elsewhere. Only a memory of
# where to look: whether one still claims it is read from the folder.
agent_copies = sa.Table(
    "agent_copies",
    metadata,
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", Text, primary_key=True),
    sa.Column("path", Text, primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),
    sqlite_strict=True,
)

agent_denials = sa.Table(
    "agent_denials",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    # The path and everything below it.
    sa.Column("path", Text, nullable=False),
    sa.Column("reason", Text),
    sa.Column("denier", Text),
    # How the denied project was found; `manual` where a person named the path.
    sa.Column("strategy", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("path"),
    sqlite_strict=True,
)

# Counted calls in one minute, counted from 1970. `agent_id` holds the key of its kind: an agent's id, a
# sender's subject, or sender and target together.
rate_limit_buckets = sa.Table(
    "rate_limit_buckets",
    metadata,
    sa.Column("kind", Choice(LimitKind), primary_key=True, nullable=False, server_default="agent"),
    sa.Column("agent_id", Text, primary_key=True, nullable=False),
    sa.Column("bucket_minute", Integer, primary_key=True, nullable=False, autoincrement=False),
    sa.Column("count", Integer, nullable=False, server_default="0"),
    one_of("kind", LimitKind),
    sqlite_strict=True,
)
