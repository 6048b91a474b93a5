"""What a message inherits: one chain of cause and effect, with one budget that only shrinks.

While a run holds a message, because the message started it or because it claimed it, whatever it sends
continues the message's chain: the same chain id, one hop more, and neither more hops nor a later expiry.
Nothing a sender says can reset this; loops of agents that answer each other end for that reason. What a
run sends after it has acknowledged what it claimed is work of its own, and begins anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.identity.model import Caller
from dorkos.identity.tokens import require_live_run
from dorkos.relay.inbox import IS_PENDING, MESSAGE_COLUMNS, message_of
from dorkos.relay.model import Envelope, Message
from dorkos.settings import RelaySettings
from dorkos.vocabulary import DeadLetterReason


def compose(
    tx: Transaction,
    envelope: Envelope,
    *,
    sender: str,
    size: int,
    caller: Caller,
    settings: RelaySettings,
    most_hops: int,
) -> Message:
    """The message as it will be stored: stamped, and placed in its chain, of at most `most_hops`."""
    now = tx.now()
    causes = _causes(tx, caller)
    # Of several, the one that has come furthest: answering any of them must not gain a hop.
    parent = max(causes, key=lambda cause: cause.hop_count, default=None)
    max_hops = _max_hops(envelope, caller, most_hops)
    expires_at = envelope.expires_at or now + timedelta(seconds=settings.message_ttl_seconds)
    for cause in causes:
        max_hops = min(max_hops, cause.max_hops)
        expires_at = min(expires_at, cause.expires_at or expires_at)
    return Message(
        id=envelope.id,
        subject=envelope.subject,
        sender=sender,
        reply_to=envelope.reply_to,
        payload=envelope.payload,
        bytes=size,
        chain_id=parent.chain_id if parent else caller.run_id or envelope.id,
        parent_id=parent.id if parent else None,
        run_id=caller.run_id,
        hop_count=parent.hop_count + 1 if parent else 0,
        max_hops=max_hops,
        expires_at=expires_at,
        created_at=now,
    )


def spent(message: Message, now: datetime) -> tuple[DeadLetterReason, str] | None:
    """Why the budget of `message` does not allow it to be delivered, or None if it does."""
    if message.hop_count >= message.max_hops:
        return (
            DeadLetterReason.HOPS_EXCEEDED,
            f"This would be message {message.hop_count + 1} of a chain that may have {message.max_hops}.",
        )
    if has_expired(message.expires_at, now):
        return DeadLetterReason.EXPIRED, "The message had expired when it was sent."
    return None


def has_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether the time is over. The instant itself still counts as in time."""
    return expires_at is not None and expires_at < now


def _max_hops(envelope: Envelope, caller: Caller, most: int) -> int:
    """The sender may ask for fewer hops than it may have; only the operator may ask for more."""
    if envelope.max_hops is None:
        return most
    return envelope.max_hops if caller.is_operator else min(envelope.max_hops, most)


def _causes(tx: Transaction, caller: Caller) -> list[Message]:
    """The messages that the caller's run holds: the one that started it, and those it claimed by hand.

    Raises `token_invalid` once the run has ended.
    """
    if caller.run_id is None:
        return []
    # The mailbox is found first, by one of its indexes: its pending deliveries are few, all are many.
    mine = e.c.subject == caller.subject
    if caller.agent_id is not None:
        mine = sa.or_(mine, e.c.agent_id == caller.agent_id)
    held = sa.or_(i.c.run_id == caller.run_id, i.c.lease_owner == caller.run_id)
    rows = tx.execute(
        sa.select(*MESSAGE_COLUMNS)
        .join_from(e, i, i.c.endpoint_id == e.c.id)
        .join(m, m.c.id == i.c.message_id)
        .where(mine, IS_PENDING, held)
        .order_by(i.c.position)
    ).all()
    # Either no message is held, or the run has ended since the request was let in. The second would begin
    # a new chain with a full budget.
    if not rows:
        require_live_run(tx, caller.run_id)
    return [message_of(row) for row in rows]
