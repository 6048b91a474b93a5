"""Who may send to whom: what the access rules say, without any I/O.

The first rule decides whose both patterns match: the highest priority, among equals the lowest position,
then the lowest id. Where none matches, agents of different namespaces do not reach one another, and
everything else may be sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dorkos.relay.subjects import matches
from dorkos.vocabulary import RuleAction

# No whole number beyond is read by every reader of JSON as it was written.
PRIORITY_MAX = 2**53 - 1


class Patterns(Protocol):
    """What decides of a rule."""

    @property
    def from_pattern(self) -> str:
        """Of the sender."""
        ...

    @property
    def to_pattern(self) -> str:
        """Of the subject that is sent to."""
        ...


R = TypeVar("R", bound=Patterns)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it decides. `fault` says why the stored row cannot be understood: it then denies everything,
    before every other rule, until a person has looked."""

    id: str
    from_pattern: str
    to_pattern: str
    action: RuleAction
    priority: int
    position: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a message may pass. `rule` decided it, None if no rule matched; `why` is a sentence."""

    allowed: bool
    rule: Rule | None
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something that would change a decision: to remove the rule `removes`, or to add `adds` (without an id).

    `then` is the decision afterwards.
    """

    removes: Rule | None
    adds: Rule | None
    then: Decision


def unreadable(rule_id: str, fault: str) -> Rule:
    """What a row stands for that cannot be understood."""
    return Rule(rule_id, ">", ">", RuleAction.DENY, PRIORITY_MAX, fault=fault)


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules in the order in which they decide."""
    return tuple(sorted(rules, key=lambda rule: (rule.fault is None, -rule.priority, rule.position, rule.id)))


def of_sender(rules: Iterable[R], sender: str) -> tuple[R, ...]:
    """Those of the rules that speak of this sender, in the same order."""
    return tuple(rule for rule in rules if matches(sender, rule.from_pattern))


def first_match(rules: Iterable[R], sender: str, target: str) -> R | None:
    """The rule that decides, of rules that stand in their order; None if none matches."""
    for rule in rules:
        if matches(target, rule.to_pattern) and matches(sender, rule.from_pattern):
            return rule
    return None


def open_by_default(sender: str, target: str) -> bool:
    """Whether a message may pass that no rule speaks of: not from one namespace of agents to another."""
    source, goal = namespace_of(sender), namespace_of(target)
    return source is None or goal is None or source == goal


def decide(rules: Iterable[Rule], sender: str, target: str) -> Decision:
    """What becomes of a message from `sender` to `target`, by rules that stand in their order."""
    rule = first_match(rules, sender, target)
    if rule is not None:
        return Decision(rule.action is RuleAction.ALLOW, rule, _because_of(rule))
    if open_by_default(sender, target):
        return Decision(True, None, "No rule matches, and only other namespaces of agents are closed then.")
    return Decision(
        False,
        None,
        f"No rule lets agents of {namespace_of(sender)} send to agents of {namespace_of(target)}.",
    )


def what_would_change(rules: Sequence[Rule], sender: str, target: str) -> tuple[Change, ...]:
    """Each single step after which the message would fare otherwise, by rules that stand in their order."""
    now = decide(rules, sender, target)
    found: list[Change] = []
    if now.rule is not None:
        without = decide([rule for rule in rules if rule is not now.rule], sender, target)
        if without.allowed != now.allowed:
            found.append(Change(now.rule, None, without))
    priority = 0 if now.rule is None else now.rule.priority + 1
    if (now.rule is None or now.rule.fault is None) and priority < PRIORITY_MAX:
        action = RuleAction.DENY if now.allowed else RuleAction.ALLOW
        new = Rule("", sender, target, action, priority)
        found.append(Change(None, new, decide(in_order([*rules, new]), sender, target)))
    return tuple(found)


def namespace_of(subject: str) -> str | None:
    """The namespace of an agent's address; None for an address of anybody else."""
    tokens = subject.split(".", 3)
    return tokens[2] if len(tokens) > 2 and tokens[:2] == ["relay", "agent"] else None


def is_readable(pattern: str) -> bool:
    """Whether a stored pattern can be understood. Its tokens may be of any characters that can be shown,
    because senders of the lineage were never checked; none is empty, and `>` is the last."""
    tokens = pattern.split(".")
    return all(tokens) and ">" not in tokens[:-1] and pattern.isprintable()


def collide(one: str, other: str) -> bool:
    """Whether there is a subject that both patterns stand for."""
    left, right = one.split("."), other.split(".")
    for mine, theirs in zip(left, right, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(left) == len(right)


def contradicts(one: Rule, other: Rule) -> bool:
    """Whether two rules say different things about some message."""
    return (
        one.action is not other.action
        and collide(one.from_pattern, other.from_pattern)
        and collide(one.to_pattern, other.to_pattern)
    )


def _because_of(rule: Rule) -> str:
    if rule.fault is not None:
        return f"The rule {rule.id} cannot be understood and denies everything: {rule.fault}."
    verb = "allows" if rule.action is RuleAction.ALLOW else "denies"
    return f"The rule {rule.id} {verb} {rule.from_pattern} -> {rule.to_pattern} (priority {rule.priority})."
