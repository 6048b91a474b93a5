"""Bringing over messages from files, each once, however often it is asked for.

A message that waits is published as any other, by `relay.system.import`: the rules judge it, and runs start
for it, but no adapter sends it out again. What was delivered or had stopped before is stored as that, and
starts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa

from dorkos.clock import from_iso
from dorkos.db.database import Database, Transaction
from dorkos.db.legacy.ids import derived_id
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.ids import is_ulid, new_id
from dorkos.relay import acks, deadletters, endpoints
from dorkos.relay.adapters.origin import check_origin
from dorkos.relay.adapters.routes import IMPORTER
from dorkos.relay.inbox import DELIVERIES, IS_PENDING, delivery_of
from dorkos.relay.model import Delivery, Endpoint, Envelope
from dorkos.relay.service import RelayService
from dorkos.relay.subjects import is_subject
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, Scope

_IMPORTER = Caller(IMPORTER, frozenset({Scope.SEND}))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TTL_MAX = 253_402_300_799_999
_LEASE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class OldMail:
    """A message to bring over. All but the payload is what its file claims.

    `name` is that of its file: it tells a message without a usable id from others of the mailbox.
    """

    name: str
    status: DeliveryStatus
    payload: str | None
    id: str | None = None
    sender: str | None = None
    reply_to: str | None = None
    created_at: str | None = None
    ttl_ms: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of them: how many came in, how many were there, and which were left out and why."""

    imported: int
    present: int
    refused: tuple[tuple[str, str], ...]


class MailboxImport:
    """Brings messages into mailboxes that are open."""

    def __init__(self, database: Database, relay: RelayService) -> None:
        """`relay` publishes what waits."""
        self._database = database
        self._relay = relay

    async def bring(self, subject: str, mail: Sequence[OldMail]) -> ImportReport:
        """Bring messages into one mailbox, in their order, each in a commit of its own.

        Raises `endpoint_not_found`, with nothing brought over. A message that cannot be brought over does
        not keep the others out.
        """
        await self._database.read(lambda connection: endpoints.get_open(connection, subject))
        imported, present = 0, 0
        refused: list[tuple[str, str]] = []
        for each in mail:
            try:
                if await self._database.write(partial(self._one, subject=subject, mail=each)):
                    imported += 1
                else:
                    present += 1
            except DorkError as refusal:
                if refusal.http_status >= 500:
                    raise
                refused.append((each.name, refusal.message))
        return ImportReport(imported, present, tuple(refused))

    def _one(self, tx: Transaction, subject: str, mail: OldMail) -> bool:
        """Bring one over; False if it is there already."""
        # The lock makes the look for what is there hold: two imports at once must not bring it twice.
        mailbox = endpoints.lock(tx, endpoints.get_open(tx, subject).id)
        assert mailbox is not None
        told_at = _instant(mail.created_at)
        message_id = _id_of(tx, mailbox, mail, told_at)
        if message_id is None:
            return False
        claimed = mail.sender if mail.sender is not None and is_subject(mail.sender) else None
        if mail.status is DeliveryStatus.PENDING:
            check_origin(tx, self._relay.access, claimed, subject)
        envelope = Envelope(
            id=message_id,
            subject=subject,
            payload=mail.payload,
            reply_to=mail.reply_to if mail.reply_to is not None and is_subject(mail.reply_to) else claimed,
            origin=mail.sender,
        )
        receipt = self._relay.publish_in(tx, _IMPORTER, envelope)
        ours = next((each for each in receipt.recipients if each.subject == subject), None)
        if ours is None or receipt.delivered_to == 0:
            why = "; ".join(each.detail or each.outcome.value for each in receipt.recipients)
            raise DorkError(ErrorCode.NOT_DELIVERED, why)
        _restore_times(tx, message_id, told_at, _expiry(mail.ttl_ms, tx.now()))
        if mail.status is not DeliveryStatus.PENDING:
            _settle(tx, mailbox, message_id, mail)
        return True


def _id_of(tx: Transaction, mailbox: Endpoint, mail: OldMail, told_at: datetime | None) -> str | None:
    """The id that the message has here; None if it lies in the mailbox already.

    Its own, unless that is none or belongs to another message: then one that is always the same for it.
    """
    derived = derived_id(f"mail:{mailbox.subject}:{mail.id or mail.name}:{mail.payload}", told_at)
    wanted = mail.id if mail.id is not None and is_ulid(mail.id) else derived
    for candidate in dict.fromkeys((wanted, derived)):
        stored = tx.execute(sa.select(m.c.payload).where(m.c.id == candidate)).one_or_none()
        if stored is None:
            return candidate
        lies_here = tx.execute(
            sa.select(i.c.id).where(i.c.message_id == candidate, i.c.endpoint_id == mailbox.id)
        ).one_or_none()
        if stored.payload == mail.payload and lies_here is not None:
            return None
    return None


def _restore_times(
    tx: Transaction, message_id: str, told_at: datetime | None, expires_at: datetime | None
) -> None:
    """Let a message be as old as it says, and expire only if that lies ahead."""
    values: dict[str, object] = {"expires_at": expires_at}
    if told_at is not None and told_at <= tx.now():
        values["created_at"] = told_at
    tx.execute(sa.update(m).where(m.c.id == message_id).values(values))
    tx.execute(sa.update(i).where(i.c.message_id == message_id).values(expires_at=expires_at))


def _settle(tx: Transaction, mailbox: Endpoint, message_id: str, mail: OldMail) -> None:
    """Let a message have stopped where it stopped, before anybody else could take it."""
    held = _held(tx, mailbox, message_id)
    if mail.status is DeliveryStatus.FAILED:
        detail = mail.reason or "It had failed where it was brought over from."
        deadletters.fail(tx, i.c.id == held.id, DeadLetterReason.REJECTED, detail, actor=_IMPORTER.subject)
        return
    token = new_id()
    tx.execute(
        sa.update(i)
        .where(i.c.id == held.id, IS_PENDING)
        .values(lease_token=token, lease_owner=_IMPORTER.subject, available_at=tx.now() + _LEASE)
    )
    acks.ack(tx, endpoints.mailbox(tx, mailbox.subject), message_id, token, actor=_IMPORTER.subject)


def _held(tx: Transaction, mailbox: Endpoint, message_id: str) -> Delivery:
    row = tx.execute(
        DELIVERIES.where(i.c.message_id == message_id, i.c.endpoint_id == mailbox.id, IS_PENDING)
    ).one()
    return delivery_of(row)


def _instant(text: str | None) -> datetime | None:
    """The time that a file tells; None for none that can be read."""
    if text is None:
        return None
    try:
        return from_iso(text)
    except ValueError:
        return None


def _expiry(ttl_ms: int | None, now: datetime) -> datetime | None:
    if ttl_ms is None or ttl_ms > _TTL_MAX:
        return None
    until = _EPOCH + timedelta(milliseconds=ttl_ms)
    return until if until > now else None
