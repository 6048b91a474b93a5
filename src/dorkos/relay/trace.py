"""The hops of messages: one row for a message at each mailbox, written in the change that moves it.

    sent --acknowledged--> delivered
      |                        a redrive begins anew: ^ sent
      +--stopped--> failed, or timeout where its time ran out

A hop has the id of its delivery, or of the dead letter where there was none. What a chain led to is read from
here, also after retention took the messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_traces as t
from dorkos.relay.model import Message
from dorkos.vocabulary import DeadLetterReason, TraceStatus

_HOP = (
    *("id", "message_id", "trace_id", "parent_id", "endpoint_id", "run_id", "subject", "sender", "status"),
    *("hop_count", "sent_at"),
)
_SENT = Prepared(sa.insert(t), *_HOP)
_STOPPED = Prepared(sa.insert(t), *_HOP, "error_message")
_DELIVERED = Prepared(
    sa.update(t)
    .where(t.c.id == sa.bindparam("hop"))
    .values(
        status=TraceStatus.DELIVERED,
        run_id=sa.bindparam("by_run"),
        delivered_at=sa.bindparam("taken"),
        processed_at=sa.bindparam("now"),
        latency_us=sa.bindparam("latency"),
        error_message=None,
    )
)
_FAILED = Prepared(
    sa.update(t)
    .where(t.c.id == sa.bindparam("hop"))
    .values(
        status=sa.bindparam("as_status", type_=t.c.status.type),
        run_id=sa.bindparam("by_run"),
        delivered_at=sa.bindparam("taken"),
        processed_at=sa.bindparam("now"),
        error_message=sa.bindparam("detail"),
    )
)
_AGAIN = Prepared(
    sa.update(t)
    .where(t.c.id == sa.bindparam("hop"))
    .values(
        status=TraceStatus.SENT,
        run_id=None,
        delivered_at=None,
        processed_at=None,
        latency_us=None,
        error_message=None,
    )
)


def sent(tx: Transaction, message: Message, *, hop_id: str, endpoint_id: str) -> None:
    """The message lies in a mailbox."""
    tx.add(_SENT, _values(message, hop_id, endpoint_id, TraceStatus.SENT))


def stopped(
    tx: Transaction,
    message: Message,
    *,
    hop_id: str,
    endpoint_id: str | None,
    reason: DeadLetterReason,
    detail: str,
) -> None:
    """The message stopped before it came into a mailbox."""
    values = _values(message, hop_id, endpoint_id, _status(reason)) | {"error_message": detail}
    tx.run(_STOPPED, values)


def delivered(
    tx: Transaction,
    *,
    hop_id: str,
    sent_at: datetime,
    claimed_at: datetime | None,
    run_id: str | None,
) -> int:
    """A delivery was acknowledged, just now; how long that took from its publish, in microseconds."""
    now = tx.now()
    latency_us = max(0, (now - sent_at) // timedelta(microseconds=1))
    values = {"hop": hop_id, "by_run": run_id, "taken": claimed_at, "now": now, "latency": latency_us}
    tx.add(_DELIVERED, values)
    return latency_us


def failed(
    tx: Transaction,
    gone: Sequence[tuple[str, datetime | None]],
    reason: DeadLetterReason,
    detail: str,
    *,
    run_id: str | None,
) -> None:
    """Deliveries became dead letters, given as (id, when it was claimed last); `run_id` held them."""
    common = {"as_status": _status(reason), "by_run": run_id, "now": tx.now(), "detail": detail}
    tx.run_many(_FAILED, [common | {"hop": each, "taken": taken} for each, taken in gone])


def again(tx: Transaction, delivery_id: str) -> None:
    """A dead letter was put back into its mailbox."""
    tx.run(_AGAIN, {"hop": delivery_id})


def _values(message: Message, hop_id: str, endpoint_id: str | None, status: TraceStatus) -> dict[str, object]:
    return {
        "id": hop_id,
        "message_id": message.id,
        "trace_id": message.chain_id,
        "parent_id": message.parent_id,
        "endpoint_id": endpoint_id,
        "run_id": None,
        "subject": message.subject,
        "sender": message.sender,
        "status": status,
        "hop_count": message.hop_count,
        "sent_at": message.created_at,
    }


def _status(reason: DeadLetterReason) -> TraceStatus:
    return TraceStatus.TIMEOUT if reason is DeadLetterReason.EXPIRED else TraceStatus.FAILED
