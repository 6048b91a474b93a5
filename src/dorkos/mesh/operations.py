"""Mesh's operations: what can be asked of it on any surface."""

from __future__ import annotations

from typing import Any

from dorkos.identity.model import Caller
from dorkos.mesh.registry import AgentEdit
from dorkos.mesh.service import MeshService
from dorkos.mesh.statement import Statement
from dorkos.mesh.wire import (
    AgentAnswer,
    AgentInput,
    AgentsAnswer,
    DenialsAnswer,
    DeniedInput,
    DenyInput,
    DiscoverAnswer,
    DiscoverInput,
    ListInput,
    OverridesInput,
    RegisteredAnswer,
    RegisterInput,
    UpdateInput,
    show_agent,
    show_denial,
    show_discovery,
    show_registered,
)
from dorkos.operation import Nothing, Operation, Success
from dorkos.vocabulary import Scope


async def _discover(mesh: MeshService, _caller: Caller, asked: DiscoverInput) -> DiscoverAnswer:
    return show_discovery(await mesh.discover(asked.roots, max_depth=asked.max_depth))


async def _register(mesh: MeshService, caller: Caller, asked: RegisterInput) -> RegisteredAnswer:
    registered = await mesh.registry.register(
        asked.path,
        _statement(asked.overrides),
        approver=asked.approver or caller.subject,
        actor=caller.subject,
    )
    return show_registered(registered)


async def _list(mesh: MeshService, _caller: Caller, asked: ListInput) -> AgentsAnswer:
    agents, cursor = await mesh.registry.list(
        runtime=asked.runtime,
        capability=asked.capability,
        namespace=None if asked.caller_namespace == "*" else asked.caller_namespace,
        after=asked.cursor,
        limit=asked.limit,
    )
    return AgentsAnswer(agents=[show_agent(agent) for agent in agents], next_cursor=cursor)


async def _get(mesh: MeshService, _caller: Caller, asked: AgentInput) -> AgentAnswer:
    return show_agent(await mesh.registry.get(asked.id))


async def _update(mesh: MeshService, caller: Caller, asked: UpdateInput) -> RegisteredAnswer:
    edit = AgentEdit(asked.name, asked.description, _tuple(asked.capabilities))
    return show_registered(await mesh.registry.update(asked.id, edit, actor=caller.subject))


async def _unregister(mesh: MeshService, caller: Caller, asked: AgentInput) -> Success:
    await mesh.registry.unregister(asked.id, actor=caller.subject)
    return Success()


async def _deny(mesh: MeshService, caller: Caller, asked: DenyInput) -> Success:
    await mesh.denials.deny(
        asked.path, reason=asked.reason, denier=asked.denier or caller.subject, actor=caller.subject
    )
    return Success()


async def _denied(mesh: MeshService, _caller: Caller, _asked: Nothing) -> DenialsAnswer:
    return DenialsAnswer(denied=[show_denial(denial) for denial in await mesh.denials.list()])


async def _allow(mesh: MeshService, caller: Caller, asked: DeniedInput) -> Success:
    await mesh.denials.clear(asked.path, actor=caller.subject)
    return Success()


def _statement(overrides: OverridesInput) -> Statement:
    return Statement(
        name=overrides.name,
        runtime=overrides.runtime,
        description=overrides.description,
        capabilities=_tuple(overrides.capabilities),
        namespace=overrides.namespace,
        entrypoint=_tuple(overrides.entrypoint),
        response_mode=overrides.behavior.response_mode,
    )


def _tuple(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(words)


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
    ),
    Operation(
        name="mesh.register",
        summary="Register a folder as an agent, or read it again if it is registered.",
        part="mesh",
        method="POST",
        path="/api/mesh/agents",
        scope=Scope.OPERATE,
        input=RegisterInput,
        answer=RegisteredAnswer,
        handler=_register,
        status=201,
    ),
    Operation(
        name="mesh.list",
        summary="The registered agents, newest first.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents",
        scope=Scope.OBSERVE,
        input=ListInput,
        answer=AgentsAnswer,
        handler=_list,
    ),
    Operation(
        name="mesh.get",
        summary="One registered agent.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents/{id}",
        scope=Scope.OBSERVE,
        input=AgentInput,
        answer=AgentAnswer,
        handler=_get,
    ),
    Operation(
        name="mesh.update",
        summary="Change an agent's name, description or capabilities, in the registry and in its manifest.",
        part="mesh",
        method="PATCH",
        path="/api/mesh/agents/{id}",
        scope=Scope.OPERATE,
        input=UpdateInput,
        answer=RegisteredAnswer,
        handler=_update,
    ),
    Operation(
        name="mesh.unregister",
        summary="Remove an agent with its mailbox and schedules. Its manifest stays.",
        part="mesh",
        method="DELETE",
        path="/api/mesh/agents/{id}",
        scope=Scope.OPERATE,
        input=AgentInput,
        answer=Success,
        handler=_unregister,
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
    ),
)
