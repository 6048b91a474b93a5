"""Publishing: one function that reads as its steps, in the caller's transaction."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_index
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.relay import chain, deadletters, endpoints, messages
from dorkos.relay.access import AccessControl
from dorkos.relay.model import Envelope, Message, Receipt, RecipientOutcome, SenderBudgets
from dorkos.relay.subjects import subject_hash, validate_subject
from dorkos.settings import RelaySettings
from dorkos.vocabulary import DeadLetterReason, PublishOutcome

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


def publish(
    tx: Transaction,
    envelope: Envelope,
    caller: Caller,
    settings: RelaySettings,
    *,
    budgets: SenderBudgets,
    access: AccessControl,
) -> Receipt:
    """Store a message and put it into the mailbox of its subject.

    The receipt equals what is stored. A message that is not accepted into a mailbox is stored all the same,
    as a dead letter with the reason. What cannot be a message at all is refused and leaves nothing:
    raises `invalid_subject`, `wildcard_not_allowed`, `sender_mismatch` and `message_too_large`.
    """
    _check_addresses(envelope)
    sender = caller.speaks_as(envelope.claimed_sender)
    size = _check_size(envelope, settings)
    most_hops = settings.max_hops
    if caller.agent_id is not None:
        most_hops = budgets.max_hops(tx, caller.agent_id) or most_hops
    message = chain.compose(
        tx, envelope, sender=sender, size=size, caller=caller, settings=settings, most_hops=most_hops
    )
    messages.insert(tx, message)

    # The message is stamped by now, so the rules judge who really speaks, operator and runs included.
    decision = access.decide(tx, sender, message.subject)
    if not decision.allowed:
        return _stopped(tx, message, caller, DeadLetterReason.DENIED, decision.why)

    over_budget = chain.spent(message, tx.now()) or _over_agents_budget(tx, caller, budgets)
    if over_budget is not None:
        return _stopped(tx, message, caller, *over_budget)

    place = endpoints.take_place(tx, message.subject, size=size, most=settings.max_mailbox_size)
    if place is None:
        return _not_taken(tx, message, caller, settings)

    _deliver(tx, message, place, caller)
    return _receipt(
        message, PublishOutcome.DELIVERED, pressure=place.pending_count / settings.max_mailbox_size
    )


def _stopped(
    tx: Transaction, message: Message, caller: Caller, reason: DeadLetterReason, detail: str
) -> Receipt:
    """Keep a message that may not reach any mailbox as a dead letter of the mailbox it was for."""
    mailbox = endpoints.find(tx, message.subject)
    deadletters.bury(
        tx, message, reason, detail, endpoint_id=mailbox.id if mailbox else None, actor=caller.subject
    )
    is_denied = reason is DeadLetterReason.DENIED
    return _receipt(message, PublishOutcome.DENIED if is_denied else PublishOutcome.BUDGET_EXCEEDED, detail)


def _over_agents_budget(
    tx: Transaction, caller: Caller, budgets: SenderBudgets
) -> tuple[DeadLetterReason, str] | None:
    """Why the agent that sends may not, or None. Counted last: what is refused for another reason costs
    nothing."""
    if caller.agent_id is None:
        return None
    refusal = budgets.take_call(tx, caller.agent_id)
    if refusal is None:
        return None
    over = refusal.code == DeadLetterReason.BUDGET_EXCEEDED
    return DeadLetterReason.BUDGET_EXCEEDED if over else DeadLetterReason.DENIED, refusal.detail


def _check_addresses(envelope: Envelope) -> None:
    validate_subject(envelope.subject)
    if envelope.claimed_sender is not None:
        validate_subject(envelope.claimed_sender)
    if envelope.reply_to is not None:
        validate_subject(envelope.reply_to)


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


def _deliver(tx: Transaction, message: Message, place: endpoints.Place, caller: Caller) -> None:
    delivery_id = new_id()
    tx.run(
        _INSERT_DELIVERY,
        {
            "id": delivery_id,
            "message_id": message.id,
            "endpoint_id": place.endpoint_id,
            "position": place.position,
            "available_at": message.created_at,
            "expires_at": message.expires_at,
            "created_at": message.created_at,
        },
    )
    data = {
        "subject": message.subject,
        "from": message.sender,
        "chainId": message.chain_id,
        "parentId": message.parent_id,
        "runId": message.run_id,
        "endpointId": place.endpoint_id,
        "deliveryId": delivery_id,
    }
    tx.emit("relay.message.published", message.id, data, actor=caller.subject)


def _not_taken(tx: Transaction, message: Message, caller: Caller, settings: RelaySettings) -> Receipt:
    """Say why no mailbox took the message: it is full, closed or does not exist."""
    endpoint = endpoints.find(tx, message.subject)
    if endpoint is None:
        detail = f"There is no mailbox {message.subject}."
        deadletters.bury(
            tx, message, DeadLetterReason.NO_RECIPIENT, detail, endpoint_id=None, actor=caller.subject
        )
        return _receipt(message, PublishOutcome.NO_RECIPIENT, detail)
    if endpoint.closed_at is not None:
        detail = f"The mailbox {message.subject} is closed."
        deadletters.bury(
            tx, message, DeadLetterReason.NO_RECIPIENT, detail, endpoint_id=endpoint.id, actor=caller.subject
        )
        return _receipt(message, PublishOutcome.NO_RECIPIENT, detail)
    detail = f"The mailbox {message.subject} is full: {endpoint.pending_count} messages wait in it."
    deadletters.bury(
        tx, message, DeadLetterReason.BACKPRESSURE, detail, endpoint_id=endpoint.id, actor=caller.subject
    )
    return _receipt(
        message,
        PublishOutcome.BACKPRESSURE,
        detail,
        pressure=endpoint.pending_count / settings.max_mailbox_size,
    )


def _receipt(
    message: Message, outcome: PublishOutcome, detail: str | None = None, *, pressure: float | None = None
) -> Receipt:
    return Receipt(
        message_id=message.id,
        chain_id=message.chain_id,
        recipients=(RecipientOutcome(message.subject, outcome, detail),),
        pressure={} if pressure is None else {subject_hash(message.subject): min(pressure, 1.0)},
    )
