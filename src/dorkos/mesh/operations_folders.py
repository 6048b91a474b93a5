"""Operations on agents by their folders, as clients of DorkOS for Node ask; and an agent asking who it is.

There the file in the folder was the agent. Here the registry's row is, so only a folder that is registered
answers, and whoever makes an agent by this registers it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import Field

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.mesh.manifest import Description, Name
from dorkos.mesh.service import MeshService
from dorkos.mesh.statement import Statement
from dorkos.mesh.wire import AbsolutePath
from dorkos.mesh.wire_agents import (
    ObservedAnswer,
    RegisteredAnswer,
    UpdateFields,
    show_observed,
    show_registered,
)
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire, left_out
from dorkos.vocabulary import AgentRuntime, Scope

_NO_TOOL = NoTool("An agent asks who it is with `agent_get_current`; the other tools take ids.")
_NOBODY = "No agent registered for current directory"


class FolderInput(Wire):
    """Which folder."""

    path: AbsolutePath


class FoldersInput(Wire):
    """Which folders."""

    paths: list[AbsolutePath] = Field(min_length=1, max_length=20)


class CreateInput(FolderInput):
    """A folder to make an agent of. What is left out is as its manifest says, else `claude-code`."""

    name: Name | None = None
    description: Description | None = None
    runtime: AgentRuntime | None = None


class UpdateFolderInput(FolderInput, UpdateFields):
    """What to change of the agent in a folder; a field that is left out stays."""


class ResolvedAnswer(Wire):
    """The agents by the folders that were asked for; null where none is registered or may be seen."""

    agents: dict[str, ObservedAnswer | None]


class MyselfAnswer(Wire):
    """Who the caller is. `message` says why it is nobody."""

    agent: ObservedAnswer | None
    message: str | None = left_out()


async def _current(mesh: MeshService, _caller: Caller, asked: FolderInput) -> ObservedAnswer:
    found = await _at(mesh, asked.path)
    if found is None:
        raise _nobody(asked.path)
    return found


async def _resolve(mesh: MeshService, _caller: Caller, asked: FoldersInput) -> ResolvedAnswer:
    return ResolvedAnswer(agents={path: await _seen_at(mesh, path) for path in asked.paths})


async def _create(mesh: MeshService, caller: Caller, asked: CreateInput) -> RegisteredAnswer:
    existing = await mesh.registry.get_by_path(asked.path)
    if existing is not None:
        raise DorkError(
            ErrorCode.AGENT_EXISTS,
            "Agent already exists at this path",
            hint=f"It is {existing.name!r}. Change it with PATCH /api/agents/current.",
            details={"agentId": existing.id, "path": str(existing.project_path)},
        )
    registered = await mesh.registry.register(
        asked.path,
        Statement(name=asked.name, description=asked.description, runtime=asked.runtime),
        default_runtime=AgentRuntime.CLAUDE_CODE,
        approver=caller.subject,
        actor=caller.subject,
    )
    return show_registered(registered, mesh.budgets)


async def _update(mesh: MeshService, caller: Caller, asked: UpdateFolderInput) -> RegisteredAnswer:
    agent = await mesh.registry.get_by_path(asked.path)
    if agent is None:
        raise _nobody(asked.path)
    updated = await mesh.registry.update(agent.id, asked.edit(), actor=caller.subject)
    return show_registered(updated, mesh.budgets)


async def _myself(mesh: MeshService, caller: Caller, _asked: Nothing) -> MyselfAnswer:
    if caller.agent_id is None:
        return MyselfAnswer(agent=None, message=_NOBODY)
    observed = await mesh.observatory.agent(caller.agent_id, mesh.observatory.viewer(caller))
    return MyselfAnswer(agent=show_observed(observed, mesh.budgets, paths=False))


async def _at(mesh: MeshService, path: str) -> ObservedAnswer | None:
    agent = await mesh.registry.get_by_path(path)
    if agent is None:
        return None
    (observed,) = await mesh.observatory.observe([agent])
    return show_observed(observed, mesh.budgets, paths=True)


async def _seen_at(mesh: MeshService, path: str) -> ObservedAnswer | None:
    try:
        return await _at(mesh, path)
    except DorkError as refusal:
        if refusal.code is ErrorCode.OUTSIDE_BOUNDARY:
            return None
        raise


def _nobody(path: str) -> DorkError:
    return DorkError(
        ErrorCode.AGENT_NOT_FOUND,
        "No agent registered at this path",
        hint="Register it: POST /api/agents, or `dorkos mesh register`.",
        details={"path": path},
    )


_of = partial(Operation[MeshService, Any, Any], part="mesh")

FOLDER_OPERATIONS: tuple[Operation[MeshService, Any, Any], ...] = (
    _of(
        name="mesh.current",
        summary="The agent that is registered in a folder.",
        method="GET",
        path="/api/agents/current",
        scope=Scope.OBSERVE,
        input=FolderInput,
        answer=ObservedAnswer,
        handler=_current,
        mcp=_NO_TOOL,
    ),
    _of(
        name="mesh.resolve",
        summary="The agents that are registered in some folders.",
        method="POST",
        path="/api/agents/resolve",
        scope=Scope.OBSERVE,
        input=FoldersInput,
        answer=ResolvedAnswer,
        handler=_resolve,
        mcp=_NO_TOOL,
    ),
    _of(
        name="mesh.create",
        summary="Register a folder in which no agent is registered yet.",
        method="POST",
        path="/api/agents",
        scope=Scope.OPERATE,
        input=CreateInput,
        answer=RegisteredAnswer,
        handler=_create,
        mcp=_NO_TOOL,
        status=201,
    ),
    _of(
        name="mesh.update_current",
        summary="Change the agent that is registered in a folder.",
        method="PATCH",
        path="/api/agents/current",
        scope=Scope.OPERATE,
        input=UpdateFolderInput,
        in_query=frozenset({"path"}),
        answer=RegisteredAnswer,
        handler=_update,
        mcp=_NO_TOOL,
    ),
    _of(
        name="mesh.me",
        summary="The agent whose token the caller holds.",
        method="GET",
        path="/api/agents/me",
        scope=None,
        input=Nothing,
        answer=MyselfAnswer,
        handler=_myself,
        mcp=McpTool("agent_get_current", "Tell which agent you are.", read_only=True),
    ),
)
