"""Every operation of DorkOS, from which each surface is made."""

from __future__ import annotations

from typing import Any

from dorkos.mesh.operations import OPERATIONS as MESH
from dorkos.operation import Operation
from dorkos.pulse.operations import OPERATIONS as PULSE
from dorkos.relay.adapters.operations import OPERATIONS as ADAPTERS
from dorkos.relay.operations import OPERATIONS as RELAY
from dorkos.server.config import CONFIG
from dorkos.server.database_care import CARE
from dorkos.server.fleet import FLEET
from dorkos.server.sessions import SESSIONS
from dorkos.server.status import SYSTEM
from dorkos.server.tokens import TOKENS
from dorkos.workspace.operations import OPERATIONS as WORKSPACE

OPERATIONS: tuple[Operation[Any, Any, Any], ...] = (
    *SYSTEM,
    *CARE,
    *CONFIG,
    *TOKENS,
    *FLEET,
    *SESSIONS,
    *PULSE,
    *RELAY,
    *ADAPTERS,
    *MESH,
    *WORKSPACE,
)
