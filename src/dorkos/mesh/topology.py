"""Who can reach whom, and who did: a pure view of agents, access rules and observed traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dorkos.mesh.model import AccessRule, Agent, Traffic
from dorkos.vocabulary import RuleAction

EVERYBODY = "*"
# What one view shows of agents, of rules and of traffic. More than that nobody can look at.
MOST = 1000

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
    """A namespace, how many agents of it may be seen, and those of them that are shown."""

    name: str
    count: int
    agents: tuple[Agent, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """What `viewer` may see: `*`, or a namespace. `truncated` tells that not all of it is shown."""

    viewer: str
    namespaces: tuple[Namespace, ...]
    rules: tuple[NamespaceRule, ...]
    edges: tuple[Edge, ...]
    truncated: bool


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


def namespaces_within(viewer: Viewer, rules: Iterable[AccessRule]) -> frozenset[str] | None:
    """Namespaces that hold all that the viewer may see, by the rules of its own sending; None if that
    cannot be told from them. It narrows a search, and lets nobody see anything."""
    if viewer.sees_all:
        return None
    opened = [_namespace_of(rule.to_pattern) for rule in rules if rule.action is RuleAction.ALLOW]
    named = [name for name in opened if name is not None]
    return frozenset({viewer.namespace, *named}) if len(named) == len(opened) else None


def topology(
    agents: Sequence[Agent],
    rules: Sequence[AccessRule],
    traffic: Sequence[Traffic],
    viewer: Viewer,
    may_send: MaySend,
) -> Topology:
    """The view. Namespaces come in the order of `agents`, rules in the order in which they decide, traffic as
    it is given; of each the first `MOST`.

    A rule is shown if both its sides can be seen, and traffic if both its ends can: neither tells the
    name of what is hidden. Both are judged by all that can be seen, not by what is shown.
    """
    seen = visible(agents, viewer, may_send)
    counts = Counter(agent.namespace for agent in seen)
    grouped: dict[str, list[Agent]] = {}
    for agent in seen[:MOST]:
        grouped.setdefault(agent.namespace, []).append(agent)
    between = [rule for rule in map(_between, rules) if rule is not None and rule.source != rule.target]
    cross = [rule for rule in between if viewer.sees_all or (rule.source in counts and rule.target in counts)]
    standing = [rule for rule in rules if viewer.sees_all or _concerns(rule, counts)]
    subjects = {agent.subject for agent in seen} | {viewer.subject}
    sent = [
        each
        for each in traffic
        if viewer.sees_all or (each.sender in subjects and each.recipient in subjects)
    ]
    return Topology(
        viewer.namespace,
        tuple(Namespace(name, counts[name], tuple(shown)) for name, shown in grouped.items()),
        tuple(cross[:MOST]),
        (*map(_rule_edge, standing[:MOST]), *map(_traffic_edge, sent[:MOST])),
        truncated=max(map(len, (seen, standing, sent))) > MOST,
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


def _concerns(rule: AccessRule, names: Collection[str]) -> bool:
    """Whether both sides of a rule name nothing but namespaces that may be seen."""
    return all(_names_only(pattern, names) for pattern in (rule.from_pattern, rule.to_pattern))


def _names_only(pattern: str, names: Collection[str]) -> bool:
    tokens = pattern.split(".")
    if tokens[:2] != ["relay", "agent"]:
        return False
    return len(tokens) < 4 or tokens[2] in ("*", ">") or tokens[2] in names


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
