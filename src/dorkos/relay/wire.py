"""Relay on the wire: what callers send and what they get. The words are the lineage's, and more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from dorkos.clock import iso, to_milliseconds
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import is_ulid
from dorkos.operation import Wire, left_out
from dorkos.relay.payload import encode
from dorkos.vocabulary import BreakerState, DeliveryStatus, EndpointConsumer, PublishOutcome

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The last millisecond that a date-time can name.
_TTL_MAX = 253_402_300_799_999


class _Absent:
    """The payload of a message that was sent without one; `null` is a payload."""


ABSENT = _Absent()


def _is_absent(value: object) -> bool:
    return value is ABSENT


def _absent() -> Any:
    return ABSENT


# The lineage's clients say `new` and `cur` for what its tables called pending and delivered.
StatusFilter = Literal["pending", "delivered", "failed", "new", "cur"]
_STATUS = {"new": DeliveryStatus.PENDING, "cur": DeliveryStatus.DELIVERED}

Limit = Annotated[int, Field(ge=1, le=100, description="Most of them in one answer.")]
PageCursor = Annotated[
    str | None, Field(description="`nextCursor` of the page before; leave it out for the newest.")
]
MessageId = Annotated[str, Field(description="The message's id.")]
LeaseToken = Annotated[str, Field(description="The `leaseToken` of the claim.")]
LeaseSeconds = Annotated[
    int | None,
    Field(ge=1, le=86_400, description="How long to hold it, in seconds; `relay.leaseSeconds` if left out."),
]
Mailbox = Annotated[str, Field(description="The mailbox's subject.")]


Key = Annotated[
    str | None,
    Field(
        max_length=255,
        description="Your own name for it: repeated within 24 hours, it is answered with the first receipt.",
    ),
]


Traceparent = Annotated[
    str | None,
    Field(
        pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
        description="The trace of yours that it belongs to (W3C Trace Context); kept as a link.",
    ),
]


class BudgetInput(Wire):
    """What the sender allows. It can be less than the settings say; only the operator may ask for more."""

    max_hops: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Most messages in the chain; only the operator may go beyond `relay.maxHops`.",
    )
    call_budget_remaining: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000,
        description="Calls that the chain may still make, this one included.",
    )
    ttl: int | None = Field(
        default=None, ge=0, le=_TTL_MAX, description="Instant of expiry, in milliseconds since 1970 (Unix)."
    )

    def expires_at(self) -> datetime | None:
        """`ttl` as an instant."""
        return None if self.ttl is None else to_milliseconds(_EPOCH + timedelta(milliseconds=self.ttl))


class PublishInput(Wire):
    """A message to send."""

    subject: Mailbox
    payload: Any = Field(
        default_factory=_absent, description="Any JSON value; `null` is not the same as none."
    )
    sender: str | None = Field(
        default=None, alias="from", description="May be left out: the server stamps the sender."
    )
    reply_to: str | None = Field(default=None, description="Where an answer should go.")
    budget: BudgetInput = BudgetInput()
    idempotency_key: Key = None
    traceparent: Traceparent = None


class Recipient(Wire):
    """What became of the message at one recipient."""

    subject: str
    outcome: PublishOutcome
    detail: str | None


class Rejection(Wire):
    """A mailbox that did not take the message, as the lineage says it."""

    endpoint_hash: str
    reason: PublishOutcome


class PublishAnswer(Wire):
    """The receipt; equal to what is stored. `mailboxPressure` is 0 to 1 for each mailbox by its hash.

    `duplicate` is there if this is the receipt of an earlier publish with the same key: nothing was stored.
    """

    message_id: str
    delivered_to: int
    chain_id: str
    recipients: list[Recipient]
    rejected: list[Rejection] | None = left_out()
    mailbox_pressure: dict[str, float] | None = left_out()
    duplicate: bool | None = left_out()


class Budget(Wire):
    """How far the chain of a message has come, and how far it may go. `ttl` is Unix milliseconds.

    `ancestorChain` are the mailboxes that the chain went through before this one, oldest first.
    """

    hop_count: int
    max_hops: int
    ancestor_chain: list[str]
    call_budget_remaining: int | None
    ttl: int | None


class MessageView(Wire):
    """An envelope."""

    id: str
    subject: str
    sender: str | None = Field(alias="from")
    reply_to: str | None = left_out()
    payload: Any = Field(default_factory=_absent, exclude_if=_is_absent)
    budget: Budget
    chain_id: str
    parent_id: str | None = left_out()
    run_id: str | None = left_out()
    created_at: str
    expires_at: str | None


class DeliveryView(Wire):
    """A message at one mailbox. `attempts` counts its claims."""

    endpoint: str
    endpoint_hash: str
    status: DeliveryStatus
    attempts: int
    delivered_at: str | None


class StoredMessageView(MessageView):
    """An envelope and where it stands: failed if it stopped anywhere, else pending if it waits anywhere."""

    status: DeliveryStatus
    deliveries: list[DeliveryView]


class MessagesInput(Wire):
    """Which messages to list."""

    subject: str | None = Field(default=None, description="Only those sent to this subject.")
    sender: str | None = Field(default=None, alias="from", description="Only those of this sender.")
    status: StatusFilter | None = Field(default=None, description="Only those that stand so.")
    cursor: PageCursor = None
    limit: Limit = 50


class MessagesAnswer(Wire):
    """Messages, newest first. `nextCursor` is there if there are more."""

    messages: list[StoredMessageView]
    next_cursor: str | None = left_out()


class SearchInput(Wire):
    """What to look for."""

    text: str = Field(
        alias="q",
        min_length=1,
        max_length=1000,
        description="Words that all have to occur; the last may be the beginning of one.",
    )
    cursor: PageCursor = None
    limit: Limit = 20


class MessageInput(Wire):
    """One message."""

    id: MessageId


class EndpointsInput(Wire):
    """Which mailboxes to list."""

    include_closed: bool = Field(default=False, description="Also those that were closed.")


class EndpointView(Wire):
    """A mailbox. `consumer` says who takes from it: whoever claims, runs of its agent, or an adapter.

    `maxPending` and `maxPendingBytes` are its limits, its own or the settings'; `pressure` is how full it is
    by the nearer of them, 0 to 1. While the `breaker` is not closed, it takes nothing but one message
    on probation, from `probeAt` on.
    """

    id: str
    subject: str
    hash: str
    description: str | None
    agent_id: str | None
    consumer: EndpointConsumer
    pending_count: int
    pending_bytes: int
    max_pending: int
    max_pending_bytes: int
    pressure: float
    breaker: BreakerState
    probe_at: str | None = left_out()
    expires_at: str | None = left_out()
    registered_at: str
    closed_at: str | None = left_out()


class OpenInput(Wire):
    """A mailbox to open."""

    subject: Mailbox
    description: str | None = Field(default=None, max_length=500, description="What it is for.")
    max_pending: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="Most messages that wait in it; `relay.maxMailboxSize` if left out.",
    )
    max_pending_bytes: int | None = Field(
        default=None,
        ge=1,
        le=2**50,
        description="Most bytes that wait in it; `relay.maxMailboxBytes` if left out.",
    )


class MailboxInput(Wire):
    """One mailbox."""

    subject: Mailbox


class InboxInput(Wire):
    """A mailbox to look into."""

    subject: Mailbox
    status: StatusFilter | None = Field(default=None, description="Only those that stand so.")
    cursor: PageCursor = None
    limit: Limit = 50


class InboxEntry(MessageView):
    """A message as it stands in one mailbox. `claimed` says that somebody holds it at the moment."""

    endpoint_hash: str
    status: DeliveryStatus
    attempts: int
    claimed: bool
    delivered_at: str | None


class InboxAnswer(Wire):
    """Messages of the mailbox, newest first. `nextCursor` is there if there are more."""

    messages: list[InboxEntry]
    next_cursor: str | None = left_out()


class ClaimInput(Wire):
    """What to claim."""

    subject: Mailbox
    limit: Annotated[int, Field(ge=1, le=100, description="Most messages to take.")] = 1
    lease_seconds: LeaseSeconds = None
    wait_ms: int = Field(
        default=0, ge=0, le=30_000, description="How long to wait for a first message, in milliseconds."
    )


class ClaimedMessage(Wire):
    """A message that the caller now holds until `leaseExpiresAt`. `traceparent` continues its trace."""

    message_id: str
    lease_token: str
    lease_expires_at: str
    attempts: int
    traceparent: str
    message: MessageView


class ClaimAnswer(Wire):
    """What was claimed, in the order of acceptance; empty if nothing waits."""

    deliveries: list[ClaimedMessage]


class AckInput(Wire):
    """A message to settle as delivered."""

    subject: Mailbox
    message_id: MessageId
    lease_token: LeaseToken


class NackInput(Wire):
    """A message to give back."""

    subject: Mailbox
    message_id: MessageId
    lease_token: LeaseToken
    delay_ms: int = Field(
        default=0, ge=0, le=86_400_000, description="How long it is not to be claimed, in milliseconds."
    )
    reject: bool = Field(default=False, description="Make it a dead letter instead of trying again.")


class NackAnswer(Wire):
    """`status` is pending if it will be tried again, failed if it is a dead letter now."""

    success: bool = True
    status: DeliveryStatus


class ExtendInput(Wire):
    """A message to hold longer."""

    subject: Mailbox
    message_id: MessageId
    lease_token: LeaseToken
    lease_seconds: LeaseSeconds = None


class ExtendAnswer(Wire):
    """The new end of the lease."""

    success: bool = True
    lease_expires_at: str


def payload_text(value: Any) -> str | None:
    """A payload as it is stored, None for a message without one. Raises the refusals of `payload.encode`."""
    return None if value is ABSENT else encode(value)


def status_of(word: StatusFilter | None) -> DeliveryStatus | None:
    """The status that a filter asks for, in old words or new."""
    return None if word is None else _STATUS.get(word) or DeliveryStatus(word)


def page_cursor(text: str | None) -> str | None:
    """The id a page begins before. Raises `invalid_cursor`."""
    if text is None or is_ulid(text):
        return text
    raise DorkError(
        ErrorCode.INVALID_CURSOR,
        f"{text[:100]!r} is not a cursor of this list.",
        hint="Use `nextCursor` of the page before, or leave it out.",
    )


def instant(at: datetime | None) -> str | None:
    """An instant that may be missing, as the API writes it."""
    return None if at is None else iso(at)


def unix_ms(at: datetime | None) -> int | None:
    """An instant that may be missing, in milliseconds since 1970."""
    return None if at is None else (at - _EPOCH) // timedelta(milliseconds=1)
