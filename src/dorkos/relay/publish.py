"""Publishing: one function that reads as its steps, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass

from dorkos.db.database import Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.relay import chain, deadletters, endpoints, fanout, idempotency, messages, rates, replies
from dorkos.relay.access import AccessControl
from dorkos.relay.model import (
    Envelope,
    Message,
    Receipt,
    RecipientOutcome,
    Routes,
    SenderBudgets,
    Stop,
)
from dorkos.relay.subjects import validate_subject
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason


@dataclass(frozen=True, slots=True)
class Gates:
    """Whom publishing asks: who may send to whom, what agents may spend, where adapters listen."""

    access: AccessControl
    budgets: SenderBudgets
    routes: Routes


def publish(
    tx: Transaction, envelope: Envelope, caller: Caller, settings: RelaySettings, gates: Gates
) -> Receipt:
    """Store a message and put it into the mailbox of its subject, and into those of adapters that listen.

    The receipt equals what is stored. A message that is not accepted into a mailbox is stored all the same,
    as a dead letter with the reason. What cannot be a message at all is refused and leaves nothing:
    raises `invalid_subject`, `wildcard_not_allowed`, `sender_mismatch`, `message_too_large` and
    `idempotency_conflict`.
    """
    _check_addresses(envelope)
    sender = caller.speaks_as(envelope.claimed_sender)
    repeated = idempotency.earlier(tx, envelope, sender)
    if repeated is not None:
        return repeated
    size = _check_size(envelope, settings)
    placed = chain.compose(
        tx,
        envelope,
        sender=sender,
        size=size,
        caller=caller,
        settings=settings,
        most_hops=_most_hops(tx, caller, settings, gates),
    )
    if not messages.insert(tx, placed.message, envelope):
        # Another publish with the same key has just been committed: this one is its repetition.
        return publish(tx, envelope, caller, settings, gates)
    stop = _stop(tx, placed, caller, settings, gates)
    if stop is not None:
        receipt = _stopped(tx, placed.message, stop, caller)
    else:
        receipt = fanout.deliver(
            tx, placed.message, settings, gates.routes, gates.access, actor=caller.subject
        )
    if placed.expects_reply and receipt.delivered_to:
        replies.open_mailbox(tx, placed.message, endpoint_id=new_id(), actor=caller.subject)
    idempotency.remember(tx, envelope, receipt)
    return receipt


def _stop(
    tx: Transaction, placed: chain.Placed, caller: Caller, settings: RelaySettings, gates: Gates
) -> Stop | None:
    """Why the message may reach nobody, or None. All gates stand here, before any costly path.

    The agent's budget is taken last: what is refused for another reason costs it nothing.
    """
    message = placed.message
    sender = message.sender or caller.subject
    # The message is stamped by now, so the rules judge who really speaks, operator and runs included.
    stop = replies.denied(tx, gates.access, sender, message.subject)
    is_bound = rates.binds(caller)
    if stop is None and is_bound:
        stop = rates.take_rate(tx, sender, settings)
    if stop is None:
        stop = chain.spent(placed, tx.now())
    if stop is None and is_bound and not replies.is_address(message.subject):
        stop = rates.take_turn(tx, sender, message.subject, settings)
    if stop is None and caller.agent_id is not None:
        stop = _over_agents_budget(tx, caller.agent_id, gates)
    return stop


def _stopped(tx: Transaction, message: Message, stop: Stop, caller: Caller) -> Receipt:
    """Keep a message that may not reach any mailbox as a dead letter of the mailbox it was for."""
    mailbox = endpoints.find(tx, message.subject)
    deadletters.bury(
        tx,
        message,
        stop.reason,
        stop.detail,
        endpoint_id=mailbox.id if mailbox else None,
        actor=caller.subject,
        is_first=True,
    )
    recipient = RecipientOutcome(message.subject, fanout.OUTCOMES[stop.reason], stop.detail)
    return Receipt(message.id, message.chain_id, (recipient,), {})


def _most_hops(tx: Transaction, caller: Caller, settings: RelaySettings, gates: Gates) -> int:
    own = None if caller.agent_id is None else gates.budgets.max_hops(tx, caller.agent_id)
    return own or settings.max_hops


def _over_agents_budget(tx: Transaction, agent_id: str, gates: Gates) -> Stop | None:
    """Why the agent that sends may not, or None."""
    refusal = gates.budgets.take_call(tx, agent_id)
    if refusal is None:
        return None
    over = refusal.code == DeadLetterReason.BUDGET_EXCEEDED
    return Stop(DeadLetterReason.BUDGET_EXCEEDED if over else DeadLetterReason.DENIED, refusal.detail)


def _check_addresses(envelope: Envelope) -> None:
    validate_subject(envelope.subject)
    if envelope.claimed_sender is not None:
        validate_subject(envelope.claimed_sender)
    if envelope.reply_to is not None:
        validate_subject(envelope.reply_to)
    idempotency.check_key(envelope.key)


def _check_size(envelope: Envelope, settings: RelaySettings) -> int:
    """Bytes of the payload as compact JSON in UTF-8; an absent payload has none."""
    size = 0 if envelope.payload is None else len(envelope.payload.encode("utf-8"))
    if size > settings.max_message_bytes:
        raise DorkError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"The payload has {size} bytes as JSON; at most {settings.max_message_bytes} are allowed.",
            hint="Store the data in a file and send its path, or raise `relay.maxMessageBytes`.",
            details={"bytes": size, "maxBytes": settings.max_message_bytes},
        )
    return size
