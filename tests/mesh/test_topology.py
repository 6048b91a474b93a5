"""Who may see and reach whom, without database or disk."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dorkos.ids import new_id
from dorkos.mesh.model import AccessRule, Agent, Traffic
from dorkos.mesh.topology import MOST, EdgeKind, Topology, Viewer, namespaces_within, topology, viewer_of
from dorkos.ports.rules import NamespaceRules
from dorkos.vocabulary import AgentRuntime, AgentStatus, RuleAction

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
EVERYTHING = Viewer("*", "relay.human.operator")


def agent(namespace: str, name: str) -> Agent:
    """An agent of a namespace."""
    return Agent(
        id=new_id(),
        name=name,
        runtime=AgentRuntime.CODEX,
        project_path=Path("/srv") / namespace / name,
        namespace=namespace,
        capabilities=(),
        entrypoint=None,
        version=None,
        description=None,
        approver=None,
        status=AgentStatus.ACTIVE,
        last_seen_at=None,
        last_seen_event=None,
        registered_at=NOW,
        updated_at=NOW,
        manifest_hash=None,
    )


A1, A2, B1, C1 = agent("a", "a1"), agent("a", "a2"), agent("b", "b1"), agent("c", "c1")
AGENTS = [A1, A2, B1, C1]


def rule(source: str, target: str, action: RuleAction, priority: int) -> AccessRule:
    """A rule."""
    return AccessRule(new_id(), source, target, action, priority, None)


def defaults(namespace: str) -> list[AccessRule]:
    """What a namespace gets with its first agent."""
    own = f"relay.agent.{namespace}.*"
    return [
        rule(own, own, RuleAction.ALLOW, 100),
        rule(own, "relay.agent.>", RuleAction.DENY, 10),
    ]


def view(viewer: Viewer, *extra: AccessRule, traffic: tuple[Traffic, ...] = ()) -> Topology:
    """The topology of three namespaces with their defaults."""
    rules = sorted([*extra, *defaults("a"), *defaults("b"), *defaults("c")], key=lambda each: -each.priority)
    may_send = partial(NamespaceRules().may_send, rules)
    return topology(AGENTS, rules, traffic, viewer, may_send)


def names(found: Topology) -> dict[str, list[str]]:
    """The agents that are shown, by namespace."""
    return {each.name: [agent.name for agent in each.agents] for each in found.namespaces}


ALLOW_A_B = rule("relay.agent.a.*", "relay.agent.b.*", RuleAction.ALLOW, 50)


def test_everybody_is_seen_through_all_eyes_and_rules_with_them() -> None:
    """In the order of the agents; a namespace's own two rules are edges, not rules between namespaces."""
    found = view(EVERYTHING, ALLOW_A_B)

    assert names(found) == {"a": ["a1", "a2"], "b": ["b1"], "c": ["c1"]}
    assert [(each.source, each.target, each.action) for each in found.rules] == [("a", "b", RuleAction.ALLOW)]
    assert len([edge for edge in found.edges if edge.kind is EdgeKind.RULE]) == 7


def test_of_thousands_the_first_are_shown_and_the_rest_is_counted() -> None:
    """Agents, rules and traffic each: a view stays of a size that somebody can look at."""
    many = [agent("a", "x") for _ in range(MOST)] + [B1]
    rules = [rule("relay.agent.a.*", "relay.agent.b.*", RuleAction.ALLOW, 50) for _ in range(MOST + 1)]
    sent = [Traffic("relay.human.x", f"relay.human.{n}", 1, 0, NOW) for n in range(MOST + 1)]

    whole = topology(many[1:], rules[1:], sent[1:], EVERYTHING, lambda _sender, _recipient: True)
    assert (len(whole.edges), whole.truncated) == (2 * MOST, False)
    found = topology(many, rules, sent, EVERYTHING, lambda _sender, _recipient: True)

    assert [(each.name, each.count, len(each.agents)) for each in found.namespaces] == [("a", MOST, MOST)]
    assert (len(found.rules), len(found.edges), found.truncated) == (MOST, 2 * MOST, True)


def test_a_search_is_narrowed_to_namespaces_that_hold_all_that_is_seen() -> None:
    """As far as the rules of the viewer's own sending name them; a wide one narrows nothing."""
    wide = rule("relay.agent.a.*", "relay.agent.>", RuleAction.ALLOW, 1)

    assert namespaces_within(EVERYTHING, []) is None
    assert namespaces_within(viewer_of("a"), []) == frozenset({"a"})
    assert namespaces_within(viewer_of("a"), [*defaults("a"), ALLOW_A_B]) == frozenset({"a", "b"})
    assert namespaces_within(viewer_of("a"), [*defaults("a"), wide]) is None


def test_a_namespace_sees_itself_and_whom_it_may_send_to() -> None:
    """In one direction, and of one that is hidden not even the name is told."""
    found = view(viewer_of("a"), ALLOW_A_B)

    assert names(found) == {"a": ["a1", "a2"], "b": ["b1"]}
    assert names(view(viewer_of("b"), ALLOW_A_B)) == {"b": ["b1"]}
    assert [(each.source, each.target) for each in found.rules] == [("a", "b")]
    assert not [edge for edge in found.edges if ".c." in edge.source + edge.target]


def test_a_rule_that_a_stronger_one_overrules_shows_nothing() -> None:
    """What can be seen is what a message would reach."""
    deny = rule("relay.agent.a.*", B1.subject, RuleAction.DENY, 60)

    assert names(view(viewer_of("a"), ALLOW_A_B, deny)) == {"a": ["a1", "a2"]}


def test_an_agent_sees_by_rules_made_for_it_alone() -> None:
    """Its neighbours in the namespace do not."""
    only_a1 = rule(A1.subject, C1.subject, RuleAction.ALLOW, 50)

    assert names(view(Viewer("a", A1.subject), only_a1)) == {"a": ["a1", "a2"], "c": ["c1"]}
    assert names(view(Viewer("a", A2.subject), only_a1)) == {"a": ["a1", "a2"]}


def test_a_namespace_that_nobody_knows_sees_nothing() -> None:
    """Isolation does not fail open for one that has no rules of its own."""
    assert names(view(viewer_of("nobody"))) == {}


def test_traffic_is_shown_between_those_that_can_be_seen() -> None:
    """With what was sent and what of it stopped."""
    within = Traffic(A1.subject, A2.subject, 3, 1, NOW)
    beyond = Traffic(C1.subject, A1.subject, 2, 2, NOW)
    person = Traffic("relay.human.ada", A1.subject, 1, 0, NOW)

    def shown(viewer: Viewer) -> list[tuple[str, int | None, int | None]]:
        found = view(viewer, traffic=(within, beyond, person))
        return [
            (edge.source, edge.messages, edge.stopped)
            for edge in found.edges
            if edge.kind is EdgeKind.TRAFFIC
        ]

    assert shown(viewer_of("a")) == [(A1.subject, 3, 1)]
    assert shown(EVERYTHING) == [(A1.subject, 3, 1), (C1.subject, 2, 2), ("relay.human.ada", 1, 0)]
