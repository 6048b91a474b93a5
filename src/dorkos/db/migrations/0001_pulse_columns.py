"""Three more columns of a schedule, at the end of the row as the lineage added them."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.step import Step
from dorkos.db.types import Flag, Integer, Text

_SQLITE = (
    "ALTER TABLE `pulse_schedules` ADD `enabled` integer DEFAULT true NOT NULL",
    "ALTER TABLE `pulse_schedules` ADD `max_runtime` integer",
    "ALTER TABLE `pulse_schedules` ADD `permission_mode` text DEFAULT 'acceptEdits' NOT NULL",
)


def upgrade(step: Step) -> None:
    """Add `enabled`, `max_runtime` and `permission_mode`."""
    if step.dialect == "sqlite":
        for statement in _SQLITE:
            step.connection.exec_driver_sql(statement)
        return
    for column in (
        sa.Column("enabled", Flag, nullable=False, server_default=sa.true()),
        sa.Column("max_runtime", Integer),
        sa.Column("permission_mode", Text, nullable=False, server_default="acceptEdits"),
    ):
        step.op.add_column("pulse_schedules", column)
