"""`dorkos relay request`, `await` and `reply`: asking somebody something, and answering."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dorkos.cli import relay_text
from dorkos.cli.connection import address, connect
from dorkos.cli.instants import milliseconds, whole_seconds
from dorkos.cli.options import options_of
from dorkos.cli.render import show
from dorkos.cli.typed import payload_of

_REQUESTS = "/api/relay/requests"
_MESSAGES = "/api/relay/messages"

TextArgument = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="What to say; `-` reads it from standard input.")
]
JsonOption = Annotated[
    str | None, typer.Option(metavar="JSON", help="Any JSON value to send instead of a text.")
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="SUBJECT", help="Who speaks; else the token's owner.")
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="KEY", help="Your own name for it: repeated within 24 hours, it is sent once."
    ),
]
WaitOption = Annotated[
    str, typer.Option("--wait", metavar="TIME", help="Wait so long for the reply, at most 30s.")
]


def request(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Whom to ask: one exact subject.")],
    payload: TextArgument = None,
    *,
    json_payload: JsonOption = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="A reply counts for so long; else as the setting says.")
    ] = None,
    wait: WaitOption = "30s",
    sender: FromOption = None,
    key: KeyOption = None,
) -> None:
    """Ask somebody something and wait for the reply.

    The exit code is 1 unless the reply came. The reply is kept: `dorkos relay await` reads it later.

    Example:

        dorkos relay request relay.human.ada 'May I deploy?' --timeout 1h
    """
    options = options_of(context)
    wait_ms = milliseconds(wait, "--wait")
    body: dict[str, object] = {"subject": subject, "waitMs": wait_ms} | payload_of(payload, json_payload)
    if timeout is not None:
        body["timeoutSeconds"] = whole_seconds(timeout, "--timeout")
    if sender is not None:
        body["from"] = sender
    if key is not None:
        body["idempotencyKey"] = key
    with connect(options) as client:
        answer = client.post(_REQUESTS, body, wait_s=wait_ms / 1000)
    show(options, answer, relay_text.request)
    _exit(answer)


def await_reply(
    context: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="Id of the request.")],
    wait: WaitOption = "30s",
) -> None:
    """Wait for the reply to a request of your own, or read it again.

    The exit code is 1 unless the reply came.

    Example:

        dorkos relay await 01JD8Q2M5W7ZC3K9VXN4T6BRAE --wait 10s
    """
    options = options_of(context)
    wait_ms = milliseconds(wait, "--wait")
    with connect(options) as client:
        answer = client.post(
            address(_REQUESTS, request_id, "await"), {"waitMs": wait_ms}, wait_s=wait_ms / 1000
        )
    show(options, answer, relay_text.request)
    _exit(answer)


def reply(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Id of the message to answer.")],
    payload: TextArgument = None,
    *,
    json_payload: JsonOption = None,
    sender: FromOption = None,
    key: KeyOption = None,
) -> None:
    """Answer a message that came to you, where its sender wants the answer.

    Example:

        dorkos relay reply 01JD8Q2M5W7ZC3K9VXN4T6BRAE 'Yes, go on.'
    """
    options = options_of(context)
    body: dict[str, object] = dict(payload_of(payload, json_payload))
    if sender is not None:
        body["from"] = sender
    if key is not None:
        body["idempotencyKey"] = key
    with connect(options) as client:
        receipt = client.post(address(_MESSAGES, message, "reply"), body)
    show(options, receipt, relay_text.receipt)
    if any(recipient["outcome"] != "delivered" for recipient in receipt["recipients"]):
        raise typer.Exit(1)


def _exit(answer: Any) -> None:
    if answer["state"] != "replied":
        raise typer.Exit(1)
