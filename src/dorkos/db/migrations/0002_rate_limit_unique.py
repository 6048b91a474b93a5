"""One bucket an agent and minute."""

from __future__ import annotations

from dorkos.db.step import Step

_SQLITE = (
    "CREATE UNIQUE INDEX `idx_rate_limit_agent_minute` ON `rate_limit_buckets` (`agent_id`,`bucket_minute`)"
)


def upgrade(step: Step) -> None:
    """Create the unique index."""
    if step.dialect == "sqlite":
        step.connection.exec_driver_sql(_SQLITE)
        return
    step.op.create_index(
        "idx_rate_limit_agent_minute", "rate_limit_buckets", ["agent_id", "bucket_minute"], unique=True
    )
