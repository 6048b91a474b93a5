"""What a message inherits: one chain of cause and effect, with one budget that only shrinks.

While a run holds a message, because the message started it or because it claimed it, whatever it sends
continues the message's chain: the same chain id, one hop more, one call less, and neither more hops nor a
later expiry. So does what an agent sends with its own token while it holds a claim, and every reply. Nothing
a sender says can reset this; loops of agents that answer each other end for that reason. What is sent after
all that was claimed is acknowledged is work of its own, and begins anew.

A run keeps its chain also when it holds no message: a later attempt sends in the chain of the first, and one
that goes on with the session of a run that a message started follows from that message, as that run did. Only
the time of that message counts no more: whoever lets a run go on does so after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_index as i
from dorkos.db.schema.relay import relay_messages as m
from dorkos.identity.model import Caller
from dorkos.identity.tokens import require_live_run
from dorkos.relay import replies
from dorkos.relay.inbox import IS_PENDING, MESSAGE, MESSAGE_COLUMNS, message_of
from dorkos.relay.model import Envelope, Message, Stop
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason

# The mailbox is found first, by one of its indexes: its pending deliveries are few, all are many.
_HELD = (
    sa.select(*MESSAGE_COLUMNS)
    .join_from(e, i, i.c.endpoint_id == e.c.id)
    .join(m, m.c.id == i.c.message_id)
    .order_by(i.c.position)
)
_CLAIMED = Prepared(
    _HELD.where(
        e.c.subject == sa.bindparam("of_subject"),
        e.c.pending_count > 0,
        IS_PENDING,
        i.c.lease_owner == sa.bindparam("owner"),
        i.c.available_at > sa.bindparam("now"),
    )
)
_RUN = Prepared(
    sa.select(pulse_runs.c.chain_id, pulse_runs.c.context).where(pulse_runs.c.id == sa.bindparam("of_run"))
)
# Where a run that a message started keeps the id of that message; its later attempts have it as well.
MESSAGE_VARIABLE = "DORKOS_MESSAGE_ID"


@dataclass(frozen=True, slots=True)
class Placed:
    """A message in its chain. `causes` are the messages that it follows from, none if it begins one."""

    message: Message
    causes: Sequence[Message]
    expects_reply: bool = False


def compose(
    tx: Transaction,
    envelope: Envelope,
    *,
    sender: str,
    size: int,
    caller: Caller,
    settings: RelaySettings,
    most_hops: int,
) -> Placed:
    """The message as it will be stored: stamped, and placed in its chain, of at most `most_hops`."""
    now = tx.now()
    causes, of_run = _causes(tx, caller, envelope)
    # Of several, the one that has come furthest: answering any of them must not gain a hop.
    parent = max(causes, key=lambda cause: cause.hop_count, default=None)
    max_hops = _at_most(envelope.max_hops, most_hops, caller)
    calls_left = _at_most(envelope.calls, settings.call_budget, caller)
    expires_at = envelope.expires_at or now + timedelta(seconds=settings.message_ttl_seconds)
    if envelope.reply_within is not None:
        # Nobody is to work on what is not waited for any more.
        expires_at = min(expires_at, now + envelope.reply_within)
    for cause in causes:
        max_hops = min(max_hops, cause.max_hops)
        expires_at = min(expires_at, cause.expires_at or expires_at)
        calls_left = calls_left if cause.calls_left is None else min(calls_left, cause.calls_left - 1)
    message = Message(
        id=envelope.id,
        subject=envelope.subject,
        sender=sender,
        reply_to=envelope.reply_to if envelope.reply_within is None else replies.address_of(envelope.id),
        payload=envelope.payload,
        bytes=size,
        chain_id=parent.chain_id if parent else of_run or envelope.id,
        parent_id=parent.id if parent else None,
        run_id=caller.run_id,
        hop_count=parent.hop_count + 1 if parent else 0,
        max_hops=max_hops,
        calls_left=max(calls_left, 0),
        ancestors=path_to(parent) if parent else (),
        expires_at=expires_at,
        created_at=now,
        traceparent=envelope.traceparent,
    )
    return Placed(message, causes, expects_reply=envelope.reply_within is not None)


def spent(placed: Placed, now: datetime) -> Stop | None:
    """Why the budget of a message does not allow it to be delivered, or None if it does."""
    message = placed.message
    if message.hop_count >= message.max_hops:
        return Stop(
            DeadLetterReason.HOPS_EXCEEDED,
            f"This would be message {message.hop_count + 1} of a chain that may have {message.max_hops}:"
            f" {_shown(message)}.",
        )
    if placed.expects_reply and message.hop_count + 1 >= message.max_hops:
        return Stop(
            DeadLetterReason.HOPS_EXCEEDED,
            f"Its reply would be message {message.hop_count + 2} of a chain that may have {message.max_hops}:"
            f" {_shown(message)}.",
        )
    if placed.causes and is_cycle(message.subject, placed.causes):
        return Stop(
            DeadLetterReason.CYCLE,
            f"The chain has come through {message.subject} already, which asked nothing of the sender:"
            f" {_shown(message)}.",
        )
    if has_expired(message.expires_at, now):
        return Stop(DeadLetterReason.EXPIRED, "The message had expired when it was sent.")
    if message.calls_left is not None and message.calls_left <= 0:
        return Stop(
            DeadLetterReason.BUDGET_EXCEEDED, f"The calls of the chain are used up: {_shown(message)}."
        )
    return None


def is_cycle(target: str, causes: Sequence[Message]) -> bool:
    """Whether a chain that came through `target` would come there again, other than by a reply.

    It is a reply if it goes to whoever asked the sender in this chain: the sender or the answer address of
    what it holds, or the mailbox from which the chain came into its own at any time before.
    """
    came_through = False
    for cause in causes:
        path = path_to(cause)
        if target in (cause.sender, cause.reply_to) or (target, cause.subject) in pairwise(path):
            return False
        came_through = came_through or target in path
    return came_through


def path_to(cause: Message) -> tuple[str, ...]:
    """The mailboxes that a chain has come through when somebody holds `cause`, oldest first."""
    return (*cause.ancestors, cause.subject)


def has_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether the time is over. The instant itself still counts as in time."""
    return expires_at is not None and expires_at < now


def _shown(message: Message) -> str:
    return f"chain {message.chain_id}, {' -> '.join((*message.ancestors, message.subject))}"


def _at_most(wanted: int | None, most: int, caller: Caller) -> int:
    """The sender may ask for less than it may have; only the operator may ask for more."""
    if wanted is None:
        return most
    return wanted if caller.is_operator else min(wanted, most)


def _causes(tx: Transaction, caller: Caller, envelope: Envelope) -> tuple[Sequence[Message], str | None]:
    """The messages that the caller holds, and the one that it answers; and the chain of the caller's run.

    Raises `token_invalid` once the run has ended.
    """
    answers = envelope.answers or replies.request_of(envelope.subject)
    causes: list[Message] = []
    of_run = caller.run_id
    if caller.run_id is not None:
        causes = _held_by_run(tx, caller, caller.run_id)
        if not causes:
            of_run, causes = _origin(tx, caller.run_id)
    elif caller.agent_id is not None:
        values = {"of_subject": caller.subject, "owner": caller.subject, "now": tx.now()}
        causes = [message_of(row) for row in tx.run(_CLAIMED, values)]
    if answers is not None and all(cause.id != answers for cause in causes):
        causes += [message_of(row) for row in tx.run(MESSAGE, {"of_message": answers})]
    return causes, of_run


def _origin(tx: Transaction, run_id: str) -> tuple[str, list[Message]]:
    """The chain of a run that holds nothing, and the message that its first attempt was started by."""
    for chain_id, context in tx.run(_RUN, {"of_run": run_id}):
        started_by = (context or {}).get(MESSAGE_VARIABLE, "")
        rows = tx.run(MESSAGE, {"of_message": started_by}) if started_by else []
        return chain_id, [replace(message_of(row), expires_at=None) for row in rows]
    return run_id, []


def _held_by_run(tx: Transaction, caller: Caller, run_id: str) -> list[Message]:
    """The message that started the run, and those that it claimed by hand."""
    mine = e.c.subject == caller.subject
    if caller.agent_id is not None:
        mine = sa.or_(mine, e.c.agent_id == caller.agent_id)
    held = sa.or_(i.c.run_id == run_id, i.c.lease_owner == run_id)
    rows = tx.execute(_HELD.where(mine, IS_PENDING, held)).all()
    # Either no message is held, or the run has ended since the request was let in. The second would begin
    # a new chain with a full budget.
    if not rows:
        require_live_run(tx, run_id)
    return [message_of(row) for row in rows]
