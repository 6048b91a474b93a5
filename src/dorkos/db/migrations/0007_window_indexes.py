"""Indexes by an end: of spans that reach into a window, and of mailboxes that close by themselves."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.step import Step


def upgrade(step: Step) -> None:
    """Make both. No row is touched."""
    step.op.create_index(
        step.op.f("ix_pulse_slots_schedule_id_through_at"),
        "pulse_slots",
        ["schedule_id", "through_at"],
        unique=False,
    )
    step.op.create_index(
        step.op.f("ix_relay_endpoints_expires_at"),
        "relay_endpoints",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("closed_at IS NULL AND expires_at IS NOT NULL"),
        postgresql_where=sa.text("closed_at IS NULL AND expires_at IS NOT NULL"),
    )
