"""`dorkos runtime`: what drives agents, and whether it works here."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.pulse import follow_to_end
from dorkos.cli.render import Column, notice, print_table, show

app = typer.Typer(help="What drives agents, and whether it works here.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

_RUNTIMES = "/api/pulse/runtimes"


@command("list")
def list_runtimes(context: typer.Context) -> None:
    """Show the runtimes, whether each can be used here, and how to get what is missing.

    Example:

        dorkos runtime list
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(_RUNTIMES), _table)


@command("test")
def try_out(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The runtime, such as claude.")],
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- PROGRAM...]", help="The program it starts, for command and acp."),
    ] = None,
    cwd: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where it works; without it the boundary.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to ask instead of for the word ready.")
    ] = None,
) -> None:
    """Run it once, end to end, with the least rights; the exit code is 1 unless the run completes.

    It asks for one word, which costs as much as that costs.

    Example:

        dorkos runtime test command
    """
    options = options_of(context)
    body = {
        "command": program or None,
        "cwd": None if cwd is None else str(cwd.expanduser().resolve()),
        "prompt": prompt,
    }
    with connect(options) as client:
        run_id = client.post(address(_RUNTIMES, name, "test"), body)["runId"]
        notice(f"Run {run_id}")
        follow_to_end(client, options, run_id)


def _table(rows: Any) -> None:
    print_table(
        rows,
        (
            Column("runtime", lambda row: row["name"]),
            Column("works", lambda row: "yes" if row["usable"] else "no"),
            Column("what", lambda row: " ".join(filter(None, (row["detail"], row["hint"]))), shrinks=True),
        ),
        empty="There is no runtime.",
    )
