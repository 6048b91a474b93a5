"""What adapters remember: how each is doing and who runs it, what it received and what it began to send."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.step import Step
from dorkos.db.types import Instant, Integer, Text, Ulid


def upgrade(step: Step) -> None:
    """Make the two tables. Both begin empty: a state is made when a server takes an adapter on."""
    step.op.create_table(
        "relay_adapter_marks",
        sa.Column("adapter_id", Text, nullable=False),
        sa.Column("name", Text, nullable=False),
        sa.Column("kind", Text, nullable=False),
        sa.Column("message_id", Ulid, nullable=True),
        sa.Column("created_at", Instant, nullable=False),
        sa.CheckConstraint("kind IN ('received', 'sent')", name=step.op.f("ck_relay_adapter_marks_kind")),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["relay_adapters.id"],
            name=step.op.f("fk_relay_adapter_marks_adapter_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", "name", name=step.op.f("pk_relay_adapter_marks")),
        sqlite_strict=True,
    )
    step.op.create_index(
        step.op.f("ix_relay_adapter_marks_created_at"), "relay_adapter_marks", ["created_at"], unique=False
    )
    step.op.create_table(
        "relay_adapter_states",
        sa.Column("adapter_id", Text, nullable=False),
        sa.Column("state", Text, server_default="disconnected", nullable=False),
        sa.Column("owner", Text, nullable=True),
        sa.Column("lease_expires_at", Instant, nullable=True),
        sa.Column("started_at", Instant, nullable=True),
        sa.Column("inbound_count", Integer, server_default="0", nullable=False),
        sa.Column("outbound_count", Integer, server_default="0", nullable=False),
        sa.Column("error_count", Integer, server_default="0", nullable=False),
        sa.Column("last_error", Text, nullable=True),
        sa.Column("last_error_at", Instant, nullable=True),
        sa.Column("cursor", Text, nullable=True),
        sa.Column("updated_at", Instant, nullable=False),
        sa.CheckConstraint(
            "state IN ('disconnected', 'starting', 'connected', 'stopping', 'error', 'auth_failed')",
            name=step.op.f("ck_relay_adapter_states_state"),
        ),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["relay_adapters.id"],
            name=step.op.f("fk_relay_adapter_states_adapter_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", name=step.op.f("pk_relay_adapter_states")),
        sqlite_strict=True,
    )
