"""Agents lie on a machine: several may share one database. And where copies of agents were seen is kept."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.rebuild import carry, rebuilding
from dorkos.db.step import Step
from dorkos.db.types import Flag, Instant, Text, Ulid

_metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

_agents = sa.Table(
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
    sa.Column("manifest_hash", Text),
    sa.Column("scan_root", Text, nullable=False, server_default=""),
    sa.Column("behavior_json", Text),
    sa.Column("budget_json", Text),
    sa.Column("persona", Text),
    sa.Column("persona_enabled", Flag, nullable=False, server_default=sa.true()),
    sa.Column("color", Text),
    sa.Column("icon", Text),
    sa.Column("unreachable_since", Instant),
    sa.Column("host", Text, nullable=False, server_default=""),
    sa.CheckConstraint(
        "runtime IN ('claude-code', 'cursor', 'codex', 'command', 'gemini', 'opencode', 'acp', 'other')",
        name="runtime",
    ),
    sa.CheckConstraint("status IN ('active', 'inactive', 'unreachable', 'archived')", name="status"),
    sa.CheckConstraint("persona_enabled IN (0, 1)", name="persona_enabled").ddl_if(dialect="sqlite"),
    sa.UniqueConstraint("project_path", "host"),
    sa.Index(None, "registered_at", "id"),
    sqlite_strict=True,
)

_agent_copies = sa.Table(
    "agent_copies",
    _metadata,
    sa.Column("agent_id", Ulid, sa.ForeignKey("agents.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("host", Text, primary_key=True),
    sa.Column("path", Text, primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),
    sqlite_strict=True,
)


def upgrade(step: Step) -> None:
    """Add the machine to agents, and the table of copies."""
    if step.dialect == "postgresql":
        # Altered, since other tables refer to it.
        step.op.add_column("agents", sa.Column("host", Text, nullable=False, server_default=""))
        step.op.drop_constraint("uq_agents_project_path", "agents")
        step.op.create_unique_constraint("uq_agents_project_path_host", "agents", ["project_path", "host"])
    else:
        with rebuilding(step, "agents"):
            _agents.create(step.connection)
            carry(step, _agents)
    _agent_copies.create(step.connection)
