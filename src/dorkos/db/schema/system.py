"""Tables that belong to no single subsystem: events, tokens, nodes, the migration ledger."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Instant, Integer, Json, Text, Ulid

events = sa.Table(
    "events",
    metadata,
    # Positions order events; gaps mean nothing. AUTOINCREMENT so that a position is never used twice,
    # not even after the newest rows were deleted by retention.
    sa.Column("position", Integer, sa.Identity(), primary_key=True, nullable=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("entity_id", Text, nullable=False),
    sa.Column("actor", Text),
    sa.Column("at", Instant, nullable=False),
    sa.Column("data", Json, nullable=False),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    # Only the SHA-256 of the secret is kept: a copy of the database must not be a set of keys.
    sa.Column("hash", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    # What its maker calls it, such as `phone`.
    sa.Column("name", Text),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("run_id", Ulid, sa.ForeignKey("pulse_runs.id", ondelete="CASCADE")),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE")),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False),
    sa.Column("last_used_at", Instant),
    sa.Column("revoked_at", Instant),
    sa.UniqueConstraint("hash"),
    sa.Index(None, "run_id"),
    sa.Index(None, "agent_id"),
    sqlite_strict=True,
)

nodes = sa.Table(
    "nodes",
    metadata,
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

schema_ledger = sa.Table(
    "schema_ledger",
    metadata,
    sa.Column("id", Text, primary_key=True, nullable=False),
    sa.Column("checksum", Text, nullable=False),
    sa.Column("applied_at", Instant, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("duration_ms", Integer, nullable=False),
    sqlite_strict=True,
)

# One row a fact about the database itself. `epoch` names this history of events: it changes when a
# restore makes earlier cursors meaningless.
# What Relay has counted up to an event; it is counted anew where it is missing.
METRICS_KEY = "relay:metrics"
# How far the full-text index is, which no migration makes and no export holds.
SEARCH_KEY = "relay:search"
# How large this database was over time.
GROWTH_KEY = "growth"

system_state = sa.Table(
    "system_state",
    metadata,
    sa.Column("key", Text, primary_key=True, nullable=False),
    sa.Column("value", Text, nullable=False),
    sqlite_strict=True,
)
