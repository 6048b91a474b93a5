"""Who can reach whom, and who did: a pure view of agents, access rules and observed traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dorkos.mesh.model import AccessRule, Agent, Traffic
from dorkos.vocabulary import RuleAction

EVERYBODY = "*"

MaySend = Callable[[str, str], bool]


class EdgeKind(StrEnum):
    """What an edge is made of: a rule that stands, or messages that were sent."""

    RULE = "rule"
    TRAFFIC = "traffic"


@dataclass(frozen=True, slots=True)
class Edge:
    """From one subject or pattern to another. A rule has an action; traffic has counts."""

    kind: EdgeKind
    source: str
    target: str
    action: RuleAction | None = None
    rule_id: str | None = None
    priority: int | None = None
    messages: int | None = None
    stopped: int | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NamespaceRule:
    """A rule from one whole namespace to another."""

    source: str
    target: str
    action: RuleAction
    rule: AccessRule


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and those of its agents that may be seen."""

    name: str
    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """What `viewer` may see: `*`, or a namespace."""

    viewer: str
    namespaces: tuple[Namespace, ...]
    rules: tuple[NamespaceRule, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Viewer:
    """Through whose eyes: everybody's (`namespace` is `*`), or those of the agents of a namespace.

    `subject` is the address that they would send from.
    """

    namespace: str
    subject: str

    @property
    def sees_all(self) -> bool:
        """Whether nothing is hidden."""
        return self.namespace == EVERYBODY


def viewer_of(namespace: str) -> Viewer:
    """Any agent of a namespace: one that no rule names by itself."""
    return Viewer(namespace, f"relay.agent.{namespace}.any")


def visible(agents: Iterable[Agent], viewer: Viewer, may_send: MaySend) -> tuple[Agent, ...]:
    """The agents that the viewer may see: its own namespace, and whomever it may really send to.

    What can be seen is what a message would reach, so a rule that a stronger one overrules shows nothing.
    """
    return tuple(
        agent
        for agent in agents
        if viewer.sees_all or agent.namespace == viewer.namespace or may_send(viewer.subject, agent.subject)
    )


def topology(
    agents: Sequence[Agent],
    rules: Sequence[AccessRule],
    traffic: Sequence[Traffic],
    viewer: Viewer,
    may_send: MaySend,
) -> Topology:
    """The view. Namespaces come in the order of `agents`, rules in the order in which they decide.

    A rule is shown if both its sides can be seen, and traffic if both its ends can: neither tells the
    name of what is hidden.
    """
    seen = visible(agents, viewer, may_send)
    names = list(dict.fromkeys(agent.namespace for agent in seen))
    between = tuple(rule for rule in map(_between, rules) if rule is not None and rule.source != rule.target)
    shown = tuple(
        rule for rule in between if viewer.sees_all or (rule.source in names and rule.target in names)
    )
    subjects = {agent.subject for agent in seen} | {viewer.subject}
    return Topology(
        viewer.namespace,
        tuple(Namespace(name, tuple(agent for agent in seen if agent.namespace == name)) for name in names),
        shown,
        (
            *(_rule_edge(rule) for rule in rules if viewer.sees_all or _concerns(rule, names)),
            *(
                _traffic_edge(each)
                for each in traffic
                if viewer.sees_all or (each.sender in subjects and each.recipient in subjects)
            ),
        ),
    )


def namespace_pattern(namespace: str) -> str:
    """The subjects of all agents of a namespace."""
    return f"relay.agent.{namespace}.*"


def _between(rule: AccessRule) -> NamespaceRule | None:
    source, target = _namespace_of(rule.from_pattern), _namespace_of(rule.to_pattern)
    if source is None or target is None:
        return None
    return NamespaceRule(source, target, rule.action, rule)


def _namespace_of(pattern: str) -> str | None:
    """The namespace that a pattern means as a whole, if it means one."""
    tokens = pattern.split(".")
    if len(tokens) != 4 or tokens[:2] != ["relay", "agent"] or tokens[3] not in ("*", ">"):
        return None
    return None if tokens[2] in ("*", ">") else tokens[2]


def _concerns(rule: AccessRule, names: Sequence[str]) -> bool:
    """Whether both sides of a rule name nothing but namespaces that may be seen."""
    return all(_names_only(pattern, names) for pattern in (rule.from_pattern, rule.to_pattern))


def _names_only(pattern: str, names: Sequence[str]) -> bool:
    tokens = pattern.split(".")
    if tokens[:2] != ["relay", "agent"]:
        return False
    return len(tokens) < 4 or tokens[2] in (*names, "*", ">")


def _rule_edge(rule: AccessRule) -> Edge:
    return Edge(
        EdgeKind.RULE,
        rule.from_pattern,
        rule.to_pattern,
        action=rule.action,
        rule_id=rule.id,
        priority=rule.priority,
    )


def _traffic_edge(traffic: Traffic) -> Edge:
    return Edge(
        EdgeKind.TRAFFIC,
        traffic.sender,
        traffic.recipient,
        messages=traffic.messages,
        stopped=traffic.stopped,
        last_at=traffic.last_at,
    )
