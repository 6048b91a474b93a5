"""Relay's tables: mailboxes, messages, their deliveries, and messages that stopped."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Instant, Integer, Text, Ulid, one_of
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, EndpointConsumer

relay_endpoints = sa.Table(
    "relay_endpoints",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("subject", Text, nullable=False),
    # First 12 hex digits of the subject's SHA-256: the lineage's name of a mailbox on the wire.
    sa.Column("hash", Text, nullable=False),
    sa.Column("description", Text),
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="SET NULL")),
    sa.Column("consumer", Choice(EndpointConsumer), nullable=False, server_default="claim"),
    # The last position given out and what waits; taken together with the delivery in one UPDATE, so
    # that order and limits hold without counting rows.
    sa.Column("position", Integer, nullable=False, server_default="0"),
    sa.Column("pending_count", Integer, nullable=False, server_default="0"),
    sa.Column("pending_bytes", Integer, nullable=False, server_default="0"),
    sa.Column("created_at", Instant, nullable=False),
    # A closed mailbox takes nothing more; its deliveries stay readable.
    sa.Column("closed_at", Instant),
    one_of("consumer", EndpointConsumer),
    sa.CheckConstraint("pending_count >= 0 AND pending_bytes >= 0", name="pending"),
    sa.UniqueConstraint("subject"),
    sa.Index(None, "agent_id"),
    sqlite_strict=True,
)

relay_messages = sa.Table(
    "relay_messages",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("subject", Text, nullable=False),
    # NULL where a lineage index outlived its mailbox file, which alone named the sender.
    sa.Column("sender", Text),
    sa.Column("reply_to", Text),
    # JSON text; NULL means the message was sent without a payload, `null` that the payload is null.
    sa.Column("payload", Text),
    sa.Column("bytes", Integer, nullable=False),
    # One id for everything that one first message or run led to.
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

relay_index = sa.Table(
    "relay_index",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Ulid, sa.ForeignKey("relay_messages.id", ondelete="CASCADE"), nullable=False),
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE"), nullable=False),
    # Order of acceptance within the mailbox.
    sa.Column("position", Integer, nullable=False),
    sa.Column("status", Choice(DeliveryStatus), nullable=False, server_default="pending"),
    sa.Column("attempts", Integer, nullable=False, server_default="0"),
    # When it may be claimed next: moved by a nack's delay and by a claim's lease, so that an expired
    # lease needs no sweep to become claimable again.
    sa.Column("available_at", Instant, nullable=False),
    sa.Column("lease_token", Ulid),
    sa.Column("lease_owner", Text),
    # Set while a run holds the delivery: it has no expiry then, the run's own lease governs it.
    sa.Column("run_id", Ulid),
    sa.Column("expires_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    one_of("status", DeliveryStatus),
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

relay_dead_letters = sa.Table(
    "relay_dead_letters",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("message_id", Ulid, sa.ForeignKey("relay_messages.id", ondelete="CASCADE"), nullable=False),
    # NULL when no mailbox matched the subject.
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE")),
    sa.Column("reason", Choice(DeadLetterReason), nullable=False),
    sa.Column("detail", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    one_of("reason", DeadLetterReason),
    sa.Index(None, "message_id"),
    sa.Index(None, "endpoint_id"),
    sqlite_strict=True,
)

# Still as the lineage made it: one row a message.
relay_traces = sa.Table(
    "relay_traces",
    metadata,
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
