"""Keys by which a sender that repeats itself is recognised: one message, and one receipt, for each.

The unique key (sender, key) of the messages decides, so two at once make one message, on any number of
servers. The receipt stands with the message and is what a repetition is answered with.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.model import Envelope, Receipt, RecipientOutcome
from dorkos.vocabulary import PublishOutcome

WINDOW = timedelta(hours=24)
KEY_LENGTH_MAX = 255

_FIRST = Prepared(
    sa.select(m.c.id, m.c.chain_id, m.c.body_hash, m.c.metadata, m.c.created_at).where(
        m.c.sender == sa.bindparam("of_sender"), m.c.idempotency_key == sa.bindparam("of_key")
    )
)
_KEEP = Prepared(
    sa.update(m).where(m.c.id == sa.bindparam("message")).values(metadata=sa.bindparam("receipt"))
)


def earlier(tx: Transaction, envelope: Envelope, sender: str) -> Receipt | None:
    """The receipt of the sender's earlier publish with this key, None if there was none within the window.

    Raises `idempotency_conflict` if that was another message. A key that is past the window is given free.
    """
    if envelope.key is None:
        return None
    found = tx.run(_FIRST, {"of_sender": sender, "of_key": envelope.key})
    if not found:
        return None
    message_id, chain_id, body_hash, stored, created_at = found[0]
    if _is_over(created_at, tx.now()):
        tx.execute(
            sa.update(m)
            .where(m.c.id == message_id, m.c.idempotency_key == envelope.key)
            .values(idempotency_key=None, body_hash=None)
        )
        return None
    if body_hash != body_hash_of(envelope):
        raise DorkError(
            ErrorCode.IDEMPOTENCY_CONFLICT,
            f"The key {envelope.key!r} was used for another message, {message_id}.",
            hint="Repeat a publish exactly as it was, or give a new message a key of its own.",
            details={"messageId": message_id},
        )
    return _receipt(message_id, chain_id, stored)


def remember(tx: Transaction, envelope: Envelope, receipt: Receipt) -> None:
    """Keep the receipt for repetitions, if the message has a key."""
    if envelope.key is None:
        return
    shown = {
        "recipients": [[each.subject, each.outcome, each.detail] for each in receipt.recipients],
        "pressure": dict(receipt.pressure),
    }
    tx.run(_KEEP, {"message": receipt.message_id, "receipt": {"receipt": shown}})


def body_hash_of(envelope: Envelope) -> str:
    """What two publishes must have in common to be one: everything that the sender said but the key."""
    said = [
        envelope.subject,
        envelope.payload,
        envelope.reply_to,
        envelope.max_hops,
        envelope.calls,
        None if envelope.expires_at is None else iso(envelope.expires_at),
        envelope.answers,
        None if envelope.reply_within is None else envelope.reply_within.total_seconds(),
        envelope.origin,
    ]
    return hashlib.sha256(to_json(said).encode("utf-8")).hexdigest()


def check_key(key: str | None) -> None:
    """Refuse what is no key. Raises `validation_failed`."""
    if key is not None and not (1 <= len(key) <= KEY_LENGTH_MAX and key.isprintable()):
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The idempotency key has to have 1 to {KEY_LENGTH_MAX} printable characters.",
            hint="Use a random id for each message, the same one when you repeat it.",
        )


def _is_over(created_at: datetime, now: datetime) -> bool:
    return created_at <= now - WINDOW


def _receipt(message_id: str, chain_id: str, stored: Any) -> Receipt:
    kept = stored["receipt"]
    recipients = tuple(
        RecipientOutcome(subject, PublishOutcome(outcome), detail)
        for subject, outcome, detail in kept["recipients"]
    )
    return replace(Receipt(message_id, chain_id, recipients, kept["pressure"]), duplicate=True)
