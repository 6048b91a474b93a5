"""Taking settled deliveries, dead letters and messages away, and telling how many, in one change.

What waits is never taken. A message goes with the last thing that is known of it; its trace stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.vocabulary import DeliveryStatus

# Rows that one change takes; both engines bound the parameters of one statement, too.
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows went: messages by subject, deliveries by status, standing dead letters by reason.

    `redriven` counts dead letters that had been put back.
    """

    subjects: Mapping[str, int]
    delivered: int
    failed: int
    reasons: Mapping[str, int]
    redriven: int = 0

    @property
    def messages(self) -> int:
        """All messages that went."""
        return sum(self.subjects.values())

    @property
    def letters(self) -> int:
        """All dead letters that went."""
        return sum(self.reasons.values()) + self.redriven


def remove_letters(tx: Transaction, ids: Sequence[str], *, cause: str, actor: str | None) -> Removed:
    """Take dead letters away with the failed deliveries that they tell of."""
    rows = tx.execute(
        sa.delete(d)
        .where(d.c.id.in_(ids))
        .returning(d.c.message_id, d.c.endpoint_id, d.c.reason, d.c.redriven_at)
    ).all()
    standing = [row for row in rows if row.redriven_at is None]
    failed = 0
    for row in standing:
        if row.endpoint_id is not None:
            gone = sa.delete(i).where(
                i.c.message_id == row.message_id,
                i.c.endpoint_id == row.endpoint_id,
                i.c.status == DeliveryStatus.FAILED,
            )
            failed += tx.execute(gone).rowcount
    reasons = Counter(row.reason.value for row in standing)
    subjects = _orphans(tx, {row.message_id for row in rows})
    return _told(tx, Removed(subjects, 0, failed, reasons, len(rows) - len(standing)), cause, actor)


def remove_delivered(tx: Transaction, ids: Sequence[str], *, cause: str, actor: str | None) -> Removed:
    """Take deliveries away that were acknowledged."""
    rows = tx.execute(
        sa.delete(i).where(i.c.id.in_(ids), i.c.status == DeliveryStatus.DELIVERED).returning(i.c.message_id)
    ).all()
    subjects = _orphans(tx, {row.message_id for row in rows})
    return _told(tx, Removed(subjects, len(rows), 0, {}), cause, actor)


def _orphans(tx: Transaction, message_ids: set[str]) -> Counter[str]:
    """Take those messages away of which nothing is left; how many by subject."""
    rows = tx.execute(
        sa.delete(m)
        .where(
            m.c.id.in_(sorted(message_ids)),
            ~sa.exists().where(i.c.message_id == m.c.id),
            ~sa.exists().where(d.c.message_id == m.c.id),
        )
        .returning(m.c.subject)
    )
    return Counter(rows.scalars())


def _told(tx: Transaction, removed: Removed, cause: str, actor: str | None) -> Removed:
    if removed.delivered or removed.letters:
        data = {
            "cause": cause,
            "messages": removed.messages,
            "subjects": dict(removed.subjects),
            "delivered": removed.delivered,
            "failed": removed.failed,
            "reasons": dict(removed.reasons),
        }
        tx.emit("relay.messages.removed", cause, data, actor=actor)
    return removed
