"""Operations that look: how agents are, whom they reach, whether they answer."""

from __future__ import annotations

from typing import Any

from dorkos.identity.model import Caller
from dorkos.mesh import tools
from dorkos.mesh.operations_agents import sees_paths
from dorkos.mesh.service import MeshService
from dorkos.mesh.wire_agents import AgentInput, show_observed
from dorkos.mesh.wire_observed import (
    AccessAnswer,
    AccessInput,
    HealthAnswer,
    HeartbeatInput,
    InspectAnswer,
    PingAnswer,
    PingInput,
    ReachAnswer,
    ReconciledAnswer,
    StatusAnswer,
    TopologyAnswer,
    TopologyInput,
    show_health,
    show_inspection,
    show_ping,
    show_reconciled,
    show_status,
    show_view,
)
from dorkos.operation import Nothing, NoTool, Operation, Success
from dorkos.vocabulary import Scope


async def _status(mesh: MeshService, caller: Caller, _asked: Nothing) -> StatusAnswer:
    return show_status(await mesh.observatory.status(mesh.observatory.viewer(caller)))


async def _health(mesh: MeshService, caller: Caller, asked: AgentInput) -> HealthAnswer:
    return show_health(await mesh.observatory.agent(asked.id, mesh.observatory.viewer(caller)))


async def _inspect(mesh: MeshService, caller: Caller, asked: AgentInput) -> InspectAnswer:
    found = await mesh.observatory.inspect(asked.id, mesh.observatory.viewer(caller))
    return show_inspection(found, mesh.budgets)


async def _reach(mesh: MeshService, caller: Caller, asked: AgentInput) -> ReachAnswer:
    agents = await mesh.observatory.reach(asked.id, mesh.observatory.viewer(caller))
    paths = sees_paths(caller)
    return ReachAnswer(agents=[show_observed(each, mesh.budgets, paths=paths) for each in agents])


async def _topology(mesh: MeshService, caller: Caller, asked: TopologyInput) -> TopologyAnswer:
    viewer = mesh.observatory.viewer(caller, asked.namespace)
    return show_view(await mesh.observatory.topology(viewer), mesh.budgets)


async def _access(mesh: MeshService, caller: Caller, asked: AccessInput) -> AccessAnswer:
    await mesh.access.set(asked.source_namespace, asked.target_namespace, asked.action, actor=caller.subject)
    return AccessAnswer(
        source_namespace=asked.source_namespace,
        target_namespace=asked.target_namespace,
        action=asked.action,
    )


async def _heartbeat(mesh: MeshService, caller: Caller, asked: HeartbeatInput) -> Success:
    await mesh.heartbeat(caller, asked.id, event=asked.event)
    return Success()


async def _ping(mesh: MeshService, caller: Caller, asked: PingInput) -> PingAnswer:
    return show_ping(await mesh.ping(caller, asked.id, within_s=asked.timeout_seconds))


async def _reconcile(mesh: MeshService, _caller: Caller, _asked: Nothing) -> ReconciledAnswer:
    return show_reconciled(await mesh.reconciler.reconcile())


OBSERVED_OPERATIONS: tuple[Operation[MeshService, Any, Any], ...] = (
    Operation(
        name="mesh.status",
        summary="The agents that the caller may see, counted by how they are, by runtime and by project.",
        part="mesh",
        method="GET",
        path="/api/mesh/status",
        scope=None,
        input=Nothing,
        answer=StatusAnswer,
        handler=_status,
        mcp=tools.STATUS,
    ),
    Operation(
        name="mesh.health",
        summary="How an agent is, and why.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents/{id}/health",
        scope=None,
        input=AgentInput,
        answer=HealthAnswer,
        handler=_health,
        mcp=NoTool("`mesh_list` and `mesh_inspect` tell it."),
    ),
    Operation(
        name="mesh.inspect",
        summary="All that is known of one agent, with a look at its folder.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents/{id}/inspect",
        scope=Scope.OBSERVE,
        input=AgentInput,
        answer=InspectAnswer,
        handler=_inspect,
        mcp=tools.INSPECT,
    ),
    Operation(
        name="mesh.reach",
        summary="The other agents that an agent may send to.",
        part="mesh",
        method="GET",
        path="/api/mesh/agents/{id}/access",
        scope=None,
        input=AgentInput,
        answer=ReachAnswer,
        handler=_reach,
        mcp=NoTool("`mesh_list` shows an agent whom it may send to."),
    ),
    Operation(
        name="mesh.topology",
        summary="Who may reach whom and who did, of what the caller may see.",
        part="mesh",
        method="GET",
        path="/api/mesh/topology",
        scope=None,
        input=TopologyInput,
        answer=TopologyAnswer,
        handler=_topology,
        mcp=tools.TOPOLOGY,
    ),
    Operation(
        name="mesh.access",
        summary="Let the agents of a namespace send to those of another, or no longer.",
        part="mesh",
        method="PUT",
        path="/api/mesh/topology/access",
        scope=Scope.OPERATE,
        input=AccessInput,
        answer=AccessAnswer,
        handler=_access,
        mcp=NoTool("Who may reach whom is for a person to decide."),
    ),
    Operation(
        name="mesh.heartbeat",
        summary="Note a sign of life that an agent gives by itself. What it does at work is noted anyway.",
        part="mesh",
        method="POST",
        path="/api/mesh/agents/{id}/heartbeat",
        scope=Scope.RECEIVE,
        input=HeartbeatInput,
        answer=Success,
        handler=_heartbeat,
        mcp=NoTool("What an agent does is noticed by itself."),
    ),
    Operation(
        name="mesh.ping",
        summary="Send an agent a question and wait for its reply.",
        part="mesh",
        method="POST",
        path="/api/mesh/agents/{id}/ping",
        scope=Scope.SEND,
        input=PingInput,
        answer=PingAnswer,
        handler=_ping,
        waits=True,
        live=True,
        mcp=tools.PING,
    ),
    Operation(
        name="mesh.reconcile",
        summary="Look at the folder of every agent now. Nothing is deleted by it.",
        part="mesh",
        method="POST",
        path="/api/mesh/reconcile",
        scope=Scope.OPERATE,
        input=Nothing,
        answer=ReconciledAnswer,
        handler=_reconcile,
        waits=True,
        mcp=NoTool("The server does it by itself, every few minutes."),
    ),
)
