"""On which machine an agent lies. A path means another folder on each, and only there can it be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dorkos.db.schema.mesh import agents
from dorkos.mesh.model import Agent

# Of an agent that was registered before machines were told apart, and that no server has seen since.
UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Hosts:
    """What this server knows of machines: the name of its own, and whether others share the database.

    An SQLite database belongs to one machine, whatever that is called today; PostgreSQL may be shared.
    """

    own: str
    shared: bool

    def is_here(self, agent: Agent) -> bool:
        """Whether its folder is to be looked for on this machine."""
        return self.owns(agent.host)

    def owns(self, host: str) -> bool:
        """Whether what lies on `host` is to be looked for on this machine."""
        return not self.shared or host in (UNKNOWN, self.own)

    def lies_here(self) -> sa.ColumnElement[bool]:
        """The same of a row of `agents`."""
        return agents.c.host.in_((UNKNOWN, self.own)) if self.shared else sa.true()

    def ids_here(self, agent_id: sa.ColumnElement[Any]) -> sa.ColumnElement[bool] | None:
        """What holds for an id unless its agent lies on another machine; None where there is no other."""
        if not self.shared:
            return None
        elsewhere = agents.c.host.not_in((UNKNOWN, self.own))
        return ~sa.exists().where(agents.c.id == agent_id, elsewhere)
