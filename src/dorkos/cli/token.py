"""`dorkos token`: who may get in."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.instants import zoned_time
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import Column, notice, print_facts, print_more, print_table, say, show

app = typer.Typer(help="Who may get in: tokens for people and programs.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

_TOKENS = "/api/tokens"


@command("list")
def list_tokens(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    runs: Annotated[bool, typer.Option("--runs", help="Also those of runs, which end with them.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Most to show.")] = 100,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Where the page begins.")] = None,
) -> None:
    """Show the tokens that the database knows, the newest first, without their secrets.

    The operator's own, in the file `token` of the data directory, is not among them.

    Example:

        dorkos token list
    """
    options = options_of(context)
    with connect(options) as client:
        found, following = client.page(
            _TOKENS,
            ended="true" if everything else None,
            runs="true" if runs else None,
            limit=limit,
            cursor=cursor,
        )
    show(options, found, lambda rows: print_table(rows, _COLUMNS, empty=_NONE))
    if not options.json:
        print_more(following)


@command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call it, such as phone.")],
    operator: Annotated[
        bool, typer.Option("--operator", help="It may do everything; else it may only read.")
    ] = False,
    days: Annotated[int, typer.Option(metavar="DAYS", min=1, max=3650, help="Days until it expires.")] = 90,
) -> None:
    """Make a token. It is shown this once: only its hash is stored.

    For an agent that DorkOS does not start itself, use `dorkos mesh token`.

    Example:

        dorkos token create dashboard --days 30
    """
    options = options_of(context)
    body = {"name": name, "kind": "operator" if operator else "read-only", "days": days}
    with connect(options) as client:
        show(options, client.post(_TOKENS, body), _tell_made)


@command("revoke")
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of the token, as `list` shows it.")],
) -> None:
    """End a token at once, whoever holds it.

    Example:

        dorkos token revoke 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        ended = client.delete(address(_TOKENS, token_id))
    show(options, ended, lambda found: say(f"{found['name'] or found['subject']} is revoked."))


@command("whoami")
def who_am_i(context: typer.Context) -> None:
    """Say as whom this command line speaks, and what that allows.

    Example:

        dorkos token whoami
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(f"{_TOKENS}/self"), _tell_self)


def _tell_made(made: Any) -> None:
    # Alone on standard output, so that it can be taken from there.
    say(made["token"])
    notice(f"{made['name']}, {made['kind']}, until {zoned_time(made['expiresAt'])}. It is not shown again.")


def _tell_self(found: Any) -> None:
    print_facts(
        (
            ("subject", found["subject"]),
            ("kind", found["kind"]),
            ("allows", ", ".join(found["scopes"])),
            ("agent", found["agentId"]),
            ("run", found["runId"]),
        )
    )


_NONE = "There is none but the operator's own. Make one: dorkos token create NAME"
_COLUMNS = (
    Column("Id", lambda row: row["id"]),
    Column("Kind", lambda row: row["kind"]),
    Column("Name", lambda row: row["name"] or row["subject"], shrinks=True),
    Column("Expires", lambda row: zoned_time(row["expiresAt"])),
    Column("Last used", lambda row: zoned_time(row["lastUsedAt"]) or "never"),
    Column("Ended", lambda row: "" if row["holds"] else "revoked" if row["revokedAt"] else "expired"),
)
