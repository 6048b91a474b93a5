"""Adapters on the wire. The words are the lineage's, and more. No answer holds a secret."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.operation import Wire, left_out
from dorkos.relay.adapters import secrets
from dorkos.relay.adapters.configs import sends
from dorkos.relay.adapters.model import Adapter, AdapterStatus
from dorkos.relay.wire import ABSENT, Mailbox
from dorkos.vocabulary import AdapterState, DeliveryStatus

AdapterId = Annotated[str, Field(description="The adapter's id.")]
Settings = Annotated[
    dict[str, Any],
    Field(
        description="Settings of its type: see docs/adapters.md. A secret may be `env:NAME` or `file:PATH`."
    ),
]


class OneAdapter(Wire):
    """Which adapter."""

    id: AdapterId


class AddInput(Wire):
    """An adapter to make."""

    id: AdapterId
    type: Annotated[str, Field(description="`webhook`, `telegram`, `maildir` or `agent`.")]
    enabled: bool = Field(default=True, description="Whether it starts at once.")
    config: Settings = Field(default_factory=dict)


class UpdateInput(Wire):
    """Settings to change."""

    id: AdapterId
    config: Annotated[
        dict[str, Any],
        Field(description="Those that are given change, `null` takes one away, all others stay as they are."),
    ]


class AdapterConfigView(Wire):
    """An adapter as it is defined. In place of a stored secret stands `(stored)`."""

    id: str
    type: str
    enabled: bool
    config: dict[str, Any]


class MessageCount(Wire):
    """Messages that it took in, and that the other side took."""

    inbound: int
    outbound: int


class AdapterStatusView(Wire):
    """How it is doing. `mailbox` is the address from which it sends, `server` the node that runs it."""

    id: str
    type: str
    display_name: str
    state: AdapterState
    message_count: MessageCount
    error_count: int
    last_error: str | None = left_out()
    last_error_at: str | None = left_out()
    started_at: str | None = left_out()
    mailbox: str | None = left_out()
    server: str | None = left_out()


class AdapterView(Wire):
    """An adapter, and how it is doing."""

    config: AdapterConfigView
    status: AdapterStatusView


class Done(Wire):
    """It was done."""

    ok: bool = True


class Reloaded(Wire):
    """It was done. `adapterCount` is how many are switched on."""

    ok: bool = True
    adapter_count: int


class TrialAnswer(Wire):
    """What came of trying it once."""

    ok: bool
    detail: str


class AdapterList(Wire):
    """All adapters, as a tool shows them."""

    adapters: list[AdapterView]
    count: int


class Switched(Wire):
    """What a tool did to an adapter."""

    ok: bool = True
    id: str
    action: str


class OldMailInput(Wire):
    """A message of a mailbox that was kept in files."""

    name: Annotated[str, Field(min_length=1, max_length=1000, description="The name of its file.")]
    status: DeliveryStatus
    id: str | None = None
    sender: Annotated[str | None, Field(alias="from")] = None
    reply_to: str | None = None
    payload: Any = Field(default_factory=lambda: ABSENT)
    created_at: str | None = None
    ttl: int | None = None
    reason: str | None = None


class ImportInput(Wire):
    """Messages to bring into a mailbox, in the order in which they are to lie there."""

    subject: Mailbox
    messages: Annotated[list[OldMailInput], Field(max_length=200)]


class Refused(Wire):
    """A message that was left out, and why."""

    name: str
    reason: str


class ImportAnswer(Wire):
    """How many came in, how many were there already, and which were left out."""

    imported: int
    present: int
    refused: list[Refused]


def view(adapter: Adapter, status: AdapterStatus) -> AdapterView:
    """An adapter as an answer shows it."""
    return AdapterView(
        config=AdapterConfigView(
            id=adapter.id,
            type=adapter.type,
            enabled=adapter.enabled,
            config=secrets.shown(adapter.config, adapter.secrets),
        ),
        status=AdapterStatusView(
            id=adapter.id,
            type=adapter.type,
            display_name=f"{adapter.type.replace('-', ' ').title()} ({adapter.id})",
            state=status.state,
            message_count=MessageCount(inbound=status.inbound_count, outbound=status.outbound_count),
            error_count=status.error_count,
            last_error=status.last_error,
            last_error_at=None if status.last_error_at is None else iso(status.last_error_at),
            started_at=None if status.started_at is None else iso(status.started_at),
            mailbox=adapter.subject if sends(adapter) else None,
            server=status.owner,
        ),
    )
