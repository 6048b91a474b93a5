"""Mesh as agents call it: the lineage's tools by name and shape, and those that it lacked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dorkos.mesh import wire, wire_agents, wire_observed
from dorkos.mesh.manifest import Capabilities, Description, Name
from dorkos.operation import McpTool, Success, Wire
from dorkos.vocabulary import AgentRuntime


class RegisterArguments(Wire):
    """A folder to register, and what goes before its manifest's words."""

    path: wire.AbsolutePath
    name: Name | None = None
    description: Description | None = None
    runtime: AgentRuntime | None = None
    capabilities: Capabilities | None = None


class AgentArguments(Wire):
    """Which agent."""

    agent_id: Annotated[str, Field(description="The agent's id.")]


class UpdateArguments(AgentArguments):
    """What to change; a field that is left out stays."""

    name: Name | None = None
    description: Description | None = None
    capabilities: Capabilities | None = None


class DiscoveredAgents(wire.DiscoverAnswer):
    """What was found, counted."""

    count: int


class RegisteredAgent(Wire):
    """The agent, and whether its manifest says the same."""

    agent: wire_agents.AgentAnswer
    manifest_written: bool
    manifest_problem: str | None


class AgentList(wire_agents.AgentsAnswer):
    """One page of agents, counted."""

    count: int


class Denied(Success):
    """The path that is denied now, or is not any more."""

    path: str


class Unregistered(Success):
    """The agent that is gone."""

    agent_id: str


class DenialList(wire.DenialsAnswer):
    """The denied paths, counted."""

    count: int


class PingArguments(AgentArguments):
    """Which agent, and how long to wait for its answer."""

    timeout_seconds: int = Field(default=30, ge=1, le=600)


def _register(given: RegisterArguments) -> wire_agents.RegisterInput:
    overrides = wire_agents.OverridesInput(
        name=given.name,
        description=given.description,
        runtime=given.runtime,
        capabilities=given.capabilities,
    )
    return wire_agents.RegisterInput(path=given.path, overrides=overrides)


def _agent(given: AgentArguments) -> wire_agents.AgentInput:
    return wire_agents.AgentInput(id=given.agent_id)


def _update(given: UpdateArguments) -> wire_agents.UpdateInput:
    return wire_agents.UpdateInput(
        id=given.agent_id,
        name=given.name,
        description=given.description,
        capabilities=given.capabilities,
    )


def _registered(_given: Wire, found: wire_agents.RegisteredAnswer) -> RegisteredAgent:
    return RegisteredAgent(
        agent=wire_agents.AgentAnswer(**found.model_dump()),
        manifest_written=found.manifest_written,
        manifest_problem=found.manifest_problem,
    )


DISCOVER = McpTool(
    "mesh_discover",
    "Look for folders that hold an agent. Nothing is registered by it.",
    read_only=True,
    answer=DiscoveredAgents,
    present=lambda _given, found: DiscoveredAgents(**found.model_dump(), count=len(found.candidates)),
)
REGISTER = McpTool(
    "mesh_register",
    "Register a folder as an agent, or read it again.",
    idempotent=True,
    input=RegisterArguments,
    ask=_register,
    answer=RegisteredAgent,
    present=_registered,
)
LIST = McpTool(
    "mesh_list",
    "List the registered agents, with the subjects to send to.",
    read_only=True,
    answer=AgentList,
    present=lambda _given, found: AgentList(**found.model_dump(), count=len(found.agents)),
)
INSPECT = McpTool(
    "mesh_inspect",
    "Show one agent: how it is and why, what it may spend, where to send to it.",
    read_only=True,
    input=AgentArguments,
    ask=_agent,
)
STATUS = McpTool("mesh_status", "Count the agents by health, runtime and project.", read_only=True)
TOPOLOGY = McpTool(
    "mesh_query_topology",
    "Show who may send to whom, and who did.",
    read_only=True,
)
PING = McpTool(
    "mesh_ping",
    "Ask an agent for a sign of life and wait for it. It may start a run.",
    input=PingArguments,
    ask=lambda given: wire_observed.PingInput(id=given.agent_id, timeout_seconds=given.timeout_seconds),
)
UPDATE = McpTool(
    "mesh_update",
    "Change an agent's name, description or capabilities.",
    idempotent=True,
    input=UpdateArguments,
    ask=_update,
    answer=RegisteredAgent,
    present=_registered,
)
UNREGISTER = McpTool(
    "mesh_unregister",
    "Remove an agent with its mailbox and schedules. Its folder stays.",
    destructive=True,
    input=AgentArguments,
    ask=_agent,
    answer=Unregistered,
    present=lambda given, _found: Unregistered(agent_id=given.agent_id),
)
DENY = McpTool(
    "mesh_deny",
    "Deny a path, and all below it, to discovery and registration.",
    idempotent=True,
    answer=Denied,
    present=lambda given, _found: Denied(path=given.path),
)
DENIED = McpTool(
    "mesh_list_denied",
    "List the denied paths, newest first.",
    read_only=True,
    answer=DenialList,
    present=lambda _given, found: DenialList(**found.model_dump(), count=len(found.denied)),
)
ALLOW = McpTool(
    "mesh_allow",
    "Lift the denial of a path.",
    answer=Denied,
    present=lambda given, _found: Denied(path=given.path),
)
