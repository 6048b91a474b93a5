"""Looking at deliveries. Looking never consumes and needs no lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.relay.model import Delivery, Message
from dorkos.vocabulary import DeliveryStatus

# Written out, not bound as a parameter: both engines use a partial index only for a value that they see
# when they plan the statement, and SQLite would plan it anew each time.
IS_PENDING = i.c.status == sa.literal_column("'pending'")

MESSAGE_COLUMNS = tuple(m.c[field.name] for field in fields(Message))

# In the order of the fields of Delivery, without the message.
DELIVERY_COLUMNS = (
    i.c.id,
    i.c.endpoint_id,
    e.c.subject,
    i.c.position,
    i.c.status,
    i.c.attempts,
    i.c.available_at,
    i.c.lease_token,
    i.c.lease_owner,
    i.c.run_id,
    i.c.expires_at,
    i.c.created_at,
    i.c.delivered_at,
    i.c.claimed_at,
)

DELIVERIES = (
    sa.select(*DELIVERY_COLUMNS, *MESSAGE_COLUMNS)
    .join_from(i, e, e.c.id == i.c.endpoint_id)
    .join(m, m.c.id == i.c.message_id)
)


# One message by its id, `of_message`; for paths that are measured.
MESSAGE = Prepared(sa.select(*MESSAGE_COLUMNS).where(m.c.id == sa.bindparam("of_message")))


def message_of(row: Sequence[Any]) -> Message:
    """The message in a row of `MESSAGE_COLUMNS`."""
    return Message(*row)


def delivery_of(row: Sequence[Any]) -> Delivery:
    """The delivery in a row of `DELIVERIES`."""
    own = len(DELIVERY_COLUMNS)
    values: tuple[Any, ...] = (*row[:own], message_of(row[own:]))
    return Delivery(*values)


def newest_first(
    connection: sa.Connection,
    endpoint_id: str,
    *,
    status: DeliveryStatus | None,
    before: str | None,
    limit: int,
) -> list[Delivery]:
    """Deliveries of one mailbox, with their messages. `before` is the id of the last one seen."""
    # The page is chosen from the index alone, then joined: in one statement SQLite may walk the mailboxes
    # first, and then sorts everything that lies in one.
    page = sa.select(i.c.id).where(i.c.endpoint_id == endpoint_id).limit(limit)
    if status is DeliveryStatus.PENDING:
        # Few wait, where a million may lie in the mailbox, and they have an index of their own. SQLite takes
        # it for certain only when one more of its columns is asked for, and when none gives the order.
        page = page.where(IS_PENDING, i.c.position >= 0).order_by((i.c.id + "").desc())
    else:
        page = page.order_by(i.c.id.desc())
        page = page if status is None else page.where(i.c.status == status)
    if status is DeliveryStatus.FAILED:
        # Each has a dead letter: those are few, where all that lies in the mailbox may be a million.
        page = page.where(i.c.message_id.in_(sa.select(d.c.message_id).where(d.c.endpoint_id == endpoint_id)))
    if before is not None:
        page = page.where(i.c.id < before)
    statement = DELIVERIES.where(i.c.id.in_(page)).order_by(i.c.id.desc())
    return [delivery_of(row) for row in connection.execute(statement)]
