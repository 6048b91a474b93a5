"""Relay's words: mailboxes, messages, deliveries and receipts, and the ports it needs from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dorkos.db.database import Transaction
from dorkos.fleet import Fleet
from dorkos.vocabulary import (
    BreakerState,
    DeadLetterReason,
    DeliveryStatus,
    EndpointConsumer,
    PublishOutcome,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A mailbox: one concrete subject that keeps what is sent to it."""

    id: str
    subject: str
    hash: str
    description: str | None
    agent_id: str | None
    consumer: EndpointConsumer
    position: int
    pending_count: int
    pending_bytes: int
    max_pending: int | None
    max_pending_bytes: int | None
    expires_at: datetime | None
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """What of a mailbox stays as it is while messages come and go."""

    id: str
    subject: str
    consumer: EndpointConsumer
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit of a mailbox: open after `failures` faults of delivery in a row.

    `probe_at` is when one message may be tried, or when the one that is being tried is given up.
    """

    state: BreakerState
    failures: int
    opened_at: datetime | None = None
    probe_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope. `payload` is JSON text as it was sent, None if there was none; `bytes` is its size.
    `traceparent` is the trace of others that its sender named.

    `calls_left` None means that nobody set a limit. `ancestors` are the mailboxes that the chain went through
    before this one, oldest first.
    """

    id: str
    subject: str
    sender: str | None
    reply_to: str | None
    payload: str | None
    bytes: int
    chain_id: str
    parent_id: str | None
    run_id: str | None
    hop_count: int
    max_hops: int
    calls_left: int | None
    ancestors: Sequence[str]
    expires_at: datetime | None
    created_at: datetime
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message on its way to one mailbox, together with the message."""

    id: str
    endpoint_id: str
    endpoint_subject: str
    position: int
    status: DeliveryStatus
    attempts: int
    available_at: datetime
    lease_token: str | None
    lease_owner: str | None
    run_id: str | None
    expires_at: datetime | None
    created_at: datetime
    delivered_at: datetime | None
    claimed_at: datetime | None
    message: Message


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message that somebody wants to publish.

    `id` is made outside the change. `payload` is JSON text (see `payload.encode`), None for a message without
    one. `claimed_sender` is what the caller says of itself; it is checked and never believed. `max_hops`,
    `calls` and `expires_at` None take the settings' defaults. `answers` is the message that this one replies
    to: it continues that chain, also when nothing is held any more. `key` is the sender's own name for this
    publish: a second one with it within a day is answered with the receipt of the first. `reply_within` makes
    it a request: a mailbox for its one reply is opened with it, for so long, and is its `reply_to`.

    `origin` and `traceparent` are data and bind nothing: who a file from elsewhere says it is from, and the
    W3C trace context that the sender gave.
    """

    id: str
    subject: str
    payload: str | None = None
    claimed_sender: str | None = None
    reply_to: str | None = None
    max_hops: int | None = None
    calls: int | None = None
    expires_at: datetime | None = None
    answers: str | None = None
    reply_within: timedelta | None = None
    key: str | None = None
    origin: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a message goes no further: the reason of its dead letter, and a sentence."""

    reason: DeadLetterReason
    detail: str


@dataclass(frozen=True, slots=True)
class Lease:
    """How a claim holds what it takes: who, by which token, for how long.

    `owner` is the run that claims, or the caller's subject outside of a run; `actor` is the subject.
    """

    owner: str
    actor: str
    token: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim got, in mailbox order.

    If that is nothing, `next_in_s` says after how many seconds to look again: 0 if this claim only made
    dead letters and did not get through them, None if nothing waits for a time to come. `held_by` is the
    fleet's mode if that is why there is nothing.
    """

    endpoint_id: str
    deliveries: tuple[Delivery, ...]
    next_in_s: float | None
    held_by: Fleet | None = None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message together with its deliveries and where it stands as a whole."""

    message: Message
    status: DeliveryStatus
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """What became of a message at one recipient. `subject` is the mailbox, or the target if none matched."""

    subject: str
    outcome: PublishOutcome
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The truth about a publish at its commit: every recipient with its outcome, equal to what is stored.

    `duplicate` says that this is the receipt of an earlier publish with the same key: nothing was stored now.
    """

    message_id: str
    chain_id: str
    recipients: tuple[RecipientOutcome, ...]
    pressure: Mapping[str, float]
    duplicate: bool = False

    @property
    def delivered_to(self) -> int:
        """How many mailboxes hold the message."""
        return sum(1 for recipient in self.recipients if recipient.outcome is PublishOutcome.DELIVERED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that stopped, and why. `redrive_count` counts how often it was put back before or since."""

    id: str
    message: Message
    endpoint_subject: str | None
    reason: DeadLetterReason
    detail: str
    created_at: datetime
    redriven_at: datetime | None
    redriven_by: str | None
    redrive_count: int


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters: all that agree with whatever is given. `before` is an id, `older_than` an instant.

    Those that were redriven are left out unless `redriven` says otherwise.
    """

    endpoint_hash: str | None = None
    subject: str | None = None
    sender: str | None = None
    reason: DeadLetterReason | None = None
    chain_id: str | None = None
    older_than: datetime | None = None
    redriven: bool = False
    before: str | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that a message asks for. `context` becomes environment variables of its program."""

    agent_id: str
    delivery_id: str
    chain_id: str
    prompt: str
    context: Mapping[str, str]


class CallRefusal(Protocol):
    """Why an agent may not act now. `code` is `budget_exceeded` or `path_denied`."""

    @property
    def code(self) -> str:
        """The word for it, the same wherever an agent is refused."""
        ...

    @property
    def detail(self) -> str:
        """The reason in words."""
        ...


class SenderBudgets(Protocol):
    """Port to Mesh: what an agent that sends may spend."""

    def take_call(self, tx: Transaction, agent_id: str) -> CallRefusal | None:
        """Count a message on the agent's budget, or say why it may not be sent."""
        ...

    def max_hops(self, tx: Transaction, agent_id: str) -> int | None:
        """How many messages a chain may have that the agent sends into; None for one that is unknown."""
        ...


class Routes(Protocol):
    """Port to the adapters: in which mailboxes a message is put besides that of its subject."""

    def also(self, tx: Transaction, message: Message, /) -> Sequence[str]:
        """The subjects of those mailboxes, without the message's own and without that of its sender.

        Nothing is read that is not needed.
        """
        ...


def _nowhere(_tx: Transaction, _message: Message, /) -> Sequence[str]:
    return ()


class NoRoutes:
    """Where there are no adapters."""

    def __init__(self) -> None:
        """Lead nowhere."""
        self.also = _nowhere


class RunStarter(Protocol):
    """Port to Pulse: a message in an agent's mailbox starts a run of that agent."""

    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        """Queue the run in the caller's transaction, together with the claim of the delivery."""
        ...
