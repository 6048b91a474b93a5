"""`dorkos up`: the server in this terminal."""

from __future__ import annotations

import gc
import os
from typing import Annotated

import typer

from dorkos.cli.options import options_of
from dorkos.cli.render import print_json_line, say
from dorkos.cli.target import data_directory


def up(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Address to listen on; else DORKOS_HOST or 127.0.0.1."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 picks a free one; else DORKOS_PORT, else 4242."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which other machines call this server; may be repeated. Needed by a HOST beyond "
            "this machine.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(metavar="URL", help="PostgreSQL URL; else the file dork.db in the data directory."),
    ] = None,
) -> None:
    """Start the server and keep it running until Ctrl-C.

    It says `DorkOS ready on …` when everything works. The first start makes the data directory, the
    database and the operator's token, which the other commands read.

    Example:

        dorkos up --port 4242
    """
    # None of what is loaded now is garbage, and looking for some would take a fifth of the start.
    gc.disable()
    from dorkos.serving import run

    gc.freeze()
    gc.enable()
    options = options_of(context)
    flags: dict[str, object] = {"server.host": host, "server.port": port, "database.url": database}
    if allow_host:
        flags["server.allowedHosts"] = allow_host

    def echo(line: str) -> None:
        if options.json:
            print_json_line({"message": line})
        else:
            say(line, flush=True)

    raise typer.Exit(run(data_directory(options, os.environ), flags, echo=echo))
