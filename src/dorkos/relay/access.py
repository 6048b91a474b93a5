"""Access control: the gate that every publish passes, and what people ask and change of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from dorkos.db import rules_revision
from dorkos.db.database import Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_rules
from dorkos.db.schema.system import system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.relay import rules
from dorkos.relay.policy import (
    Change,
    Decision,
    Rule,
    contradicts,
    decide,
    what_would_change,
)
from dorkos.relay.rules import NewRule, StoredRule
from dorkos.relay.subjects import validate_pattern, validate_subject
from dorkos.relay.trie import PatternTrie

_r = relay_rules.c
_REVISION = Prepared(sa.select(system_state.c.value).where(system_state.c.key == rules_revision.RULES_KEY))
# Senders, and pairs of sender and target, that are kept at hand; with more of them all are looked for again.
_SENDERS_MAX = 1024
_PAIRS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision on one pair, and each step that would change it."""

    sender: str
    target: str
    decision: Decision
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """The rules of one revision, which of them speak of a sender, and what they decided before."""

    revision: str
    rules: tuple[Rule, ...]
    senders: PatternTrie[int]
    by_sender: dict[str, tuple[Rule, ...]] = field(default_factory=dict)
    decisions: dict[tuple[str, str], Decision] = field(default_factory=dict)

    def decide(self, sender: str, target: str) -> Decision:
        found = self.decisions.get((sender, target))
        if found is None:
            if len(self.decisions) >= _PAIRS_MAX:
                self.decisions.clear()
            found = self.decisions[sender, target] = decide(self._of(sender), sender, target)
        return found

    def _of(self, sender: str) -> tuple[Rule, ...]:
        found = self.by_sender.get(sender)
        if found is None:
            if len(self.by_sender) >= _SENDERS_MAX:
                self.by_sender.clear()
            places = sorted(self.senders.find(sender))
            found = self.by_sender[sender] = tuple(self.rules[place] for place in places)
        return found


class AccessControl:
    """Decides by the rules that stand at the publish, whichever server changed them last. Thread-safe."""

    def __init__(self, database: Database) -> None:
        """Nothing is read before the first decision."""
        self._database = database
        self._known: _Known | None = None

    async def start(self) -> None:
        """Have a revision, so that the rules can be kept in memory. Without one they are read each time."""
        await self._database.write(rules_revision.begin)

    def decide(self, tx: Transaction, sender: str, target: str) -> Decision:
        """Whether `sender` may send to `target`, in the transaction that would store the message."""
        found = tx.recall(_REVISION, {})
        if not found:
            return decide(rules.deciding(tx), sender, target)
        revision = found[0][0]
        known = self._known
        if known is None or known.revision != revision:
            # Read after the revision: at worst they are newer than it, and it is not asked for any more.
            known = self._known = _known(revision, rules.deciding(tx))
        return known.decide(sender, target)

    async def standing(self) -> list[StoredRule]:
        """All rules in the order in which they decide."""
        return await self._database.read(rules.stored)

    async def explain(self, sender: str, target: str) -> Explanation:
        """What would become of a message, by the rules alone. Raises the refusals of a subject."""
        validate_subject(sender)
        validate_subject(target)
        found = await self._database.read(rules.deciding)
        return Explanation(
            sender, target, decide(found, sender, target), what_would_change(found, sender, target)
        )

    async def add(self, caller: Caller, new: NewRule) -> tuple[StoredRule, tuple[Rule, ...]]:
        """Store a rule. One with the same patterns and priority is replaced by it, as in the lineage.

        Answers the rule, and those of the opposite action that speak of some of the same messages. Raises
        `invalid_subject` for what is no pattern, and `conflict` if the one to replace belongs to agents.
        """
        validate_pattern(new.from_pattern)
        validate_pattern(new.to_pattern)
        same = sa.and_(
            _r.from_pattern == new.from_pattern,
            _r.to_pattern == new.to_pattern,
            _r.priority == new.priority,
        )

        def change(tx: Transaction) -> tuple[StoredRule, tuple[Rule, ...]]:
            taken = tx.execute(
                sa.select(_r.id, _r.managed_by).where(same, _r.managed_by.is_not(None))
            ).first()
            if taken is not None:
                raise DorkError(
                    ErrorCode.CONFLICT,
                    f"The rule {taken.id} has these patterns and this priority; it was made for"
                    f" {taken.managed_by}.",
                    hint="Choose a higher priority: the highest decides.",
                    details={"id": taken.id},
                )
            rules.delete(tx, same, actor=caller.subject)
            rules.insert(tx, new, actor=caller.subject)
            every = rules.stored(tx)
            mine = next(each for each in every if each.rule.id == new.id)
            against = tuple(each.rule for each in every if contradicts(each.rule, mine.rule))
            return mine, against

        return await self._database.write(change)

    async def remove(self, caller: Caller, rule_id: str) -> None:
        """Remove a rule that no registration made.

        Raises `rule_not_found`, and `conflict` for a rule that goes with its agents.
        """

        def change(tx: Transaction) -> None:
            found = next((each for each in rules.stored(tx) if each.rule.id == rule_id), None)
            if found is None:
                raise DorkError(
                    ErrorCode.RULE_NOT_FOUND,
                    f"There is no access rule {rule_id}.",
                    hint="`dorkos relay rules` lists them.",
                )
            if found.managed_by is not None and found.rule.fault is None:
                raise DorkError(
                    ErrorCode.CONFLICT,
                    f"The rule {rule_id} was made for {found.managed_by} and goes with it.",
                    hint=_how_to_overrule(found.managed_by),
                )
            rules.delete(tx, _r.id == rule_id, actor=caller.subject)

        await self._database.write(change)


def _known(revision: str, standing: tuple[Rule, ...]) -> _Known:
    senders: PatternTrie[int] = PatternTrie()
    for place, rule in enumerate(standing):
        senders.add(rule.from_pattern, place)
    return _Known(revision, standing, senders)


def _how_to_overrule(made_for: str) -> str:
    kind, _, ends = made_for.partition(":")
    source, _, target = ends.partition(":")
    if kind == "access":
        return f"`dorkos mesh access {source} {target} deny` removes it."
    return "To decide otherwise, add a rule of a higher priority."
