"""Putting dead letters back into their mailboxes, by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_dead_letters as d
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.identity.model import Caller
from dorkos.relay import deadletters, fanout, places, replies, trace
from dorkos.relay.access import AccessControl
from dorkos.relay.model import DeadLetter, Stop
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeliveryStatus, PublishOutcome


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of one dead letter: `delivered`, or why it stays what it is."""

    letter: DeadLetter
    outcome: PublishOutcome
    detail: str | None = None


def redrive(
    tx: Transaction, letter_id: str, caller: Caller, settings: RelaySettings, access: AccessControl
) -> Redriven:
    """Put the message of a dead letter into its mailbox again, last in line, with all its attempts before it.

    It keeps its id, sender, payload and place in its chain; it expires after the settings' time from now. The
    rules that hold now, the mailbox's room and its circuit decide anew. What stopped it as a loop or for its
    budget does not: that is what the person decides. Repeating it changes nothing more. Raises
    `dead_letter_not_found`.
    """
    letter = deadletters.get(tx, letter_id)
    if letter.redriven_at is not None:
        return Redriven(letter, PublishOutcome.DELIVERED, "It was put back before.")
    message = letter.message
    subject = letter.endpoint_subject or message.subject
    stop = replies.denied(tx, access, message.sender or caller.subject, message.subject)
    if stop is not None:
        return _stays(letter, stop)
    place = fanout.denied(tx, message, subject, access) or fanout.place_in(tx, message, subject, settings)
    if isinstance(place, fanout.NotTaken):
        return _stays(letter, place.stop)
    if not _mark(tx, letter, caller):
        # Another did it just now; its change has the place, so this one must not keep a second.
        places.leave(tx, [(place.endpoint_id, message.bytes)])
        return Redriven(letter, PublishOutcome.DELIVERED, "It was put back before.")
    delivery_id, is_new = _put_back(tx, letter, place, settings)
    data = {
        "subject": message.subject,
        "from": message.sender,
        "chainId": message.chain_id,
        "endpointId": place.endpoint_id,
        "deliveryId": delivery_id,
        "deadLetterId": letter.id,
        "reason": letter.reason.value,
        "newDelivery": is_new,
    }
    tx.emit("relay.message.redriven", message.id, data, actor=caller.subject)
    return Redriven(letter, PublishOutcome.DELIVERED)


def _stays(letter: DeadLetter, stop: Stop) -> Redriven:
    return Redriven(letter, fanout.OUTCOMES[stop.reason], stop.detail)


def _mark(tx: Transaction, letter: DeadLetter, caller: Caller) -> bool:
    marked = tx.execute(
        sa.update(d)
        .where(d.c.id == letter.id, d.c.redriven_at.is_(None))
        .values(redriven_at=tx.now(), redriven_by=caller.subject, redrive_count=d.c.redrive_count + 1)
        .returning(d.c.id)
    ).one_or_none()
    return marked is not None


def _put_back(
    tx: Transaction, letter: DeadLetter, place: places.Place, settings: RelaySettings
) -> tuple[str, bool]:
    """The delivery, which is made if the message had never come so far."""
    now = tx.now()
    expires_at = now + timedelta(seconds=settings.message_ttl_seconds)
    if place.expires_at is not None:
        expires_at = min(expires_at, place.expires_at)
    tx.execute(sa.update(m).where(m.c.id == letter.message.id).values(expires_at=expires_at))
    again = tx.execute(
        sa.update(i)
        .where(
            i.c.message_id == letter.message.id,
            i.c.endpoint_id == place.endpoint_id,
            i.c.status == DeliveryStatus.FAILED,
        )
        .values(
            status=DeliveryStatus.PENDING,
            position=place.position,
            attempts=0,
            available_at=now,
            expires_at=expires_at,
            claimed_at=None,
        )
        .returning(i.c.id)
    ).scalar_one_or_none()
    if again is not None:
        trace.again(tx, again)
        return again, False
    return fanout.store_delivery(tx, letter.message, place, expires_at=expires_at), True
