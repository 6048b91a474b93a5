"""Acknowledging: what was claimed is settled as delivered, for good.

Consumers acknowledge message by message, often many at once. Those that follow one another in a commit are
settled together, on PostgreSQL by one trip to it. Each has an answer of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dorkos.db.batch import Alike
from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.identity.tokens import require_live_run
from dorkos.relay import breaker, endpoints, places, trace
from dorkos.relay.delivery import HELD, not_held
from dorkos.relay.model import Mailbox
from dorkos.vocabulary import DeliveryStatus, EndpointConsumer

_ACK = Prepared(
    sa.update(i)
    .where(*HELD)
    .values(
        status=DeliveryStatus.DELIVERED, delivered_at=sa.bindparam("now"), lease_token=None, lease_owner=None
    )
    .returning(
        i.c.id,
        i.c.created_at,
        i.c.claimed_at,
        sa.select(m.c.bytes).where(m.c.id == sa.bindparam("of_message")).scalar_subquery().label("bytes"),
    )
)


@dataclass(frozen=True, slots=True)
class Held:
    """What is to be acknowledged: a message in a mailbox, and the token of the claim that took it."""

    mailbox: Mailbox
    message_id: str
    token: str
    actor: str
    run_id: str | None = None
    """The run that took it, if one did."""


@dataclass(frozen=True, slots=True)
class Ack(Alike):
    """A change that settles what its caller claimed from a mailbox.

    Raises what `ack` raises, `endpoint_not_found`, and what a run that ended while its request waited is
    refused with.
    """

    caller: Caller
    subject: str
    message_id: str
    token: str

    def __call__(self, tx: Transaction) -> None:
        """Settle it alone."""
        _raise_if(*self.together(tx, [self]))

    @classmethod
    def together(cls, tx: Transaction, changes: Sequence[Ack]) -> list[DorkError | None]:
        """Settle several in their order."""
        refusals: list[DorkError | None] = [None] * len(changes)
        held: dict[int, Held] = {}
        for place, change in enumerate(changes):
            try:
                held[place] = _held(tx, change)
            except DorkError as refusal:
                refusals[place] = refusal
        for place, refused in zip(held, _settle(tx, list(held.values())), strict=True):
            refusals[place] = refused
        return refusals


def ack(tx: Transaction, mailbox: Mailbox, message_id: str, token: str, *, actor: str) -> None:
    """Settle a claimed message as delivered, for good.

    Raises `lease_lost` if the token does not hold the message. That includes a second ack: after the first
    nothing is held any more, and the message of the refusal says that it was acknowledged.
    """
    _raise_if(*_settle(tx, [Held(mailbox, message_id, token, actor)]))


def _held(tx: Transaction, change: Ack) -> Held:
    caller = change.caller
    if caller.run_id is not None:
        require_live_run(tx, caller.run_id)
    mailbox = endpoints.mailbox(tx, change.subject)
    return Held(mailbox, change.message_id, change.token, caller.subject, caller.run_id)


def _settle(tx: Transaction, several: Sequence[Held]) -> list[DorkError | None]:
    """Settle each in its turn; what it is refused with, None if it is not."""
    now = tx.now()
    found = tx.run_many(
        _ACK,
        [
            {"of_message": held.message_id, "endpoint": held.mailbox.id, "token": held.token, "now": now}
            for held in several
        ],
    )
    refusals: list[DorkError | None] = []
    for held, rows in zip(several, found, strict=True):
        if rows:
            _tell(tx, held, rows[0])
            refusals.append(None)
        else:
            refusals.append(not_held(tx, held.mailbox, held.message_id))
    return refusals


def _tell(tx: Transaction, held: Held, row: Sequence[Any]) -> None:
    """Count and record that it was delivered."""
    delivery_id, sent_at, claimed_at, size = row
    mailbox = held.mailbox
    places.leave_one(tx, mailbox.id, size)
    if mailbox.consumer is not EndpointConsumer.CLAIM:
        breaker.success(tx, mailbox.id, subject=mailbox.subject)
    latency_us = trace.delivered(
        tx, hop_id=delivery_id, sent_at=sent_at, claimed_at=claimed_at, run_id=held.run_id
    )
    data = {
        "subject": mailbox.subject,
        "endpointId": mailbox.id,
        "deliveryId": delivery_id,
        "latencyUs": latency_us,
    }
    tx.emit("relay.delivery.acked", held.message_id, data, actor=held.actor)


def _raise_if(refusal: DorkError | None) -> None:
    if refusal is not None:
        raise refusal
