"""Access rules in the database. Every change of them goes through here, with its event and a new revision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db import rules_revision
from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_rules
from dorkos.db.types import Text
from dorkos.relay.policy import Rule, in_order, is_readable, unreadable
from dorkos.vocabulary import RuleAction

_r = relay_rules.c

# The action as it is stored: a word that is none must not make the rules unreadable as a whole.
_DECIDING = (
    _r.id,
    _r.from_pattern,
    _r.to_pattern,
    sa.type_coerce(_r.action, Text).label("action"),
    _r.priority,
    _r.position,
)


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule with what is known of it. `managed_by` says what it was made for and goes with."""

    rule: Rule
    description: str | None
    managed_by: str | None
    created_by: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewRule:
    """A rule to store. `id` is made outside the change; `position` None puts it behind its equals."""

    id: str
    from_pattern: str
    to_pattern: str
    action: RuleAction
    priority: int
    description: str | None = None
    managed_by: str | None = None
    position: int | None = None


def deciding(source: sa.Connection | Transaction) -> tuple[Rule, ...]:
    """All rules in the order in which they decide. A row that cannot be understood denies everything."""
    return in_order(_rule_of(row) for row in source.execute(sa.select(*_DECIDING)))


def stored(source: sa.Connection | Transaction) -> list[StoredRule]:
    """All rules in the order in which they decide, with what is known of them."""
    statement = sa.select(*_DECIDING, _r.description, _r.managed_by, _r.created_by, _r.created_at)
    found = {row[0]: StoredRule(_rule_of(row), *row[6:]) for row in source.execute(statement)}
    return [found[rule.id] for rule in in_order(each.rule for each in found.values())]


def insert(tx: Transaction, new: NewRule, *, actor: str | None) -> None:
    """Store a rule. It binds every publish after this commit, on every server."""
    position = new.position
    if position is None:
        last = sa.select(sa.func.max(_r.position)).where(_r.priority == new.priority)
        position = (tx.execute(last).scalar() or 0) + 1
    values = {
        "id": new.id,
        "from_pattern": new.from_pattern,
        "to_pattern": new.to_pattern,
        "action": new.action,
        "priority": new.priority,
        "position": position,
        "description": new.description,
        "managed_by": new.managed_by,
        "created_by": actor,
        "created_at": tx.now(),
    }
    tx.execute(sa.insert(relay_rules), values)
    data = {
        "from": new.from_pattern,
        "to": new.to_pattern,
        "action": new.action.value,
        "priority": new.priority,
        "managedBy": new.managed_by,
    }
    tx.emit("relay.rule.added", new.id, data, actor=actor)
    _renew(tx)


def delete(tx: Transaction, which: sa.ColumnElement[bool], *, actor: str | None) -> int:
    """Remove the rules among `which`, and say how many there were."""
    rows = tx.execute(sa.delete(relay_rules).where(which).returning(*_DECIDING, _r.managed_by)).all()
    for row in sorted(rows):
        data = {
            "from": row.from_pattern,
            "to": row.to_pattern,
            "action": row.action,
            "priority": row.priority,
            "managedBy": row.managed_by,
        }
        tx.emit("relay.rule.removed", row.id, data, actor=actor)
    if rows:
        _renew(tx)
    return len(rows)


def _renew(tx: Transaction) -> None:
    # Last in each change of rules: its row is then always locked after theirs, so no two can deadlock.
    rules_revision.renew(tx)


def _rule_of(row: sa.Row[Any]) -> Rule:
    for name, pattern in (("from", row.from_pattern), ("to", row.to_pattern)):
        if not is_readable(pattern):
            return unreadable(row.id, f"`{name}` is {pattern!r}, which is no pattern")
    if row.action not in list(RuleAction):
        return unreadable(row.id, f"`action` is {row.action!r}, which is neither allow nor deny")
    action = RuleAction(row.action)
    return Rule(row.id, row.from_pattern, row.to_pattern, action, row.priority, row.position)
