"""Requests: messages that somebody waits for the answer to.

The mailbox of the reply is opened in the change that stores the request, takes one message and closes at the
deadline. The reply waits there in storage, so neither a broken connection nor a restart loses it; whoever
waits reads it from there, and an event only says when to look. What comes after the deadline, or second, is a
dead letter like every message to a closed mailbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay import delivery, endpoints, messages, replies
from dorkos.relay.chain import has_expired
from dorkos.relay.inbox import DELIVERIES, IS_PENDING, delivery_of
from dorkos.relay.model import Endpoint, Message, StoredMessage
from dorkos.vocabulary import DeliveryStatus


class RequestState(StrEnum):
    """Where a request stands. `failed`: there will be no reply, and it is known why."""

    PENDING = "pending"
    REPLIED = "replied"
    EXPIRED = "expired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Request:
    """A request and what became of it. `detail` says why there is no reply, where there is none.

    `mailbox_id` is where the reply comes to, None if the request was not delivered.
    """

    message: Message
    state: RequestState
    mailbox_id: str | None = None
    reply: Message | None = None
    detail: str | None = None


def find(connection: sa.Connection | Transaction, request_id: str, now: datetime) -> Request:
    """Where a request stands. Raises `message_not_found` for what is none.

    A reply that came in time stays the reply, whether anybody has read it or not.
    """
    stored = messages.get(connection, request_id)
    if stored.message.reply_to != replies.address_of(request_id):
        raise DorkError(
            ErrorCode.MESSAGE_NOT_FOUND,
            f"The message {request_id} is no request.",
            hint="A request is sent by `dorkos relay request`.",
        )
    mailbox = endpoints.find(connection, replies.address_of(request_id))
    if mailbox is None:
        return Request(stored.message, RequestState.FAILED, detail=_why(connection, stored.message))
    reply = _reply(connection, mailbox)
    if reply is not None:
        return Request(stored.message, RequestState.REPLIED, mailbox.id, reply)
    stopped = _stopped_reply(connection, stored.message, mailbox)
    if stopped is not None:
        return Request(stored.message, RequestState.FAILED, mailbox.id, detail=stopped)
    if has_expired(stored.message.expires_at, now):
        return Request(stored.message, RequestState.EXPIRED, mailbox.id, detail=_how_far(stored))
    if stored.status is DeliveryStatus.FAILED:
        why = _why(connection, stored.message)
        return Request(stored.message, RequestState.FAILED, mailbox.id, detail=why)
    return Request(stored.message, RequestState.PENDING, mailbox.id)


def collect(tx: Transaction, mailbox_id: str, *, actor: str) -> None:
    """Settle the reply as delivered, because the one who asked has read it, and close its mailbox.

    Harmless to repeat.
    """
    row = tx.execute(
        DELIVERIES.where(i.c.endpoint_id == mailbox_id, IS_PENDING).with_for_update(of=i)
    ).first()
    if row is not None:
        delivery.settle_delivered(tx, delivery_of(row), actor=actor)
    endpoints.mark_closed(tx, e.c.id == mailbox_id, actor=actor)


def answerable(tx: Transaction, message_id: str, mailbox: str | None) -> Message:
    """The message that somebody wants to reply to, which must have come to `mailbox`; None allows any.

    Raises `message_not_found`.
    """
    statement = DELIVERIES.where(i.c.message_id == message_id)
    if mailbox is not None:
        statement = statement.where(e.c.subject == mailbox)
    row = tx.execute(statement.limit(1)).first()
    if row is None:
        raise DorkError(
            ErrorCode.MESSAGE_NOT_FOUND,
            f"No message {message_id} came to {mailbox or 'a mailbox'}.",
            hint="Only who got a message can reply to it; `dorkos relay inbox` shows what came.",
        )
    return delivery_of(row).message


def _reply(connection: sa.Connection | Transaction, mailbox: Endpoint) -> Message | None:
    statement = DELIVERIES.where(i.c.endpoint_id == mailbox.id).order_by(i.c.position).limit(1)
    row = connection.execute(statement).first()
    return None if row is None else delivery_of(row).message


def _stopped_reply(
    connection: sa.Connection | Transaction, request: Message, mailbox: Endpoint
) -> str | None:
    """Why the reply of the one who was asked did not get through, or None."""
    detail = connection.execute(
        sa.select(d.c.detail)
        .join_from(d, m, m.c.id == d.c.message_id)
        .where(
            d.c.endpoint_id == mailbox.id,
            m.c.sender == request.subject,
            d.c.created_at <= request.expires_at,
        )
        .order_by(d.c.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    return None if detail is None else f"Its reply was stopped. {detail}"


def _why(connection: sa.Connection | Transaction, request: Message) -> str:
    detail = connection.execute(
        sa.select(d.c.detail).where(d.c.message_id == request.id).order_by(d.c.id.desc()).limit(1)
    ).scalar_one_or_none()
    return str(detail or "It was not delivered.")


def _how_far(stored: StoredMessage) -> str:
    """Where a request stands that got no reply in time, in words."""
    subject = stored.message.subject
    if stored.status is DeliveryStatus.DELIVERED:
        return f"{subject} took it and did not reply in time."
    if any(each.run_id is not None for each in stored.deliveries):
        return f"A run of {subject} is at work on it, and has not replied in time."
    if any(each.attempts for each in stored.deliveries):
        return f"{subject} took it, did not acknowledge it, and has not replied in time."
    return f"Nobody took it at {subject} in time."
