"""Dead letters: messages that stopped, each with a reason from a closed list."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.ids import new_id
from dorkos.relay import endpoints
from dorkos.relay.inbox import IS_PENDING, MESSAGE_COLUMNS, message_of
from dorkos.relay.model import DeadLetter, Message
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus

# Both engines bound the number of parameters of one statement.
_CHUNK = 500


def bury(
    tx: Transaction,
    message: Message,
    reason: DeadLetterReason,
    detail: str,
    *,
    endpoint_id: str | None,
    actor: str | None,
) -> None:
    """Record that `message` stopped; `endpoint_id` None if it reached no mailbox."""
    values = {
        "id": new_id(),
        "message_id": message.id,
        "endpoint_id": endpoint_id,
        "reason": reason,
        "detail": detail,
        "created_at": tx.now(),
    }
    tx.execute(sa.insert(d), values)
    data = {
        "subject": message.subject,
        "from": message.sender,
        "chainId": message.chain_id,
        "endpointId": endpoint_id,
        "reason": reason.value,
        "detail": detail,
    }
    tx.emit("relay.message.dead_lettered", message.id, data, actor=actor)


def fail(
    tx: Transaction,
    which: sa.ColumnElement[bool],
    reason: DeadLetterReason,
    detail: str,
    *,
    actor: str | None,
) -> int:
    """Turn the pending deliveries among `which` into dead letters and count them off their mailboxes.

    Returns how many there were. Nothing is left of a lease: who held one learns it at the next ack.
    """
    rows = tx.execute(
        sa.update(i)
        .where(which, IS_PENDING)
        .values(status=DeliveryStatus.FAILED, lease_token=None, lease_owner=None, run_id=None)
        .returning(i.c.message_id, i.c.endpoint_id)
    ).all()
    messages = _messages(tx, [row.message_id for row in rows])
    endpoints.leave(tx, [(row.endpoint_id, messages[row.message_id].bytes) for row in rows])
    for row in rows:
        bury(tx, messages[row.message_id], reason, detail, endpoint_id=row.endpoint_id, actor=actor)
    return len(rows)


def newest_first(
    connection: sa.Connection, *, endpoint_hash: str | None, before: str | None, limit: int
) -> list[DeadLetter]:
    """Dead letters with their messages. `before` is the id of the last one seen."""
    statement = (
        sa.select(d.c.id, e.c.subject, d.c.reason, d.c.detail, d.c.created_at, *MESSAGE_COLUMNS)
        .join_from(d, m, m.c.id == d.c.message_id)
        .join(e, e.c.id == d.c.endpoint_id, isouter=True)
        .order_by(d.c.id.desc())
        .limit(limit)
    )
    if endpoint_hash is not None:
        statement = statement.where(e.c.hash == endpoint_hash)
    if before is not None:
        statement = statement.where(d.c.id < before)
    return [
        DeadLetter(
            id=row[0],
            message=message_of(row[5:]),
            endpoint_subject=row[1],
            reason=row[2],
            detail=row[3],
            created_at=row[4],
        )
        for row in connection.execute(statement)
    ]


def _messages(tx: Transaction, ids: Sequence[str]) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for start in range(0, len(ids), _CHUNK):
        statement = sa.select(*MESSAGE_COLUMNS).where(m.c.id.in_(ids[start : start + _CHUNK]))
        found |= {row.id: message_of(row) for row in tx.execute(statement)}
    return found
