"""`dorkos events`: what happens, as it happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from dorkos.cli.connection import connect
from dorkos.cli.follow import follow
from dorkos.cli.instants import duration, local_time, zone_label
from dorkos.cli.options import Options, options_of
from dorkos.cli.render import notice, print_json_line, say
from dorkos.cli.sse import ServerEvent

# Frames about the stream itself. They are not events: nothing was committed.
_HELLO = "hello"
_RESET = "reset"

# What of an event's data a line tells, in this order. The rest is for programs, which use --json.
_FACTS: Mapping[str, Callable[[Any], str]] = {
    "name": str,
    "state": str,
    "verdict": str,
    "reason": str,
    "trigger": str,
    "subject": str,
    "from": lambda sender: f"from {sender}",
    "path": str,
    "durationMs": duration,
    "seq": lambda number: f"piece {number}",
    "host": lambda host: f"on {host}",
}


def events(
    context: typer.Context,
    *,
    topics: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Only these topics: pulse, relay, mesh, system, with commas."),
    ] = None,
    kinds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these kinds, such as pulse.run.finished.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Begin after this cursor instead of now.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many events.")] = None,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C, as it does without this word, too.")
    ] = False,
) -> None:
    """Show committed events until Ctrl-C, one a line.

    A broken connection or a restarted server leaves no gap. With --json each line holds an event and its
    cursor, after which a later call goes on with --after; a line of kind `reset` says that this failed.

    Example:

        dorkos events --topics pulse,relay
    """
    del follow_  # For hands that are used to it from other programs.
    options = options_of(context)
    shown = 0
    if not options.json:
        notice(f"Events as they happen, times in {zone_label()}. Ctrl-C ends this.")
    with connect(options) as client:
        for frame in follow(client, "/api/events", last_id=after, topics=topics, kinds=kinds):
            if frame.event == _RESET:
                _tell_reset(options, frame)
            if frame.event in ("", _HELLO, _RESET):
                continue
            event = json.loads(frame.data)
            if options.json:
                print_json_line({"cursor": frame.id, **event})
            else:
                say(_sentence(event), flush=True)
            shown += 1
            if shown == limit:
                return


def _tell_reset(options: Options, frame: ServerEvent) -> None:
    """Say that events may be missing, to programs as well: they count on having seen everything."""
    if options.json:
        print_json_line({"cursor": frame.id, "kind": _RESET})
    notice("The place to go on from is gone: events in between may be missing. On from now.")


def _sentence(event: Any) -> str:
    data = event["data"]
    facts = [tell(data[name]) for name, tell in _FACTS.items() if data.get(name) is not None]
    line = f"{local_time(event['at'])}  {event['kind']:<27}  {event['entityId']}"
    return f"{line}  {', '.join(facts)}" if facts else line
