"""Requests and replies on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from dorkos.operation import Wire, left_out
from dorkos.relay.request import RequestState
from dorkos.relay.wire import ABSENT, BudgetInput, Key, Mailbox, MessageId, MessageView, Recipient

WaitMs = Annotated[
    int, Field(ge=0, le=30_000, description="How long to wait for the reply, in milliseconds.")
]


def _payload() -> Any:
    return Field(
        default_factory=lambda: ABSENT, description="Any JSON value; `null` is not the same as none."
    )


class RequestArguments(Wire):
    """A message that is to be answered, as an agent sends it."""

    subject: Mailbox
    payload: Any = _payload()
    sender: str | None = Field(
        default=None, alias="from", description="May be left out: the server stamps the sender."
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=86_400,
        description="How long a reply counts, in seconds; `relay.requestTimeoutSeconds` if left out.",
    )
    wait_ms: WaitMs = 0


class RequestInput(RequestArguments):
    """A message that is to be answered."""

    budget: BudgetInput = BudgetInput()
    idempotency_key: Key = None


class RequestId(Wire):
    """A request to look after."""

    id: Annotated[str, Field(description="The request's id: that of its message.")]


class AwaitInput(RequestId):
    """A request whose reply is waited for."""

    wait_ms: WaitMs = 0


class RequestAnswer(Wire):
    """Where a request stands. `state` is pending, replied, expired or failed; `detail` says why there is no
    reply. `deadline` is until when one counts. `recipients` and `duplicate` are those of the receipt."""

    request_id: str
    state: RequestState
    deadline: str | None
    reply: MessageView | None = left_out()
    detail: str | None = left_out()
    chain_id: str
    recipients: list[Recipient] | None = left_out()
    duplicate: bool | None = left_out()


class ReplyInput(Wire):
    """An answer to a message that came to the caller."""

    id: MessageId
    payload: Any = _payload()
    sender: str | None = Field(
        default=None, alias="from", description="May be left out: the server stamps the sender."
    )
    idempotency_key: Key = None
