"""Relay's words: mailboxes, messages, deliveries and receipts, and the ports it needs from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from dorkos.db.database import Transaction
from dorkos.fleet import Fleet
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, EndpointConsumer, PublishOutcome


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
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope. `payload` is JSON text as it was sent, None if there was none; `bytes` is its size."""

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
    expires_at: datetime | None
    created_at: datetime


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
    message: Message


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message that somebody wants to publish.

    `id` is made outside the change. `payload` is JSON text (see `payload.encode`), None for a message without
    one. `claimed_sender` is what the caller says of itself; it is checked and never believed. `max_hops`
    and `expires_at` None take the settings' defaults.
    """

    id: str
    subject: str
    payload: str | None = None
    claimed_sender: str | None = None
    reply_to: str | None = None
    max_hops: int | None = None
    expires_at: datetime | None = None


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
    """The truth about a publish at its commit: every recipient with its outcome, equal to what is stored."""

    message_id: str
    chain_id: str
    recipients: tuple[RecipientOutcome, ...]
    pressure: Mapping[str, float]

    @property
    def delivered_to(self) -> int:
        """How many mailboxes hold the message."""
        return sum(1 for recipient in self.recipients if recipient.outcome is PublishOutcome.DELIVERED)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that stopped, and why."""

    id: str
    message: Message
    endpoint_subject: str | None
    reason: DeadLetterReason
    detail: str
    created_at: datetime


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


class RunStarter(Protocol):
    """Port to Pulse: a message in an agent's mailbox starts a run of that agent."""

    def queue_run(self, tx: Transaction, request: RunRequest, *, run_id: str) -> None:
        """Queue the run in the caller's transaction, together with the claim of the delivery."""
        ...
