"""`dorkos relay watch`: messages as they are published. Watching takes nothing out of a mailbox."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from dorkos.cli.connection import connect
from dorkos.cli.follow import follow
from dorkos.cli.instants import local_time, zone_label
from dorkos.cli.options import options_of
from dorkos.cli.render import notice, preview, print_json_line, say

_GREETING = "relay_connected"
_MESSAGE = "relay_message"


def watch(
    context: typer.Context,
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Only messages to subjects of this pattern.")
    ] = ">",
    *,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Begin after this cursor instead of now.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
) -> None:
    """Show messages as they are published, one a line, until Ctrl-C. Nothing is consumed.

    A broken connection or a restarted server leaves no gap. With --json each line
    holds a message and its cursor, after which a later call goes on with --after;
    a line with "reset": true says that messages may be missing before it.

    Examples:

        dorkos relay watch
        dorkos relay watch 'relay.agent.>'
    """
    options = options_of(context)
    shown = 0
    if not options.json:
        notice(f"Messages as they are published, times in {zone_label()}. Ctrl-C ends this.")
    with connect(options) as client:
        for frame in follow(client, "/api/relay/stream", last_id=after, subject=pattern):
            if frame.event == _GREETING and json.loads(frame.data).get("reset"):
                if options.json:
                    print_json_line({"cursor": frame.id, "reset": True})
                notice("The place to go on from is gone: messages in between may be missing. On from now.")
            if frame.event != _MESSAGE:
                continue
            message = json.loads(frame.data)
            if options.json:
                print_json_line({"cursor": frame.id, **message})
            else:
                say(_sentence(message), flush=True)
            shown += 1
            if shown == limit:
                return


def _sentence(message: Any) -> str:
    line = f"{local_time(message['createdAt'])}  {message.get('from') or '?'} -> {message['subject']}"
    return f"{line}  {preview(message['payload'])}" if "payload" in message else line
