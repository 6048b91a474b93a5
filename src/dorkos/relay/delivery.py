"""Delivery: a message is taken out of a mailbox under a lease, and stays pending until it is acknowledged.

    pending, unclaimed --claim--> pending, leased --ack--> delivered
            ^                           |
            |--nack, or the lease ends--+--reject, expiry, too many claims--> failed (a dead letter)

Delivery is at least once. A lease that has expired ends nothing by itself: its holder may still ack,
until somebody else has claimed the message. Within a mailbox messages are offered in the order in which
they were accepted; one that was given back with a delay lets later ones pass in the meantime.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_index as i
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay import deadletters, places, trace
from dorkos.relay.chain import has_expired
from dorkos.relay.inbox import DELIVERIES, IS_PENDING, delivery_of
from dorkos.relay.model import Claim, Delivery, Lease, Mailbox
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus

# The most dead letters that one claim makes on its way, so that the change stays short.
STALE_MAX = 500
_PAUSE_S = 0.05

_CLAIMABLE = Prepared(
    DELIVERIES.where(
        i.c.endpoint_id == sa.bindparam("endpoint"),
        IS_PENDING,
        i.c.run_id.is_(None),
        i.c.available_at <= sa.bindparam("now"),
    )
    .order_by(i.c.position)
    .limit(sa.bindparam("most"))
    # On PostgreSQL consumers pass by what another is just claiming. SQLite has one writer.
    .with_for_update(of=i, skip_locked=True)
)

_LEASE = Prepared(
    sa.update(i)
    .where(i.c.id == sa.bindparam("of_delivery"), IS_PENDING, i.c.run_id.is_(None))
    .values(
        attempts=i.c.attempts + 1,
        lease_token=sa.bindparam("token"),
        lease_owner=sa.bindparam("owner"),
        available_at=sa.bindparam("until"),
        claimed_at=sa.bindparam("now"),
    )
)

# What a token holds, of a message in a mailbox.
HELD = (
    i.c.message_id == sa.bindparam("of_message"),
    i.c.endpoint_id == sa.bindparam("endpoint"),
    i.c.lease_token == sa.bindparam("token"),
    IS_PENDING,
)


def claim(tx: Transaction, endpoint: Mailbox, lease: Lease, *, limit: int, max_attempts: int) -> Claim:
    """Lease up to `limit` messages that nobody holds, the longest waiting first.

    A message that has expired, or was claimed `max_attempts` times already, becomes a dead letter on
    the way instead. `lease.token` is new for each claim; it covers everything this claim takes.
    """
    now = tx.now()
    waiting = _claimable(tx, endpoint, now, limit)
    if any(_is_stale(delivery, now, max_attempts) for delivery in waiting):
        bury_stale(tx, endpoint.id, max_attempts=max_attempts)
        waiting = _claimable(tx, endpoint, now, limit)
    live = [delivery for delivery in waiting if not _is_stale(delivery, now, max_attempts)]
    if not live:
        return Claim(endpoint.id, (), 0.0 if waiting else _next_in_s(tx, endpoint.id, now))
    until = now + lease.duration
    held = {"token": lease.token, "owner": lease.owner, "until": until, "now": now}
    tx.run_many(_LEASE, [held | {"of_delivery": each.id} for each in live])
    claimed = tuple(
        replace(
            delivery,
            attempts=delivery.attempts + 1,
            lease_token=lease.token,
            lease_owner=lease.owner,
            available_at=until,
            claimed_at=now,
        )
        for delivery in live
    )
    for delivery in claimed:
        emit(tx, "relay.delivery.claimed", delivery, actor=lease.actor, attempts=delivery.attempts)
    return Claim(endpoint.id, claimed, None)


def settle_delivered(tx: Transaction, delivery: Delivery, *, actor: str) -> None:
    """Settle a pending delivery that the change has locked as delivered, for good."""
    tx.execute(
        sa.update(i)
        .where(i.c.id == delivery.id, IS_PENDING)
        .values(
            status=DeliveryStatus.DELIVERED,
            delivered_at=tx.now(),
            lease_token=None,
            lease_owner=None,
            run_id=None,
        )
    )
    places.leave_one(tx, delivery.endpoint_id, delivery.message.bytes)
    latency_us = trace.delivered(
        tx,
        hop_id=delivery.id,
        sent_at=delivery.created_at,
        claimed_at=delivery.claimed_at,
        run_id=delivery.run_id,
    )
    run = {} if delivery.run_id is None else {"runId": delivery.run_id}
    emit(tx, "relay.delivery.acked", delivery, actor=actor, latencyUs=latency_us, **run)


def nack(
    tx: Transaction,
    endpoint: Mailbox,
    message_id: str,
    token: str,
    *,
    delay: timedelta,
    reject: bool,
    max_attempts: int,
    actor: str,
) -> DeliveryStatus:
    """Give a claimed message back, to be claimable again after `delay`, or reject it for good.

    A message that was claimed `max_attempts` times is not offered again: it becomes a dead letter, as
    does a rejected one. Returns pending or failed. Raises `lease_lost` if the token does not hold it.
    """
    row = tx.execute(
        DELIVERIES.where(*HELD).with_for_update(of=i),
        {"of_message": message_id, "endpoint": endpoint.id, "token": token},
    ).one_or_none()
    if row is None:
        raise not_held(tx, endpoint, message_id)
    delivery = delivery_of(row)
    if reject:
        detail = f"{actor} rejected it."
        deadletters.fail(tx, i.c.id == delivery.id, DeadLetterReason.REJECTED, detail, actor=actor)
        return DeliveryStatus.FAILED
    return give_back(tx, delivery, delay=delay, max_attempts=max_attempts, actor=actor)


def extend(tx: Transaction, endpoint: Mailbox, message_id: str, token: str, duration: timedelta) -> datetime:
    """Hold a claimed message for `duration` from now; the new end. Raises `lease_lost`."""
    until = tx.now() + duration
    extended = tx.execute(
        sa.update(i).where(*HELD).values(available_at=until).returning(i.c.id),
        {"of_message": message_id, "endpoint": endpoint.id, "token": token},
    ).one_or_none()
    if extended is None:
        raise not_held(tx, endpoint, message_id)
    return until


def give_back(
    tx: Transaction, delivery: Delivery, *, delay: timedelta, max_attempts: int, actor: str | None
) -> DeliveryStatus:
    """End the hold on a pending delivery that the change has locked. It waits for `delay`, or stops."""
    if delivery.attempts >= max_attempts:
        detail = _exhausted(max_attempts)
        deadletters.fail(tx, i.c.id == delivery.id, DeadLetterReason.ATTEMPTS_EXHAUSTED, detail, actor=actor)
        return DeliveryStatus.FAILED
    tx.execute(
        sa.update(i)
        .where(i.c.id == delivery.id, IS_PENDING)
        .values(lease_token=None, lease_owner=None, run_id=None, available_at=tx.now() + delay)
    )
    delay_ms = int(delay.total_seconds() * 1000)
    emit(tx, "relay.delivery.nacked", delivery, actor=actor, attempts=delivery.attempts, delayMs=delay_ms)
    return DeliveryStatus.PENDING


def is_held(tx: Transaction, claimed: Delivery) -> bool:
    """Whether the claim that gave this out still holds it; if so, it does until the change ends."""
    held = {
        "of_message": claimed.message.id,
        "endpoint": claimed.endpoint_id,
        "token": claimed.lease_token or "",
    }
    return tx.execute(sa.select(i.c.id).where(*HELD).with_for_update(), held).first() is not None


def put_off(tx: Transaction, delivery: Delivery, *, delay: timedelta, actor: str | None) -> None:
    """End the hold on a pending delivery that the change has locked, as if it had never been claimed. It
    waits for `delay`, in its place."""
    attempts = max(0, delivery.attempts - 1)
    tx.execute(
        sa.update(i)
        .where(i.c.id == delivery.id, IS_PENDING)
        .values(
            lease_token=None,
            lease_owner=None,
            run_id=None,
            attempts=attempts,
            available_at=tx.now() + delay,
        )
    )
    delay_ms = int(delay.total_seconds() * 1000)
    emit(tx, "relay.delivery.nacked", delivery, actor=actor, attempts=attempts, delayMs=delay_ms)


def bury_stale(tx: Transaction, endpoint_id: str, *, max_attempts: int) -> None:
    """Dead-letter what nobody holds in this mailbox and nobody may claim: expired, or claimed too often."""
    now = tx.now()
    here = sa.and_(i.c.endpoint_id == endpoint_id, nobody_holds(now))
    bury_expired(tx, here)
    worn_out = _some(sa.and_(here, i.c.attempts >= max_attempts))
    detail = _exhausted(max_attempts)
    deadletters.fail(tx, i.c.id.in_(worn_out), DeadLetterReason.ATTEMPTS_EXHAUSTED, detail, actor=None)


def bury_expired(tx: Transaction, which: sa.ColumnElement[bool]) -> int:
    """Dead-letter up to STALE_MAX expired deliveries among `which`, which must be held by nobody."""
    expired = _some(sa.and_(which, i.c.expires_at < tx.now()))
    detail = "It expired before anybody acknowledged it."
    return deadletters.fail(tx, i.c.id.in_(expired), DeadLetterReason.EXPIRED, detail, actor=None)


def nobody_holds(now: datetime) -> sa.ColumnElement[bool]:
    """The condition of a pending delivery that neither a run nor a live lease holds."""
    return sa.and_(
        IS_PENDING,
        i.c.run_id.is_(None),
        sa.or_(i.c.lease_token.is_(None), i.c.available_at <= now),
    )


def emit(tx: Transaction, kind: str, delivery: Delivery, *, actor: str | None, **data: object) -> None:
    """Record what happened to a delivery."""
    place = {
        "subject": delivery.endpoint_subject,
        "endpointId": delivery.endpoint_id,
        "deliveryId": delivery.id,
    }
    tx.emit(kind, delivery.message.id, place | data, actor=actor)


def _claimable(tx: Transaction, endpoint: Mailbox, now: datetime, limit: int) -> list[Delivery]:
    rows = tx.run(_CLAIMABLE, {"endpoint": endpoint.id, "now": now, "most": limit})
    return sorted((delivery_of(row) for row in rows), key=lambda delivery: delivery.position)


def _some(which: sa.ColumnElement[bool]) -> sa.Select[tuple[str]]:
    """The ids of up to STALE_MAX of them, locked. A CTE, because PostgreSQL runs a subquery again at will."""
    picked = sa.select(i.c.id).where(which).limit(STALE_MAX).with_for_update(skip_locked=True).cte("picked")
    return sa.select(picked.c.id)


def _is_stale(delivery: Delivery, now: datetime, max_attempts: int) -> bool:
    return has_expired(delivery.expires_at, now) or delivery.attempts >= max_attempts


def _next_in_s(tx: Transaction, endpoint_id: str, now: datetime) -> float | None:
    earliest = tx.execute(
        sa.select(sa.func.min(i.c.available_at)).where(
            i.c.endpoint_id == endpoint_id, IS_PENDING, i.c.run_id.is_(None)
        )
    ).scalar_one()
    # Something that is due already is just being claimed by another: look again, but not at once.
    return None if earliest is None else max(_PAUSE_S, (earliest - now).total_seconds())


def _exhausted(max_attempts: int) -> str:
    return f"It was tried {max_attempts} times and never acknowledged."


def not_held(tx: Transaction, endpoint: Mailbox, message_id: str) -> DorkError:
    """Why the token holds nothing, as the refusal to raise."""
    status = tx.execute(
        sa.select(i.c.status).where(i.c.message_id == message_id, i.c.endpoint_id == endpoint.id)
    ).scalar_one_or_none()
    if status is None:
        return DorkError(
            ErrorCode.DELIVERY_NOT_FOUND,
            f"The mailbox {endpoint.subject} has no message {message_id}.",
            hint="Give the message id and the mailbox of the claim.",
        )
    what = {
        DeliveryStatus.PENDING: "is not held by this lease: it expired and was given to somebody else",
        DeliveryStatus.DELIVERED: "was acknowledged already",
        DeliveryStatus.FAILED: "is a dead letter by now",
    }[status]
    return DorkError(
        ErrorCode.LEASE_LOST,
        f"The message {message_id} {what}.",
        hint="Drop what you hold, and claim again for more.",
    )
