"""Operations on registered agents: who they are."""

from __future__ import annotations

from functools import partial
from typing import Any

from dorkos.identity.model import Caller
from dorkos.mesh import tools
from dorkos.mesh.service import MeshService
from dorkos.mesh.store import Wanted
from dorkos.mesh.wire_agents import (
    AgentAnswer,
    AgentInput,
    AgentsAnswer,
    ListInput,
    ObservedAnswer,
    RegisteredAnswer,
    RegisterInput,
    UpdateInput,
    show_agent,
    show_observed,
    show_registered,
)
from dorkos.mesh.wire_observed import MoveInput, TokenAnswer
from dorkos.operation import NoTool, Operation, Success
from dorkos.vocabulary import Scope


def sees_paths(caller: Caller) -> bool:
    """Whether a caller is told where projects lie: people are, agents are not."""
    return caller.agent_id is None and caller.may(Scope.OBSERVE)


async def _register(mesh: MeshService, caller: Caller, asked: RegisterInput) -> RegisteredAnswer:
    registered = await mesh.registry.register(
        asked.path,
        asked.overrides.statement(),
        approver=asked.approver or caller.subject,
        scan_root=asked.scan_root,
        actor=caller.subject,
    )
    return show_registered(registered, mesh.budgets)


async def _list(mesh: MeshService, caller: Caller, asked: ListInput) -> AgentsAnswer:
    viewer = mesh.observatory.viewer(caller, asked.caller_namespace)
    asked_for = None if asked.namespace is None else frozenset({asked.namespace})
    within = await mesh.observatory.within(viewer)
    wanted = Wanted(
        runtime=asked.runtime,
        status=asked.status,
        capability=asked.capability,
        namespaces=within if asked_for is None else asked_for if within is None else asked_for & within,
        text=asked.text,
        in_paths=sees_paths(caller),
    )
    agents, cursor = await mesh.registry.list(
        wanted,
        also=lambda source, found: mesh.observatory.filter(source, viewer, asked.health, found),
        after=asked.cursor,
        limit=asked.limit,
    )
    observed = await mesh.observatory.observe(agents)
    show = partial(show_observed, budgets=mesh.budgets, paths=sees_paths(caller))
    return AgentsAnswer(agents=[show(each) for each in observed], next_cursor=cursor)


async def _get(mesh: MeshService, caller: Caller, asked: AgentInput) -> ObservedAnswer:
    observed = await mesh.observatory.agent(asked.id, mesh.observatory.viewer(caller))
    return show_observed(observed, mesh.budgets, paths=sees_paths(caller))


async def _update(mesh: MeshService, caller: Caller, asked: UpdateInput) -> RegisteredAnswer:
    updated = await mesh.registry.update(asked.id, asked.edit(), actor=caller.subject)
    return show_registered(updated, mesh.budgets)


async def _move(mesh: MeshService, caller: Caller, asked: MoveInput) -> AgentAnswer:
    moved = await mesh.registry.move(asked.id, asked.path, actor=caller.subject)
    return show_agent(moved, mesh.budgets)


async def _token(mesh: MeshService, caller: Caller, asked: AgentInput) -> TokenAnswer:
    agent, secret = await mesh.registry.issue_token(asked.id, actor=caller.subject)
    return TokenAnswer(agent_id=agent.id, subject=agent.subject, token=secret)


async def _unregister(mesh: MeshService, caller: Caller, asked: AgentInput) -> Success:
    await mesh.registry.unregister(asked.id, actor=caller.subject)
    return Success()


AGENT_OPERATIONS: tuple[Operation[MeshService, Any, Any], ...] = (
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
        mcp=tools.REGISTER,
        status=201,
    ),
    Operation(
        name="mesh.list",
        summary="The registered agents that the caller may see, newest first.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents",
        scope=None,
        input=ListInput,
        answer=AgentsAnswer,
        handler=_list,
        mcp=tools.LIST,
    ),
    Operation(
        name="mesh.get",
        summary="One registered agent that the caller may see, and how it is.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents/{id}",
        scope=None,
        input=AgentInput,
        answer=ObservedAnswer,
        handler=_get,
        mcp=NoTool("`mesh_list` and `mesh_inspect` tell it."),
    ),
    Operation(
        name="mesh.update",
        summary="Change what an agent is called, can do and may spend, in the registry and in its manifest.",
        part="mesh",
        method="PATCH",
        path="/api/mesh/agents/{id}",
        scope=Scope.OPERATE,
        input=UpdateInput,
        answer=RegisteredAnswer,
        handler=_update,
        mcp=tools.UPDATE,
    ),
    Operation(
        name="mesh.move",
        summary="Say that an agent's folder was moved: its id, mailbox and schedules go with it.",
        part="mesh",
        method="POST",
        path="/api/mesh/agents/{id}/move",
        scope=Scope.OPERATE,
        input=MoveInput,
        answer=AgentAnswer,
        handler=_move,
        mcp=NoTool("Only a person knows that a folder was moved and not copied."),
    ),
    Operation(
        name="mesh.token",
        summary="A new long-lived token for an agent, told once. Those before it end.",
        part="mesh",
        method="POST",
        path="/api/mesh/agents/{id}/token",
        scope=Scope.OPERATE,
        input=AgentInput,
        answer=TokenAnswer,
        handler=_token,
        mcp=NoTool("A secret must not pass through a model's context."),
        status=201,
    ),
    Operation(
        name="mesh.unregister",
        summary="Remove an agent with its mailbox, schedules, token and rules. Its manifest stays.",
        part="mesh",
        method="DELETE",
        path="/api/mesh/agents/{id}",
        scope=Scope.OPERATE,
        input=AgentInput,
        answer=Success,
        handler=_unregister,
        mcp=tools.UNREGISTER,
    ),
)
