"""`dorkos open`: the console in a browser, logged in."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import Annotated
from urllib.parse import quote

import typer

from dorkos.cli.connection import connect
from dorkos.cli.options import options_of
from dorkos.cli.render import print_json, say
from dorkos.cli.target import find_url
from dorkos.errors import DorkError, ErrorCode

_LINKS = "/api/logins/links"


def open_console(
    context: typer.Context,
    page: Annotated[
        str, typer.Argument(metavar="PAGE", help="The page to open, such as /pulse; else the overview.")
    ] = "/",
    print_link: Annotated[
        bool, typer.Option("--print", help="Show the link instead of opening a browser here.")
    ] = False,
) -> None:
    """Open the console in your browser, logged in by a link that works once, for five minutes.

    With --print the link is shown, to carry to a browser on another machine.

    Example:

        dorkos open
        dorkos open /inbox
        dorkos open --print
    """
    options = options_of(context)
    if not page.startswith("/") or page.startswith(("//", "/\\")):
        raise DorkError(
            ErrorCode.USAGE, f"{page!r} is no page of the console.", hint="Write it as /pulse or /inbox."
        )
    with connect(options) as client:
        answer = client.post(_LINKS)
    link = f"{find_url(options, os.environ)}{answer['path']}"
    if page != "/":
        link += f"&to={quote(page, safe='/')}"
    if options.json:
        print_json({"url": link, "expiresAt": answer["expiresAt"]})
    elif print_link or not _open(link):
        say(link)
        say("It logs one browser in, once, within five minutes.", "dim")
    else:
        say("The console is opening in your browser.")


def _open(link: str) -> bool:
    """Whether a browser was started. One in this terminal would hide the link and stand in its way."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(link)
    except webbrowser.Error:
        return False
