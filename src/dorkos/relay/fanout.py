"""Fan-out: putting a message into mailboxes, each for itself, and saying what became of it at each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_index
from dorkos.ids import new_id
from dorkos.relay import breaker, deadletters, endpoints, places, replies, trace
from dorkos.relay.access import AccessControl
from dorkos.relay.chain import has_expired
from dorkos.relay.model import Breaker, Endpoint, Message, Receipt, RecipientOutcome, Routes, Stop
from dorkos.relay.subjects import subject_hash
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import BreakerState, DeadLetterReason, PublishOutcome

# What a receipt says of a message that stopped at its publish.
OUTCOMES = {
    DeadLetterReason.DENIED: PublishOutcome.DENIED,
    DeadLetterReason.RATE_LIMITED: PublishOutcome.RATE_LIMITED,
    DeadLetterReason.EXPIRED: PublishOutcome.BUDGET_EXCEEDED,
    DeadLetterReason.HOPS_EXCEEDED: PublishOutcome.BUDGET_EXCEEDED,
    DeadLetterReason.CYCLE: PublishOutcome.BUDGET_EXCEEDED,
    DeadLetterReason.LOOP: PublishOutcome.BUDGET_EXCEEDED,
    DeadLetterReason.BUDGET_EXCEEDED: PublishOutcome.BUDGET_EXCEEDED,
    DeadLetterReason.NO_RECIPIENT: PublishOutcome.NO_RECIPIENT,
    DeadLetterReason.BACKPRESSURE: PublishOutcome.BACKPRESSURE,
    DeadLetterReason.CIRCUIT_OPEN: PublishOutcome.CIRCUIT_OPEN,
}

_INSERT_DELIVERY = Prepared(
    sa.insert(relay_index),
    "id",
    "message_id",
    "endpoint_id",
    "position",
    "available_at",
    "expires_at",
    "created_at",
)


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Why a mailbox did not take a message; `mailbox` None if there is none."""

    stop: Stop
    mailbox: Endpoint | None


def deliver(
    tx: Transaction,
    message: Message,
    settings: RelaySettings,
    routes: Routes,
    access: AccessControl,
    *,
    actor: str,
) -> Receipt:
    """Put the message into the mailbox of its subject and into those of the adapters that listen there.

    Where an adapter listens, a subject without a mailbox of its own is no failure. The rules judge the way
    into each of these mailboxes for itself: who may not send to an adapter does not reach it by another name.
    """
    others = routes.also(tx, message)
    recipients: list[RecipientOutcome] = []
    pressure: dict[str, float] = {}
    for subject in (message.subject, *others):
        place = denied(tx, message, subject, access) or place_in(tx, message, subject, settings)
        if isinstance(place, places.Place):
            is_first = all(each.outcome is not PublishOutcome.DELIVERED for each in recipients)
            _store(tx, message, place, subject, actor, is_first=is_first, is_further=bool(recipients))
            pressure[subject_hash(subject)] = _pressure(tx, place, subject, message.bytes, settings)
            recipients.append(RecipientOutcome(subject, PublishOutcome.DELIVERED))
            continue
        stop, mailbox = place.stop, place.mailbox
        if mailbox is None and others and subject == message.subject:
            continue
        if stop.reason is DeadLetterReason.BACKPRESSURE and mailbox is not None:
            pressure[subject_hash(subject)] = endpoints.pressure(mailbox, settings)
        endpoint_id = mailbox.id if mailbox else None
        deadletters.bury(
            tx,
            message,
            stop.reason,
            stop.detail,
            endpoint_id=endpoint_id,
            actor=actor,
            is_first=not recipients,
        )
        recipients.append(RecipientOutcome(subject, OUTCOMES[stop.reason], stop.detail))
    return Receipt(message.id, message.chain_id, tuple(recipients), pressure)


def denied(tx: Transaction, message: Message, subject: str, access: AccessControl) -> NotTaken | None:
    """Why the rules keep the message out of an adapter's mailbox. Its own subject passed them before."""
    if subject == message.subject:
        return None
    decision = access.decide(tx, message.sender or "", subject)
    if decision.allowed:
        return None
    return NotTaken(Stop(DeadLetterReason.DENIED, decision.why), endpoints.find(tx, subject))


def place_in(
    tx: Transaction, message: Message, subject: str, settings: RelaySettings
) -> places.Place | NotTaken:
    """A place in one mailbox, taken for the message; or why there is none."""
    place = places.take_place(tx, subject, size=message.bytes, settings=settings)
    if place is not None:
        return place
    mailbox = endpoints.find(tx, subject)
    if mailbox is None:
        return NotTaken(Stop(DeadLetterReason.NO_RECIPIENT, f"There is no mailbox {subject}."), None)
    if mailbox.closed_at is not None or has_expired(mailbox.expires_at, tx.now()):
        return NotTaken(Stop(DeadLetterReason.NO_RECIPIENT, _closed(mailbox)), mailbox)
    if replies.is_address(subject) and mailbox.position:
        return NotTaken(
            Stop(DeadLetterReason.NO_RECIPIENT, "The request has been answered already."), mailbox
        )
    fault = endpoints.no_room(mailbox, message.bytes, settings)
    if fault is not None:
        return NotTaken(Stop(DeadLetterReason.BACKPRESSURE, fault), mailbox)
    circuit = breaker.find(tx, mailbox.id)
    if circuit.state is not BreakerState.CLOSED and not breaker.take_probe(
        tx, mailbox.id, settings, subject=subject
    ):
        return NotTaken(Stop(DeadLetterReason.CIRCUIT_OPEN, _open(mailbox, circuit)), mailbox)
    # It is on probation, or there was room again just after the first look.
    place = places.take_place(tx, subject, size=message.bytes, settings=settings, on_probation=True)
    if place is not None:
        return place
    return NotTaken(Stop(DeadLetterReason.BACKPRESSURE, f"The mailbox {subject} is full."), mailbox)


def store_delivery(
    tx: Transaction, message: Message, place: places.Place, *, expires_at: datetime | None
) -> str:
    """Put a message into the place that was taken for it; the id of the delivery."""
    delivery_id = new_id()
    tx.add(
        _INSERT_DELIVERY,
        {
            "id": delivery_id,
            "message_id": message.id,
            "endpoint_id": place.endpoint_id,
            "position": place.position,
            "available_at": message.created_at,
            "expires_at": expires_at,
            "created_at": message.created_at,
        },
    )
    trace.sent(tx, message, hop_id=delivery_id, endpoint_id=place.endpoint_id)
    return delivery_id


def _store(
    tx: Transaction,
    message: Message,
    place: places.Place,
    subject: str,
    actor: str,
    *,
    is_first: bool,
    is_further: bool,
) -> None:
    delivery_id = store_delivery(tx, message, place, expires_at=message.expires_at)
    data = {
        "subject": message.subject,
        "from": message.sender,
        "chainId": message.chain_id,
        "parentId": message.parent_id,
        "runId": message.run_id,
        "endpointId": place.endpoint_id,
        "deliveryId": delivery_id,
    }
    if is_first and is_further:
        # A mailbox before this one did not take it, and told of it first.
        tx.emit("relay.message.published", message.id, data | {"further": True}, actor=actor)
    elif is_first:
        tx.emit("relay.message.published", message.id, data, actor=actor)
    else:
        tx.emit("relay.message.routed", message.id, data | {"mailbox": subject}, actor=actor)


def _pressure(
    tx: Transaction, place: places.Place, subject: str, size: int, settings: RelaySettings
) -> float:
    """How full the mailbox is now. Told as an event when it passes the threshold, and when it is full."""
    now = endpoints.pressure(place, settings)
    warning = settings.pressure_warning_at
    # The mailbox of one reply is meant to be full with it.
    if now < warning or place.expires_at is not None:
        return now
    before = endpoints.pressure(place, settings, without=size)
    state = "critical" if now >= 1.0 > before else "warning" if before < warning else None
    if state is not None:
        data = {
            "subject": subject,
            "state": state,
            "pressure": now,
            "pendingCount": place.pending_count,
            "pendingBytes": place.pending_bytes,
        }
        tx.emit("relay.endpoint.pressure", place.endpoint_id, data, actor=None)
    return now


def _closed(mailbox: Endpoint) -> str:
    if replies.is_address(mailbox.subject):
        until = iso(mailbox.closed_at or mailbox.expires_at or mailbox.created_at)
        return (
            f"Nobody waits for this reply any more: {mailbox.subject} was closed, at the latest at {until}."
        )
    return f"The mailbox {mailbox.subject} is closed."


def _open(mailbox: Endpoint, circuit: Breaker) -> str:
    again = f"; one message is tried at {iso(circuit.probe_at)}" if circuit.probe_at else ""
    return (
        f"Deliveries of the mailbox {mailbox.subject} failed {circuit.failures} times in a row, so it takes"
        f" nothing{again}."
    )
