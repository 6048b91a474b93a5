"""What access rules say, without a database."""

from __future__ import annotations

import pytest

from dorkos.ids import new_id
from dorkos.relay.policy import (
    PRIORITY_MAX,
    Rule,
    contradicts,
    decide,
    in_order,
    is_readable,
    unreadable,
    what_would_change,
)
from dorkos.vocabulary import RuleAction

A, A2, B, ADA = "relay.agent.a.one", "relay.agent.a.two", "relay.agent.b.one", "relay.human.ada"
ALLOW, DENY = RuleAction.ALLOW, RuleAction.DENY


def rule(source: str, target: str, action: RuleAction, priority: int = 0, position: int = 0) -> Rule:
    """A rule."""
    return Rule(new_id(), source, target, action, priority, position)


@pytest.mark.parametrize(
    ("sender", "target", "allowed"),
    [
        (A, A2, True),
        (A, B, False),
        ("relay.agent.a", B, False),
        ("relay.agent.a", "relay.agent.b", False),
        (A, ADA, True),
        (ADA, A, True),
        ("relay.human.operator", B, True),
        ("relay.system.mesh", B, True),
        ("relay.agent", B, True),
        ("other.agent.a.one", B, True),
    ],
)
def test_without_a_rule_only_other_namespaces_are_closed(sender: str, target: str, allowed: bool) -> None:
    """Agents of one namespace reach each other, people and parts reach everybody."""
    decision = decide((), sender, target)
    assert (decision.allowed, decision.rule) == (allowed, None)


def test_the_highest_priority_decides_then_the_lowest_position_then_the_lowest_id() -> None:
    """In whatever order the rules are given."""
    low, high = rule(A, ">", DENY, 1), rule(A, ">", ALLOW, 2)
    late, early = rule(A, ">", DENY, 1, position=2), rule(A, ">", ALLOW, 1, position=1)
    first, second = rule(A, ">", ALLOW, 1), rule(A, ">", DENY, 1)
    for winner, loser in ((high, low), (early, late), (first, second)):
        for given in ([winner, loser], [loser, winner]):
            assert decide(in_order(given), A, ADA).rule is winner


def test_both_sides_have_to_match() -> None:
    """A rule about another sender, or another target, decides nothing."""
    rules = in_order([rule(A, B, ALLOW), rule(ADA, ">", DENY)])
    assert decide(rules, A, B).allowed
    assert not decide(rules, A2, B).allowed
    assert decide(rules, A, A2).rule is None


def test_a_person_is_bound_by_rules_too() -> None:
    """A deny for everybody is one for the operator."""
    assert not decide([rule(">", ">", DENY)], "relay.human.operator", ADA).allowed


def test_an_unreadable_rule_denies_before_all_others() -> None:
    """Even before one of the highest priority that there is, and the sentence names it."""
    broken = unreadable(new_id(), "`to` is 'a..b', which is no pattern")
    decision = decide(in_order([rule(">", ">", ALLOW, PRIORITY_MAX + 5), broken]), ADA, A)
    assert (decision.allowed, decision.rule) == (False, broken)
    assert broken.id in decision.why
    assert "a..b" in decision.why


@pytest.mark.parametrize(
    ("pattern", "readable"),
    [("a.*.>", True), ("x y.ü", True), ("", False), ("a..b", False), (">.a", False), ("a.\n", False)],
)
def test_what_a_pattern_may_be(pattern: str, readable: bool) -> None:
    """Odd characters of old senders are understood, holes and line ends are not."""
    assert is_readable(pattern) is readable


def test_each_step_that_is_named_changes_the_decision() -> None:
    """For a default, a rule that stands alone, one behind which another waits, and an unreadable one."""
    within, between = rule("relay.agent.a.*", ">", DENY, 10), rule("relay.agent.a.*", ">", DENY, 50)
    cases = [
        ((), A, B),
        ((), A, A2),
        ((rule(A, B, ALLOW, 7),), A, B),
        ((within, between), A, ADA),
        ((unreadable(new_id(), "odd"), rule(A, B, ALLOW)), A, B),
    ]
    told = []
    for given, sender, target in cases:
        rules = in_order(given)
        now = decide(rules, sender, target)
        changes = what_would_change(rules, sender, target)
        for change in changes:
            left = [each for each in rules if each is not change.removes]
            then = decide(in_order([*left, *([change.adds] if change.adds else [])]), sender, target)
            assert then == change.then
            assert then.allowed != now.allowed
        told.append([("add" if change.adds else "remove") for change in changes])
    assert told == [["add"], ["add"], ["remove", "add"], ["add"], ["remove"]]


def test_nothing_can_be_added_above_the_highest_priority() -> None:
    """So no step is named that would be refused."""
    assert [change.adds for change in what_would_change([rule(">", ">", DENY, PRIORITY_MAX)], ADA, A)] == [
        None
    ]
    assert what_would_change([rule(">", ">", DENY, PRIORITY_MAX - 1)], ADA, A)[0].adds is None


def test_two_rules_contradict_if_they_judge_one_message_differently() -> None:
    """The same action never contradicts, nor do rules about different senders or targets."""
    one = rule("relay.agent.a.*", "relay.agent.>", DENY)
    assert contradicts(one, rule("relay.agent.>", "relay.agent.b.*", ALLOW))
    assert not contradicts(one, rule("relay.agent.>", "relay.agent.b.*", DENY))
    assert not contradicts(one, rule("relay.agent.b.*", "relay.agent.b.*", ALLOW))
    assert not contradicts(one, rule("relay.agent.a.*", "relay.human.>", ALLOW))
