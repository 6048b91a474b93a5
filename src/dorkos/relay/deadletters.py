"""Dead letters: messages that stopped, each with a reason from a closed list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.relay import places, trace
from dorkos.relay.inbox import IS_PENDING, MESSAGE_COLUMNS, message_of
from dorkos.relay.model import DeadLetter, LetterFilter, Message
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus

_INSERT = Prepared(
    sa.insert(d), "id", "message_id", "endpoint_id", "reason", "detail", "created_at", "redrive_count"
)
_REDRIVEN = Prepared(
    sa.select(sa.func.coalesce(sa.func.max(d.c.redrive_count), 0)).where(
        d.c.message_id == sa.bindparam("of_message"), d.c.endpoint_id == sa.bindparam("endpoint")
    )
)
_LETTER_COLUMNS = (
    *(d.c.id, e.c.subject, d.c.reason, d.c.detail, d.c.created_at),
    *(d.c.redriven_at, d.c.redriven_by, d.c.redrive_count),
)
_LETTERS = (
    sa.select(*_LETTER_COLUMNS, *MESSAGE_COLUMNS)
    .join_from(d, m, m.c.id == d.c.message_id)
    .join(e, e.c.id == d.c.endpoint_id, isouter=True)
)
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
    delivery_id: str | None = None,
    is_first: bool = False,
) -> None:
    """Record that `message` stopped; `endpoint_id` None if no mailbox has its subject, `delivery_id` None if
    it did not come into any. `is_first`: nothing else was told of the message yet."""
    values: dict[str, Any] = {
        "id": new_id(),
        "message_id": message.id,
        "endpoint_id": endpoint_id,
        "reason": reason,
        "detail": detail,
        "created_at": tx.now(),
        "redrive_count": 0 if delivery_id is None else _redriven(tx, message, endpoint_id),
    }
    tx.run(_INSERT, values)
    if delivery_id is None:
        trace.stopped(tx, message, hop_id=values["id"], endpoint_id=endpoint_id, reason=reason, detail=detail)
    data = {
        "subject": message.subject,
        "from": message.sender,
        "chainId": message.chain_id,
        "endpointId": endpoint_id,
        "deliveryId": delivery_id,
        "reason": reason.value,
        "detail": detail,
    } | ({"first": True} if is_first else {})
    tx.emit("relay.message.dead_lettered", message.id, data, actor=actor)


def fail(
    tx: Transaction,
    which: sa.ColumnElement[bool],
    reason: DeadLetterReason,
    detail: str,
    *,
    actor: str | None,
    run_id: str | None = None,
) -> int:
    """Turn the pending deliveries among `which` into dead letters and count them off their mailboxes.

    Returns how many there were. Nothing is left of a lease: who held one learns it at the next ack. `run_id`
    is the run that held them.
    """
    rows = tx.execute(
        sa.update(i)
        .where(which, IS_PENDING)
        .values(status=DeliveryStatus.FAILED, lease_token=None, lease_owner=None, run_id=None)
        .returning(i.c.id, i.c.message_id, i.c.endpoint_id, i.c.claimed_at)
    ).all()
    if not rows:
        return 0
    trace.failed(tx, [(row.id, row.claimed_at) for row in rows], reason, detail, run_id=run_id)
    messages = _messages(tx, [row.message_id for row in rows])
    places.leave(tx, [(row.endpoint_id, messages[row.message_id].bytes) for row in rows])
    for row in rows:
        bury(
            tx,
            messages[row.message_id],
            reason,
            detail,
            endpoint_id=row.endpoint_id,
            actor=actor,
            delivery_id=row.id,
        )
    return len(rows)


def newest_first(
    connection: sa.Connection | Transaction, which: LetterFilter, *, limit: int
) -> list[DeadLetter]:
    """Dead letters with their messages."""
    statement = _LETTERS.where(*_conditions(which)).order_by(d.c.id.desc()).limit(limit)
    return [_letter(row) for row in connection.execute(statement)]


def get(connection: sa.Connection | Transaction, letter_id: str) -> DeadLetter:
    """One dead letter. Raises `dead_letter_not_found`."""
    row = connection.execute(_LETTERS.where(d.c.id == letter_id)).one_or_none()
    if row is None:
        raise DorkError(
            ErrorCode.DEAD_LETTER_NOT_FOUND,
            f"There is no dead letter {letter_id}.",
            hint="`dorkos relay dead-letters` lists them.",
        )
    return _letter(row)


def oldest_ids(connection: sa.Connection | Transaction, which: LetterFilter, *, limit: int) -> list[str]:
    """Ids of the oldest ones, in their order."""
    statement = (
        sa.select(d.c.id)
        .join_from(d, m, m.c.id == d.c.message_id)
        .join(e, e.c.id == d.c.endpoint_id, isouter=True)
        .where(*_conditions(which))
        .order_by(d.c.id)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def _redriven(tx: Transaction, message: Message, endpoint_id: str | None) -> int:
    return int(tx.run(_REDRIVEN, {"of_message": message.id, "endpoint": endpoint_id})[0][0])


def _conditions(which: LetterFilter) -> list[sa.ColumnElement[bool]]:
    wanted = {
        e.c.hash: which.endpoint_hash,
        m.c.subject: which.subject,
        m.c.sender: which.sender,
        d.c.reason: which.reason,
        m.c.chain_id: which.chain_id,
    }
    found: list[sa.ColumnElement[bool]] = [
        column == value for column, value in wanted.items() if value is not None
    ]
    if not which.redriven:
        found.append(d.c.redriven_at.is_(None))
    if which.older_than is not None:
        found.append(d.c.created_at < which.older_than)
    if which.before is not None:
        found.append(d.c.id < which.before)
    return found


def _letter(row: Sequence[Any]) -> DeadLetter:
    own = len(_LETTER_COLUMNS)
    return DeadLetter(
        id=row[0],
        message=message_of(row[own:]),
        endpoint_subject=row[1],
        reason=row[2],
        detail=row[3],
        created_at=row[4],
        redriven_at=row[5],
        redriven_by=row[6],
        redrive_count=row[7],
    )


def _messages(tx: Transaction, ids: Sequence[str]) -> dict[str, Message]:
    found: dict[str, Message] = {}
    for start in range(0, len(ids), _CHUNK):
        statement = sa.select(*MESSAGE_COLUMNS).where(m.c.id.in_(ids[start : start + _CHUNK]))
        found |= {row.id: message_of(row) for row in tx.execute(statement)}
    return found
