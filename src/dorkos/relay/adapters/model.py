"""What an adapter is, how it is doing, and what became of a message that it was to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from dorkos.identity.model import Caller
from dorkos.relay.model import Delivery
from dorkos.vocabulary import AdapterState, Scope


class AdapterType(StrEnum):
    """What kinds of adapters there are. A stored one of another kind is kept and never runs."""

    WEBHOOK = "webhook"
    TELEGRAM = "telegram"
    MAILDIR = "maildir"
    AGENT = "agent"


# What DorkOS for Node called the adapter that starts runs.
LINEAGE_AGENT = "claude-code"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A connection as it is defined. `config` is without secrets, `secrets` holds them under the same keys.

    `type` may be any word: what another version or a plugin left is kept as it came.
    """

    id: str
    type: str
    enabled: bool
    config: Mapping[str, Any]
    secrets: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime

    @property
    def subject(self) -> str:
        """What it speaks as, and the address of its mailbox."""
        if self.type == AdapterType.MAILDIR:
            return "relay.system.maildir"
        return f"relay.{self.type}.{self.id}"

    @property
    def caller(self) -> Caller:
        """It as a caller: it may send as itself and take from its own mailbox, and nothing else."""
        return Caller(self.subject, frozenset({Scope.SEND, Scope.RECEIVE}))


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """How an adapter is doing, on whichever server runs it. The counts are of all time."""

    state: AdapterState = AdapterState.DISCONNECTED
    owner: str | None = None
    started_at: datetime | None = None
    inbound_count: int = 0
    outbound_count: int = 0
    error_count: int = 0
    last_error: str | None = None
    last_error_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """It was sent, and the other side took it."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """It was not sent and may be later. `fault` says whether the way there is at fault, not the message."""

    detail: str
    after: timedelta | None = None
    fault: bool = True


@dataclass(frozen=True, slots=True)
class Never:
    """The other side does not take this message, and would not if it were sent again."""

    detail: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Whether it arrived cannot be known, and it must not be sent twice."""

    detail: str


Outcome = Sent | NotNow | Never | Unknown


class AuthFailedError(Exception):
    """The other side refused the credentials. Trying again would not help, and may lock the account."""


class Connection(Protocol):
    """An adapter at work on this server."""

    async def open(self) -> None:
        """Get ready, and find out whether the other side is there. Raises `AuthFailedError`, or anything."""
        ...

    async def receive(self) -> None:
        """Take in what comes, for as long as it is not cancelled. Returns at once if nothing can come."""
        ...

    async def send(self, delivery: Delivery) -> Outcome:
        """Send one message. Raises `AuthFailedError`; any other exception counts as `NotNow`."""
        ...

    async def close(self) -> None:
        """Let go of everything. Safe after half an `open`."""
        ...
