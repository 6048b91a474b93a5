"""Messages in the database: each envelope once, however many mailboxes it went to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert as insert_or_not

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.idempotency import body_hash_of
from dorkos.relay.inbox import DELIVERY_COLUMNS, IS_PENDING, MESSAGE, MESSAGE_COLUMNS, message_of
from dorkos.relay.model import Delivery, Envelope, Message, StoredMessage
from dorkos.vocabulary import DeliveryStatus

_FIELDS = tuple(field.name for field in fields(Message))
_INSERT = Prepared(sa.insert(m), *_FIELDS)
_INSERT_WITH_MORE = Prepared(
    insert_or_not(m)
    .on_conflict_do_nothing(
        index_elements=["sender", "idempotency_key"], index_where=m.c.idempotency_key.is_not(None)
    )
    .returning(m.c.id),
    *_FIELDS,
    "idempotency_key",
    "body_hash",
    "claimed_sender",
)
_MINE = i.c.message_id == m.c.id
_ITS_DELIVERIES = Prepared(
    sa.select(*DELIVERY_COLUMNS)
    .join_from(i, e, e.c.id == i.c.endpoint_id)
    .where(i.c.message_id == sa.bindparam("of_message"))
    .order_by(i.c.id)
)


def insert(tx: Transaction, message: Message, envelope: Envelope) -> bool:
    """Store a message. False if the sender has just used the key of the envelope for another."""
    values = {name: getattr(message, name) for name in _FIELDS}
    if envelope.key is None and envelope.origin is None:
        tx.add(_INSERT, values)
        return True
    more = {
        "idempotency_key": envelope.key,
        "body_hash": None if envelope.key is None else body_hash_of(envelope),
        "claimed_sender": envelope.origin,
    }
    return bool(tx.run(_INSERT_WITH_MORE, values | more))


def get(connection: sa.Connection | Transaction, message_id: str) -> StoredMessage:
    """A message with its deliveries. Raises `message_not_found`."""
    row = connection.execute(sa.select(*MESSAGE_COLUMNS).where(m.c.id == message_id)).one_or_none()
    if row is None:
        raise DorkError(
            ErrorCode.MESSAGE_NOT_FOUND,
            f"There is no message {message_id}.",
            hint="`dorkos relay messages` lists the newest.",
        )
    return _with_deliveries(connection, [message_of(row)])[0]


def newest_first(
    connection: sa.Connection,
    *,
    subject: str | None,
    sender: str | None,
    status: DeliveryStatus | None,
    before: str | None,
    limit: int,
) -> list[StoredMessage]:
    """Messages with their deliveries. `before` is the id of the last one seen."""
    statement = sa.select(*MESSAGE_COLUMNS).order_by(m.c.id.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(m.c.subject == subject)
    if sender is not None:
        statement = statement.where(m.c.sender == sender)
    if status is not None:
        statement = statement.where(_stands(status))
    # What waits and what failed is little beside all that is stored: it is looked for where it is.
    if status is DeliveryStatus.PENDING:
        statement = statement.where(m.c.id.in_(sa.select(i.c.message_id).where(IS_PENDING)))
    elif status is DeliveryStatus.FAILED:  # Each has a dead letter.
        statement = statement.where(m.c.id.in_(sa.select(d.c.message_id)))
    if before is not None:
        statement = statement.where(m.c.id < before)
    return _with_deliveries(connection, [message_of(row) for row in connection.execute(statement)])


def of_ids(connection: sa.Connection, ids: Sequence[str]) -> list[StoredMessage]:
    """Messages with their deliveries, in the order of the ids; those that are gone are left out."""
    rows = connection.execute(sa.select(*MESSAGE_COLUMNS).where(m.c.id.in_(ids)))
    by_id = {row.id: message_of(row) for row in rows}
    return _with_deliveries(connection, [by_id[each] for each in ids if each in by_id])


def each_of(connection: sa.Connection, ids: Sequence[str]) -> list[StoredMessage]:
    """The same as `of_ids`, for a few that are asked for often: those who watch see each message."""
    found = []
    for message_id in ids:
        for row in MESSAGE.run(connection, {"of_message": message_id}):
            message = message_of(row)
            its = _ITS_DELIVERIES.run(connection, {"of_message": message_id})
            deliveries = tuple(Delivery(*(*each, message)) for each in its)
            found.append(StoredMessage(message, status_of(deliveries), deliveries))
    return found


def status_of(deliveries: Collection[Delivery]) -> DeliveryStatus:
    """Where a message stands: failed if any delivery failed or none was made, else pending if any is."""
    found = {delivery.status for delivery in deliveries}
    if not found or DeliveryStatus.FAILED in found:
        return DeliveryStatus.FAILED
    return DeliveryStatus.PENDING if DeliveryStatus.PENDING in found else DeliveryStatus.DELIVERED


def _stands(status: DeliveryStatus) -> sa.ColumnElement[bool]:
    """`status_of` as a condition on a message."""
    any_one = sa.exists().where(_MINE)
    failed = sa.exists().where(_MINE, i.c.status == DeliveryStatus.FAILED)
    pending = sa.exists().where(_MINE, IS_PENDING)
    if status is DeliveryStatus.FAILED:
        return sa.or_(failed, ~any_one)
    if status is DeliveryStatus.PENDING:
        return sa.and_(pending, ~failed)
    return sa.and_(any_one, ~failed, ~pending)


def _with_deliveries(connection: sa.Connection | Transaction, messages: list[Message]) -> list[StoredMessage]:
    by_id = {message.id: message for message in messages}
    of: dict[str, list[Delivery]] = {message.id: [] for message in messages}
    statement = (
        sa.select(i.c.message_id, *DELIVERY_COLUMNS)
        .join_from(i, e, e.c.id == i.c.endpoint_id)
        .where(i.c.message_id.in_(list(by_id)))
        .order_by(i.c.id)
    )
    for row in connection.execute(statement):
        values: tuple[Any, ...] = (*row[1:], by_id[row[0]])
        of[row[0]].append(Delivery(*values))
    return [StoredMessage(message, status_of(of[message.id]), tuple(of[message.id])) for message in messages]
