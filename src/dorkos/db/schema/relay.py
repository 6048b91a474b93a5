"""Relay's tables: mailboxes, messages, deliveries, messages that stopped, rules, breakers, adapters."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.schema.metadata import metadata
from dorkos.db.types import Choice, Flag, Instant, Integer, Json, Text, Ulid, is_flag, one_of
from dorkos.vocabulary import (
    AdapterMarkKind,
    AdapterState,
    BreakerState,
    DeadLetterReason,
    DeliveryStatus,
    EndpointConsumer,
    RuleAction,
    TraceStatus,
)

relay_adapters = sa.Table(
    "relay_adapters",
    metadata,
    # Chosen by the person who made it, such as `telegram-main`.
    sa.Column("id", Text, primary_key=True, nullable=False),
    sa.Column("type", Text, nullable=False),
    sa.Column("enabled", Flag, nullable=False, server_default=sa.false()),
    # Settings without secrets; the secrets stand apart, so that no answer can show them by accident.
    sa.Column("config", Json, nullable=False, server_default="{}"),
    sa.Column("secrets", Json, nullable=False, server_default="{}"),
    # What else its definition held, kept for whoever understands it.
    sa.Column("extra", Json, nullable=False, server_default="{}"),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    is_flag("enabled"),
    sqlite_strict=True,
)

relay_adapter_states = sa.Table(
    "relay_adapter_states",
    metadata,
    sa.Column(
        "adapter_id",
        Text,
        sa.ForeignKey("relay_adapters.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("state", Choice(AdapterState), nullable=False, server_default="disconnected"),
    # Which server runs it, by the id of its node, and until when unless it renews that.
    sa.Column("owner", Text),
    sa.Column("lease_expires_at", Instant),
    sa.Column("started_at", Instant),
    sa.Column("inbound_count", Integer, nullable=False, server_default="0"),
    sa.Column("outbound_count", Integer, nullable=False, server_default="0"),
    sa.Column("error_count", Integer, nullable=False, server_default="0"),
    sa.Column("last_error", Text),
    sa.Column("last_error_at", Instant),
    # How far it has read at the other side, in that side's own terms.
    sa.Column("cursor", Text),
    sa.Column("updated_at", Instant, nullable=False),
    one_of("state", AdapterState),
    sqlite_strict=True,
)

relay_adapter_marks = sa.Table(
    "relay_adapter_marks",
    metadata,
    sa.Column(
        "adapter_id",
        Text,
        sa.ForeignKey("relay_adapters.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    # The other side's name of what was received, such as a nonce; or the delivery that was begun to be sent.
    sa.Column("name", Text, primary_key=True, nullable=False),
    sa.Column("kind", Choice(AdapterMarkKind), nullable=False),
    # Not a foreign key: what was received once stays received after retention took the message.
    sa.Column("message_id", Ulid),
    sa.Column("created_at", Instant, nullable=False),
    one_of("kind", AdapterMarkKind),
    sa.Index(None, "created_at"),
    sqlite_strict=True,
)

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
    sa.Column("adapter_id", Text, sa.ForeignKey("relay_adapters.id", ondelete="SET NULL")),
    # Limits of its own; NULL inherits the setting.
    sa.Column("max_pending", Integer),
    sa.Column("max_pending_bytes", Integer),
    # How long its settled deliveries stay, which is another matter than when a message expires.
    sa.Column("retention_ms", Integer),
    # When it closes by itself, as the mailbox of one reply does.
    sa.Column("expires_at", Instant),
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
    sa.Index(None, "hash"),
    sa.Index(None, "agent_id"),
    sa.Index(None, "adapter_id"),
    # Those that will close by themselves, among all that did.
    sa.Index(
        None,
        "expires_at",
        sqlite_where=sa.text("closed_at IS NULL AND expires_at IS NOT NULL"),
        postgresql_where=sa.text("closed_at IS NULL AND expires_at IS NOT NULL"),
    ),
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
    # Calls that may still be made along the chain; NULL means that nobody set a limit.
    sa.Column("calls_left", Integer),
    # Mailboxes that the chain went through, oldest first.
    sa.Column("ancestors", Json, nullable=False, server_default="[]"),
    sa.Column("expires_at", Instant),
    # The sender's own name for this publish, and what it was: retention clears both.
    sa.Column("idempotency_key", Text),
    sa.Column("body_hash", Text),
    # Who a file of the drop folder said it was from: data, never identity.
    sa.Column("claimed_sender", Text),
    # W3C trace context, where the sender gave one.
    sa.Column("traceparent", Text),
    # What an imported message carried beyond these columns.
    sa.Column("metadata", Json),
    sa.Column("created_at", Instant, nullable=False),
    sa.Index(None, "chain_id"),
    sa.Index(None, "sender", "id"),
    sa.Index(
        "uq_relay_messages_idempotency",
        "sender",
        "idempotency_key",
        unique=True,
        sqlite_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    ),
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
    sa.Column("claimed_at", Instant),
    # What the last nack said.
    sa.Column("error", Text),
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
        None,
        "run_id",
        sqlite_where=sa.text("run_id IS NOT NULL"),
        postgresql_where=sa.text("run_id IS NOT NULL"),
    ),
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
    sa.Column("redriven_at", Instant),
    sa.Column("redriven_by", Text),
    sa.Column("redrive_count", Integer, nullable=False, server_default="0"),
    one_of("reason", DeadLetterReason),
    sa.Index(None, "message_id"),
    sa.Index(None, "endpoint_id", "id"),
    sqlite_strict=True,
)

relay_traces = sa.Table(
    "relay_traces",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    # Not a foreign key: a hop stays readable after retention took the message.
    sa.Column("message_id", Text, nullable=False),
    # The chain that the message belongs to.
    sa.Column("trace_id", Text, nullable=False),
    sa.Column("parent_id", Text),
    sa.Column("endpoint_id", Ulid, sa.ForeignKey("relay_endpoints.id", ondelete="SET NULL")),
    sa.Column("run_id", Ulid),
    sa.Column("subject", Text, nullable=False),
    sa.Column("sender", Text),
    sa.Column("status", Choice(TraceStatus), nullable=False),
    sa.Column("hop_count", Integer),
    sa.Column("sent_at", Instant, nullable=False),
    sa.Column("delivered_at", Instant),
    sa.Column("processed_at", Instant),
    # From the publish to the ack, in microseconds: milliseconds would show quick hops as zero.
    sa.Column("latency_us", Integer),
    sa.Column("error_message", Text),
    sa.Column("metadata", Json),
    one_of("status", TraceStatus),
    sa.Index(None, "message_id"),
    sa.Index(None, "trace_id", "sent_at"),
    sa.Index(None, "endpoint_id"),
    sqlite_strict=True,
)

relay_rules = sa.Table(
    "relay_rules",
    metadata,
    sa.Column("id", Ulid, primary_key=True, nullable=False),
    sa.Column("from_pattern", Text, nullable=False),
    sa.Column("to_pattern", Text, nullable=False),
    sa.Column("action", Choice(RuleAction), nullable=False),
    # The highest priority decides; among equals the lowest position.
    sa.Column("priority", Integer, nullable=False),
    sa.Column("position", Integer, nullable=False, server_default="0"),
    sa.Column("description", Text),
    # What it was made for, such as an agent's registration, which takes it along when it goes.
    sa.Column("managed_by", Text),
    sa.Column("created_by", Text),
    sa.Column("created_at", Instant, nullable=False),
    one_of("action", RuleAction),
    sa.Index(None, "priority", "position", "id"),
    sa.Index(None, "managed_by"),
    sqlite_strict=True,
)

relay_breakers = sa.Table(
    "relay_breakers",
    metadata,
    sa.Column(
        "endpoint_id",
        Ulid,
        sa.ForeignKey("relay_endpoints.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    sa.Column("state", Choice(BreakerState), nullable=False, server_default="closed"),
    sa.Column("failures", Integer, nullable=False, server_default="0"),
    sa.Column("opened_at", Instant),
    # When the next probe may go, or the one under way is given up.
    sa.Column("probe_at", Instant),
    sa.Column("updated_at", Instant, nullable=False),
    one_of("state", BreakerState),
    sqlite_strict=True,
)
