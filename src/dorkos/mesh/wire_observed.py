"""What was seen of agents, as it crosses the wire: health, counts, inspection, topology, ping."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from dorkos.mesh.budgets import CallBudgets
from dorkos.mesh.drift import ManifestState
from dorkos.mesh.manifest import ON_ONE_LINE
from dorkos.mesh.namespace import MAX_LENGTH
from dorkos.mesh.observing import Inspection, MeshStatus, Observed, View
from dorkos.mesh.ping import Ping
from dorkos.mesh.reconcile import Reconciled
from dorkos.mesh.topology import Edge, EdgeKind
from dorkos.mesh.wire import AbsolutePath, Filter, Instant, ProblemAnswer, show_problem
from dorkos.mesh.wire_agents import (
    AgentAnswer,
    AgentInput,
    ObservedAnswer,
    ReasonAnswer,
    old_word,
    show_agent,
    show_observed,
    show_reasons,
)
from dorkos.operation import Wire
from dorkos.vocabulary import AgentRuntime, HealthState, RuleAction

Namespace = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]


def _odd_is_default(value: object) -> object:
    # The lineage took any body for a heartbeat, so clients send all kinds.
    return value if isinstance(value, str) and value.strip() else "heartbeat"


class HeartbeatInput(AgentInput):
    """A sign of life that an agent gives by itself."""

    event: Annotated[str, BeforeValidator(_odd_is_default), Field(max_length=100), ON_ONE_LINE] = "heartbeat"


class MoveInput(AgentInput):
    """Where an agent's folder is now."""

    path: AbsolutePath


class PingInput(AgentInput):
    """How long to wait for the answer."""

    timeout_seconds: int = Field(default=30, ge=1, le=600)


class TopologyInput(Wire):
    """Through whose eyes: those of the agents of a namespace, or `*`."""

    namespace: Filter = Field(default=None, max_length=MAX_LENGTH)


class AccessInput(Wire):
    """From which namespace to which, in this one direction."""

    source_namespace: Namespace
    target_namespace: Namespace
    action: RuleAction


class HealthAnswer(Wire):
    """How an agent is. `status` is one of the lineage's words, `state` ours."""

    agent_id: str
    name: str
    status: HealthState
    state: HealthState
    reasons: list[ReasonAnswer]
    last_seen_at: Instant | None
    last_seen_event: str | None
    registered_at: Instant
    runtime: AgentRuntime
    capabilities: list[str]
    next_due_at: Instant | None
    running_since: Instant | None
    waiting_since: Instant | None


class StatusAnswer(Wire):
    """Agents, counted. Each is in exactly one of the five counts."""

    total_agents: int
    active_count: int
    inactive_count: int
    stale_count: int
    unreachable_count: int
    stuck_count: int
    by_runtime: dict[str, int]
    by_project: dict[str, int]


class SpentAnswer(Wire):
    """Calls of the last 60 minutes, of those that are allowed."""

    used: int
    allowed: int


class DenialOfAnswer(Wire):
    """The denial that an agent's path is under."""

    path: str
    reason: str | None
    denied_by: str


class ManifestAnswer(Wire):
    """How the manifest on disk stands to the registry.

    `takenOver` differs and counts at the next look; `waiting` counts when a person registers the folder
    again. Both hold the values of the file, by their names in it.
    """

    state: ManifestState
    detail: str | None
    taken_over: dict[str, Any]
    waiting: dict[str, Any]


class InspectAnswer(Wire):
    """All that is known of one agent. `duplicates` are other folders that were seen to claim to be it; none
    of them is ever adopted. One on another machine is written `host:path`."""

    agent: ObservedAnswer
    health: HealthAnswer
    relay_subject: str
    calls: SpentAnswer
    max_hops_per_message: int
    schedules: int
    denial: DenialOfAnswer | None
    manifest: ManifestAnswer
    duplicates: list[str]


class ReachAnswer(Wire):
    """Agents that an agent may see."""

    agents: list[ObservedAnswer]


class TopologyAgent(AgentAnswer):
    """An agent in the topology. `relayAdapters` are the adapters, by id, that bring it messages from outside
    or take along what is sent to it; only who sees everything is told them."""

    last_seen_at: Instant | None
    last_seen_event: str | None
    health_status: HealthState
    health: HealthState
    relay_subject: str
    relay_adapters: list[str]
    pulse_schedule_count: int


class NamespaceAnswer(Wire):
    """A namespace and its agents."""

    namespace: str
    agent_count: int
    agents: list[TopologyAgent]


class NamespaceRuleAnswer(Wire):
    """A rule from one whole namespace to another."""

    source_namespace: str
    target_namespace: str
    action: RuleAction
    rule_id: str
    priority: int


class EdgeAnswer(Wire):
    """From one address to another. `kind` is `rule` or `traffic`: what may be, or what was in the last day.

    A rule has `action`, `ruleId` and `priority`; traffic has `messages`, how many of them `stopped`, and
    `lastAt`.
    """

    kind: EdgeKind
    source: str
    target: str
    action: RuleAction | None
    rule_id: str | None
    priority: int | None
    messages: int | None
    stopped: int | None
    last_at: Instant | None


class TopologyAnswer(Wire):
    """Who may reach whom and who did, of what the caller may see. `rulesEnforced` tells whether publishing
    asks the rules. At most 1,000 agents, the newest, are shown, as many rules and as much traffic;
    `truncated` tells that there are more, and `agentCount` counts all of a namespace."""

    caller_namespace: str
    namespaces: list[NamespaceAnswer]
    access_rules: list[NamespaceRuleAnswer]
    edges: list[EdgeAnswer]
    rules_enforced: bool
    truncated: bool


class AccessAnswer(Wire):
    """What was asked for, and is so now."""

    source_namespace: str
    target_namespace: str
    action: RuleAction


class PingAnswer(Wire):
    """Whether an agent answered, with what, and after how long; else how far the question got."""

    agent_id: str
    name: str
    answered: bool
    reply: Any
    detail: str | None
    duration_ms: int
    message_id: str


class TokenAnswer(Wire):
    """An agent's new long-lived token, told this once."""

    agent_id: str
    subject: str
    token: str


class ReconciledAnswer(Wire):
    """What one look at every agent's folder found, by the ids of agents. `waiting`: something in the
    manifest waits for a person. `elsewhere`: how many lie on other machines, and are looked at there.
    `problems`: what could not be told."""

    looked_at: int
    elsewhere: int
    unreachable: list[str]
    archived: list[str]
    returned: list[str]
    updated: list[str]
    waiting: list[str]
    problems: list[ProblemAnswer]


def show_health(observed: Observed) -> HealthAnswer:
    """An agent's health as it is answered."""
    agent, work = observed.agent, observed.work
    return HealthAnswer(
        agent_id=agent.id,
        name=agent.name,
        status=old_word(observed.health.state),
        state=observed.health.state,
        reasons=show_reasons(observed.health),
        last_seen_at=agent.last_seen_at,
        last_seen_event=agent.last_seen_event,
        registered_at=agent.registered_at,
        runtime=agent.runtime,
        capabilities=list(agent.capabilities),
        next_due_at=work.next_due_at,
        running_since=work.running_since,
        waiting_since=work.waiting_since,
    )


def show_status(status: MeshStatus) -> StatusAnswer:
    """The counts as they are answered."""
    return StatusAnswer(
        total_agents=status.total,
        active_count=status.by_state.get(HealthState.ACTIVE, 0),
        inactive_count=status.by_state.get(HealthState.INACTIVE, 0),
        stale_count=status.by_state.get(HealthState.STALE, 0),
        unreachable_count=status.by_state.get(HealthState.UNREACHABLE, 0),
        stuck_count=status.by_state.get(HealthState.STUCK, 0),
        by_runtime=dict(status.by_runtime),
        by_project=dict(status.by_project),
    )


def show_inspection(found: Inspection, budgets: CallBudgets) -> InspectAnswer:
    """An inspection as it is answered."""
    denial = found.denial
    return InspectAnswer(
        agent=show_observed(found.observed, budgets, paths=True),
        health=show_health(found.observed),
        relay_subject=found.observed.agent.subject,
        calls=SpentAnswer(used=found.spent.used, allowed=found.spent.allowed),
        max_hops_per_message=found.spent.max_hops,
        schedules=found.observed.work.schedules,
        denial=None
        if denial is None
        else DenialOfAnswer(path=denial.path, reason=denial.reason, denied_by=denial.denier or "unknown"),
        manifest=ManifestAnswer(
            state=found.manifest.state,
            detail=found.manifest.detail,
            taken_over=dict(found.manifest.taken),
            waiting=dict(found.manifest.waiting),
        ),
        duplicates=list(found.copies),
    )


def show_view(view: View, budgets: CallBudgets) -> TopologyAnswer:
    """A topology as it is answered. It shows no paths, to nobody."""
    return TopologyAnswer(
        caller_namespace=view.topology.viewer,
        namespaces=[
            NamespaceAnswer(
                namespace=namespace.name,
                agent_count=namespace.count,
                agents=[
                    _in_topology(view.observed[agent.id], view.adapters.get(agent.subject, []), budgets)
                    for agent in namespace.agents
                ],
            )
            for namespace in view.topology.namespaces
        ],
        access_rules=[
            NamespaceRuleAnswer(
                source_namespace=rule.source,
                target_namespace=rule.target,
                action=rule.action,
                rule_id=rule.rule.id,
                priority=rule.rule.priority,
            )
            for rule in view.topology.rules
        ],
        edges=[_edge(edge) for edge in view.topology.edges],
        rules_enforced=view.enforced,
        truncated=view.topology.truncated,
    )


def show_ping(ping: Ping) -> PingAnswer:
    """A ping as it is answered."""
    return PingAnswer(
        agent_id=ping.agent.id,
        name=ping.agent.name,
        answered=ping.answered,
        reply=None if ping.payload is None else json.loads(ping.payload),
        detail=ping.detail,
        duration_ms=ping.duration_ms,
        message_id=ping.message_id,
    )


def show_reconciled(done: Reconciled) -> ReconciledAnswer:
    """A look at every folder as it is answered."""
    return ReconciledAnswer(
        looked_at=done.looked_at,
        elsewhere=done.elsewhere,
        unreachable=done.unreachable,
        archived=done.archived,
        returned=done.returned,
        updated=done.updated,
        waiting=done.waiting,
        problems=[show_problem(problem) for problem in done.problems],
    )


def _in_topology(observed: Observed, adapters: list[str], budgets: CallBudgets) -> TopologyAgent:
    agent = observed.agent
    return TopologyAgent(
        **show_agent(agent, budgets, paths=False).model_dump(),
        last_seen_at=agent.last_seen_at,
        last_seen_event=agent.last_seen_event,
        health_status=old_word(observed.health.state),
        health=observed.health.state,
        relay_subject=agent.subject,
        relay_adapters=adapters,
        pulse_schedule_count=observed.work.schedules,
    )


def _edge(edge: Edge) -> EdgeAnswer:
    return EdgeAnswer(
        kind=edge.kind,
        source=edge.source,
        target=edge.target,
        action=edge.action,
        rule_id=edge.rule_id,
        priority=edge.priority,
        messages=edge.messages,
        stopped=edge.stopped,
        last_at=edge.last_at,
    )
