"""`dorkos relay dead-letters`: messages that stopped."""

from __future__ import annotations

import functools
import json
from typing import Annotated, Any

import typer

from dorkos.cli import relay_text
from dorkos.cli.connection import address, connect
from dorkos.cli.instants import whole_seconds
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import raw, say, show
from dorkos.errors import DorkError, ErrorCode

_LETTERS = "/api/relay/dead-letters"
_PAGE = 100

app = typer.Typer(cls=Noun, invoke_without_command=True)
command = functools.partial(app.command, cls=Command)

LetterArgument = Annotated[str, typer.Argument(metavar="LETTER", help="Id of the dead letter.")]
OptionalLetter = Annotated[
    str | None, typer.Argument(metavar="LETTER", help="Id of one dead letter; else say which, or --all.")
]
SubjectOption = Annotated[str | None, typer.Option(metavar="SUBJECT", help="Only messages to this subject.")]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="SUBJECT", help="Only messages of this sender.")
]
ReasonOption = Annotated[
    str | None, typer.Option(metavar="REASON", help="Only those that stopped for this, such as expired.")
]
ChainOption = Annotated[str | None, typer.Option(metavar="CHAIN", help="Only messages of this chain.")]
OlderOption = Annotated[
    str | None,
    typer.Option("--older-than", metavar="TIME", help="Only those that stopped at least so long ago."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Every one.")]


@app.callback()
def dead_letters(
    context: typer.Context,
    *,
    subject: SubjectOption = None,
    sender: FromOption = None,
    reason: ReasonOption = None,
    redriven: Annotated[bool, typer.Option("--redriven", help="Also those that were put back.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where the last page ended.")
    ] = None,
) -> None:
    """Show messages that stopped, each with the reason.

    Example:

        dorkos relay dead-letters --reason expired
        dorkos relay dead-letters redrive --reason backpressure
    """
    if context.invoked_subcommand is not None:
        return
    options = options_of(context)
    query = {
        "subject": subject,
        "from": sender,
        "reason": reason,
        "redriven": "true" if redriven else None,
        "limit": limit,
        "cursor": cursor,
    }
    with connect(options) as client:
        show(options, client.get(_LETTERS, **query), lambda rows: relay_text.dead_letters(rows, limit))


@command("show")
def show_letter(context: typer.Context, letter: LetterArgument) -> None:
    """Show one message that stopped, and why.

    Example:

        dorkos relay dead-letters show 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(address(_LETTERS, letter)), relay_text.dead_letter)


@command("redrive")
def redrive(
    context: typer.Context,
    letter: OptionalLetter = None,
    *,
    subject: SubjectOption = None,
    sender: FromOption = None,
    reason: ReasonOption = None,
    chain: ChainOption = None,
    older: OlderOption = None,
    every: AllOption = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most of them, the oldest first.")] = 100,
) -> None:
    """Put a dead letter back into its mailbox, or all that match. The exit code is 1 if one stays.

    A message keeps its id and gets all its attempts and a fresh expiry.
    The access rules decide anew.

    Example:

        dorkos relay dead-letters redrive --reason backpressure --subject relay.human.ada
    """
    options = options_of(context)
    which = _which(
        letter, every=every, subject=subject, sender=sender, reason=reason, chain=chain, older=older
    )
    with connect(options) as client:
        if letter is not None:
            answer = client.post(address(_LETTERS, letter, "redrive"), {})
            answer = {"redriven": int(answer["outcome"] == "delivered"), "letters": [answer]}
        else:
            answer = client.post(address(_LETTERS, "redrive"), which | {"limit": limit})
    show(options, answer, relay_text.redriven)
    if answer["redriven"] < len(answer["letters"]):
        raise typer.Exit(1)


@command("purge")
def purge(
    context: typer.Context,
    letter: OptionalLetter = None,
    *,
    subject: SubjectOption = None,
    sender: FromOption = None,
    reason: ReasonOption = None,
    chain: ChainOption = None,
    older: OlderOption = None,
    every: AllOption = False,
) -> None:
    """Take a dead letter away for good, or all that match.

    Example:

        dorkos relay dead-letters purge --older-than 30d
    """
    options = options_of(context)
    which = _which(
        letter, every=every, subject=subject, sender=sender, reason=reason, chain=chain, older=older
    )
    with connect(options) as client:
        if letter is not None:
            answer = client.delete(address(_LETTERS, letter))
        else:
            answer = client.post(address(_LETTERS, "purge"), which | {"limit": 100_000})
    show(options, answer, lambda done: say(f"Taken away: {done['purged']}."))


@command("export")
def export(context: typer.Context, *, subject: SubjectOption = None, reason: ReasonOption = None) -> None:
    """Write dead letters as lines of JSON, newest first, with their messages.

    Example:

        dorkos relay dead-letters export > letters.jsonl
    """
    options = options_of(context)
    cursor = None
    with connect(options) as client:
        while True:
            query = {"subject": subject, "reason": reason, "limit": _PAGE, "cursor": cursor}
            page = client.get(_LETTERS, **query)
            for row in page:
                raw(json.dumps(row, ensure_ascii=False) + "\n")
            if len(page) < _PAGE:
                return
            cursor = page[-1]["id"]


def _which(
    letter: str | None,
    *,
    every: bool,
    subject: str | None,
    sender: str | None,
    reason: str | None,
    chain: str | None,
    older: str | None,
) -> dict[str, Any]:
    """The filter as it is sent. Nothing at all is no filter: whoever means every one has to say so."""
    given = {"subject": subject, "from": sender, "reason": reason, "chainId": chain}
    which: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if older is not None:
        which["olderThanSeconds"] = whole_seconds(older, "--older-than")
    if sum((letter is not None, bool(which), every)) != 1:
        raise DorkError(
            ErrorCode.USAGE,
            "Say which: one dead letter by its id, a filter such as --reason expired, or --all.",
            hint="`dorkos relay dead-letters` lists them.",
        )
    return which
