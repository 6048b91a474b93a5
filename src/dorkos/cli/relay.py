"""`dorkos relay`: messages and mailboxes."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dorkos.cli import (
    relay_adapters,
    relay_letters,
    relay_mail,
    relay_requests,
    relay_rules,
    relay_text,
    relay_trace,
    relay_watch,
)
from dorkos.cli.connection import address, connect
from dorkos.cli.instants import milliseconds, whole_seconds
from dorkos.cli.names import all_agents
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import say, show
from dorkos.cli.typed import payload_of
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.cli.client import Client

app = typer.Typer(help="What agents say to each other: messages, mailboxes.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)
app.add_typer(relay_rules.app, name="rules")
app.add_typer(relay_adapters.app, name="adapters")
app.add_typer(relay_letters.app, name="dead-letters")
command("trace")(relay_trace.trace)
command("metrics")(relay_trace.metrics)
command("explain")(relay_rules.explain)
command("watch")(relay_watch.watch)
command("import")(relay_mail.import_mail)
command("export")(relay_mail.export_mail)
command("request")(relay_requests.request)
command("await")(relay_requests.await_reply)
command("reply")(relay_requests.reply)

_MESSAGES = "/api/relay/messages"
_ENDPOINTS = "/api/relay/endpoints"

SubjectArgument = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="The mailbox, such as relay.human.ada.")
]
OwnSubjectArgument = Annotated[
    str | None,
    typer.Argument(metavar="SUBJECT", help="The mailbox; within a run, the run's own if left out."),
]
MessageArgument = Annotated[str, typer.Argument(metavar="MESSAGE", help="Id of the message.")]
LeaseArgument = Annotated[str, typer.Argument(metavar="LEASE", help="The lease token that the claim gave.")]
LimitOption = Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")]
CursorOption = Annotated[str | None, typer.Option(metavar="CURSOR", help="Go on where the last page ended.")]


@command("send")
def send(
    context: typer.Context,
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Where to: one exact subject.")],
    payload: relay_requests.TextArgument = None,
    *,
    json_payload: relay_requests.JsonOption = None,
    reply_to: Annotated[str | None, typer.Option(metavar="SUBJECT", help="Where answers should go.")] = None,
    sender: relay_requests.FromOption = None,
    key: relay_requests.KeyOption = None,
) -> None:
    """Send a message and show what became of it at each recipient.

    The exit code is 1 unless it was delivered to every one of them.

    Examples:

        dorkos relay send relay.human.ada 'The build is done.'
        dorkos relay send relay.human.ada --json-payload '{"content": "done"}'
    """
    options = options_of(context)
    body: dict[str, object] = {"subject": subject} | payload_of(payload, json_payload)
    if reply_to is not None:
        body["replyTo"] = reply_to
    if sender is not None:
        body["from"] = sender
    if key is not None:
        body["idempotencyKey"] = key
    with connect(options) as client:
        receipt = client.post(_MESSAGES, body)
    show(options, receipt, relay_text.receipt)
    if any(recipient["outcome"] != "delivered" for recipient in receipt["recipients"]):
        raise typer.Exit(1)


@command("messages")
def messages(
    context: typer.Context,
    *,
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="Only messages to this subject.")
    ] = None,
    sender: Annotated[
        str | None, typer.Option("--from", metavar="SUBJECT", help="Only messages of this sender.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only these: pending, delivered or failed.")
    ] = None,
    limit: LimitOption = 20,
    cursor: CursorOption = None,
) -> None:
    """Show messages, newest first.

    Example:

        dorkos relay messages --status failed
    """
    options = options_of(context)
    query = {"subject": subject, "from": sender, "status": status, "limit": limit, "cursor": cursor}
    with connect(options) as client:
        show(options, client.get(_MESSAGES, **query), relay_text.messages)


@command("search")
def search(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="All of them have to occur.")],
    *,
    limit: LimitOption = 20,
    cursor: CursorOption = None,
) -> None:
    """Find messages by words of their text, newest first. The last word may be the beginning of one.

    Example:

        dorkos relay search build fail
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get("/api/relay/search", q=" ".join(words), limit=limit, cursor=cursor)
        show(options, found, relay_text.messages)


@command("endpoints")
def endpoints(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that were closed.")] = False,
) -> None:
    """Show the mailboxes and how much waits in each.

    Example:

        dorkos relay endpoints
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get(_ENDPOINTS, includeClosed="true" if every else None)
        show(options, found, lambda rows: relay_text.endpoints(rows, _owners(client, rows)))


@command("open")
def open_mailbox(
    context: typer.Context,
    subject: SubjectArgument,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    max_pending: Annotated[
        int | None, typer.Option(min=1, help="Most messages that wait in it; else as the setting says.")
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Most bytes that wait in it; else as the setting says.")
    ] = None,
) -> None:
    """Open a mailbox. An agent's own is opened when it is registered.

    Example:

        dorkos relay open relay.human.ada
    """
    options = options_of(context)
    body: dict[str, object] = {"subject": subject}
    if description is not None:
        body["description"] = description
    if max_pending is not None:
        body["maxPending"] = max_pending
    if max_bytes is not None:
        body["maxPendingBytes"] = max_bytes
    with connect(options) as client:
        show(options, client.post(_ENDPOINTS, body), lambda row: say(f"Opened {row['subject']}."))


@command("close")
def close_mailbox(context: typer.Context, subject: SubjectArgument) -> None:
    """Close a mailbox; what waits in it becomes dead letters.

    Example:

        dorkos relay close relay.human.ada
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.delete(address(_ENDPOINTS, subject)), lambda _: say(f"Closed {subject}."))


@command("close-circuit")
def close_circuit(context: typer.Context, subject: SubjectArgument) -> None:
    """Let a mailbox whose circuit is open take messages again at once.

    Example:

        dorkos relay close-circuit relay.human.ada
    """
    options = options_of(context)
    with connect(options) as client:
        answer = client.post(address(_ENDPOINTS, subject, "close-circuit"), {})
        show(options, answer, lambda _: say(f"{subject} takes messages."))


@command("inbox")
def inbox(
    context: typer.Context,
    subject: OwnSubjectArgument = None,
    limit: LimitOption = 20,
    cursor: CursorOption = None,
) -> None:
    """Look into a mailbox. Looking takes nothing out.

    Example:

        dorkos relay inbox relay.human.ada
    """
    options = options_of(context)
    chosen = _own(subject)
    with connect(options) as client:
        page = client.get(address(_ENDPOINTS, chosen, "inbox"), limit=limit, cursor=cursor)
        show(options, page, relay_text.inbox)


@command("claim")
def claim(
    context: typer.Context,
    subject: OwnSubjectArgument = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 1,
    wait: Annotated[
        str | None, typer.Option(metavar="TIME", help="Wait so long for one to arrive, at most 30s.")
    ] = None,
    lease: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long they are yours before others get them.")
    ] = None,
) -> None:
    """Take the oldest messages out of a mailbox, to be acknowledged or given back.

    A message that is neither comes back when its lease ends.

    Example:

        dorkos relay claim relay.human.ada --wait 30s
    """
    options = options_of(context)
    chosen = _own(subject)
    body: dict[str, object] = {"limit": limit}
    wait_ms = 0 if wait is None else milliseconds(wait, "--wait")
    if wait is not None:
        body["waitMs"] = wait_ms
    if lease is not None:
        body["leaseSeconds"] = whole_seconds(lease, "--lease")
    with connect(options) as client:
        answer = client.post(address(_ENDPOINTS, chosen, "claim"), body, wait_s=wait_ms / 1000)
        show(options, answer, lambda page: relay_text.claimed(chosen, page["deliveries"]))


@command("ack")
def ack(
    context: typer.Context, subject: SubjectArgument, message: MessageArgument, lease: LeaseArgument
) -> None:
    """Acknowledge a claimed message: it is delivered and does not come back.

    Example:

        dorkos relay ack relay.human.ada 01JD8Q2M5W7ZC3K9VXN4T6BRAE LEASE
    """
    _settle(context, subject, "ack", {"messageId": message, "leaseToken": lease}, "Acknowledged.")


@command("nack")
def nack(
    context: typer.Context,
    subject: SubjectArgument,
    message: MessageArgument,
    lease: LeaseArgument,
    *,
    delay: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep it back for so long before it comes again.")
    ] = None,
    reject: Annotated[
        bool, typer.Option("--reject", help="Do not deliver it again: make it a dead letter.")
    ] = False,
) -> None:
    """Give a claimed message back, to be delivered again.

    Example:

        dorkos relay nack relay.human.ada 01JD8Q2M5W7ZC3K9VXN4T6BRAE LEASE --delay 1m
    """
    body: dict[str, object] = {"messageId": message, "leaseToken": lease}
    if delay is not None:
        body["delayMs"] = milliseconds(delay, "--delay")
    if reject:
        body["reject"] = True
    _settle(context, subject, "nack", body, "Rejected: a dead letter now." if reject else "Given back.")


def _own(subject: str | None) -> str:
    """The mailbox that was named, else that of the run this command is part of."""
    chosen = subject or os.environ.get("DORKOS_SUBJECT")
    if not chosen:
        raise DorkError(
            ErrorCode.USAGE,
            "Say which mailbox.",
            hint="`dorkos relay endpoints` shows them. Only within a run it may be left out.",
        )
    return chosen


def _settle(
    context: typer.Context, subject: str, verb: str, body: Mapping[str, object], sentence: str
) -> None:
    options = options_of(context)
    with connect(options) as client:
        show(options, client.post(address(_ENDPOINTS, subject, verb), body), lambda _: say(sentence))


def _owners(client: Client, rows: Sequence[Any]) -> Mapping[str, str]:
    """What the agents that own mailboxes are called, by id."""
    if not any(row["agentId"] for row in rows):
        return {}
    return {agent["id"]: agent["name"] for agent in all_agents(client)}
