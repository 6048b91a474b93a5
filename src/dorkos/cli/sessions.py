"""`dorkos sessions`: the browsers that are logged in."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.instants import local_time, zone_label
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import Column, print_table, say, show

app = typer.Typer(help="Browsers that are logged in to the console.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

_SESSIONS = "/api/logins"


@command("list")
def list_sessions(context: typer.Context) -> None:
    """Show which browsers are logged in, the newest first.

    Example:

        dorkos sessions list
    """
    with connect(options_of(context)) as client:
        show(options_of(context), client.get(_SESSIONS), _tell)


@command("end")
def end(
    context: typer.Context, session: Annotated[str, typer.Argument(metavar="SESSION", help="Its id.")]
) -> None:
    """Log a browser out, wherever it is.

    Example:

        dorkos sessions end 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    with connect(options_of(context)) as client:
        answer = client.delete(address(_SESSIONS, session))
    show(options_of(context), answer, lambda _answer: say("It is logged out."))


def _tell(sessions: Any) -> None:
    zone = zone_label()
    print_table(
        sessions,
        (
            Column("session", lambda row: row["id"]),
            Column("browser", lambda row: row["name"], shrinks=True),
            Column(f"since ({zone})", lambda row: local_time(row["createdAt"])),
            Column("last used", lambda row: local_time(row["lastUsedAt"])),
            Column("until", lambda row: local_time(row["expiresAt"])),
        ),
        empty="No browser is logged in. Log one in: dorkos open",
    )
