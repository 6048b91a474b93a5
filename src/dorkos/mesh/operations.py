"""Mesh's operations: what can be asked of it on any surface."""

from __future__ import annotations

from typing import Any

from dorkos.identity.model import Caller
from dorkos.mesh import tools
from dorkos.mesh.operations_agents import AGENT_OPERATIONS
from dorkos.mesh.operations_folders import FOLDER_OPERATIONS
from dorkos.mesh.operations_manifest import MANIFEST_OPERATIONS
from dorkos.mesh.operations_observed import OBSERVED_OPERATIONS
from dorkos.mesh.service import MeshService
from dorkos.mesh.wire import (
    DenialsAnswer,
    DeniedInput,
    DenyInput,
    DiscoverAnswer,
    DiscoverInput,
    show_denial,
    show_discovery,
)
from dorkos.operation import Nothing, Operation, Success
from dorkos.vocabulary import Scope


async def _discover(mesh: MeshService, _caller: Caller, asked: DiscoverInput) -> DiscoverAnswer:
    return show_discovery(await mesh.discover(asked.roots, max_depth=asked.max_depth))


async def _deny(mesh: MeshService, caller: Caller, asked: DenyInput) -> Success:
    await mesh.denials.deny(
        asked.path,
        reason=asked.reason,
        denier=asked.denier or caller.subject,
        strategy=asked.strategy,
        actor=caller.subject,
    )
    return Success()


async def _denied(mesh: MeshService, _caller: Caller, _asked: Nothing) -> DenialsAnswer:
    return DenialsAnswer(denied=[show_denial(denial) for denial in await mesh.denials.list()])


async def _allow(mesh: MeshService, caller: Caller, asked: DeniedInput) -> Success:
    await mesh.denials.clear(asked.path, actor=caller.subject)
    return Success()


OPERATIONS: tuple[Operation[MeshService, Any, Any], ...] = (
    Operation(
        name="mesh.discover",
        summary="Look for agents on disk. Nothing is registered by it.",
        part="mesh",
        method="POST",
        path="/api/mesh/discover",
        scope=Scope.OPERATE,
        input=DiscoverInput,
        answer=DiscoverAnswer,
        handler=_discover,
        waits=True,
        mcp=tools.DISCOVER,
    ),
    Operation(
        name="mesh.deny",
        summary="Deny a path, and all below it, to discovery and registration.",
        part="mesh",
        method="POST",
        path="/api/mesh/deny",
        scope=Scope.OPERATE,
        input=DenyInput,
        answer=Success,
        handler=_deny,
        mcp=tools.DENY,
        status=201,
    ),
    Operation(
        name="mesh.denied",
        summary="The denied paths, newest first.",
        part="mesh",
        method="GET",
        path="/api/mesh/denied",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=DenialsAnswer,
        handler=_denied,
        mcp=tools.DENIED,
    ),
    Operation(
        name="mesh.allow",
        summary="Lift the denial of a path.",
        part="mesh",
        method="DELETE",
        path="/api/mesh/denied/{path}",
        scope=Scope.OPERATE,
        input=DeniedInput,
        answer=Success,
        handler=_allow,
        mcp=tools.ALLOW,
    ),
    *AGENT_OPERATIONS,
    *OBSERVED_OPERATIONS,
    *MANIFEST_OPERATIONS,
    *FOLDER_OPERATIONS,
)
