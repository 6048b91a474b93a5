"""`dorkos approvals`: what agents propose and blocked runs ask, and your answers."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from dorkos.cli import approvals_text
from dorkos.cli.connection import address, connect
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import show
from dorkos.errors import DorkError, ErrorCode

app = typer.Typer(help="What agents propose and runs ask waits for you.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

_APPROVALS = "/api/approvals"
_HASH_LENGTH = 12

ApprovalArgument = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the approval.")]
AnswerOption = Annotated[str | None, typer.Option(metavar="TEXT", help="A word to go with the answer.")]


@command("list")
def list_approvals(
    context: typer.Context,
    state: Annotated[
        str, typer.Option(metavar="STATE", help="pending, approved, rejected, expired, superseded or all.")
    ] = "pending",
) -> None:
    """Show what waits for you, the longest waiting first.

    Example:

        dorkos approvals list
    """
    options = options_of(context)
    with connect(options) as client:
        chosen = None if state == "all" else state
        show(options, client.get(_APPROVALS, status=chosen), approvals_text.approvals)


@command("show")
def show_approval(context: typer.Context, approval: ApprovalArgument) -> None:
    """Show exactly what would run, when, where and with which rights; or what a run asks.

    Example:

        dorkos approvals show 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(address(_APPROVALS, approval)), approvals_text.approval)


@command("approve")
def approve(
    context: typer.Context,
    approval: ApprovalArgument,
    content_hash: Annotated[
        str, typer.Argument(metavar="HASH", help="The hash that `show` printed, or how it begins.")
    ],
    answer: AnswerOption = None,
) -> None:
    """Let a schedule run, exactly as it was shown to you; or answer a run, with --answer.

    The hash says what you have read; if it was changed since, nothing is approved.

    Example:

        dorkos approvals approve 01JD8Q2M5W7ZC3K9VXN4T6BRAE 3f1c9a0b77de
    """
    options = options_of(context)
    if len(content_hash) < _HASH_LENGTH:
        raise DorkError(
            ErrorCode.USAGE,
            f"The hash needs at least {_HASH_LENGTH} characters.",
            hint=f"`dorkos approvals show {approval}` prints it.",
        )
    with connect(options) as client:
        asked = str(client.get(address(_APPROVALS, approval))["contentHash"])
        # Whatever does not fit is sent as it was typed, so that the server is who refuses it.
        shown = asked if asked.startswith(content_hash) else content_hash
        body = {"contentHash": shown, "answer": answer}
        answered = client.post(address(_APPROVALS, approval, "approve"), body)
        show(options, answered, approvals_text.approved)


@command("reject")
def reject(context: typer.Context, approval: ApprovalArgument, answer: AnswerOption = None) -> None:
    """Refuse a schedule, which is kept, paused; or leave a run without an answer, blocked.

    Example:

        dorkos approvals reject 01JD8Q2M5W7ZC3K9VXN4T6BRAE --answer 'Once a day is enough'
    """
    options = options_of(context)
    with connect(options) as client:
        answered = client.post(address(_APPROVALS, approval, "reject"), {"answer": answer})
        show(options, answered, approvals_text.rejected)
