"""Showing what a discovery finds while it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dorkos.cli.progress_line import ProgressLine
from dorkos.cli.render import count, notice, say
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.cli.client import Client

_ADDRESS = "/api/mesh/discover/stream"
# Each line is shown by itself, so no column can be made as wide as its longest cell.
_NAME, _RUNTIME = 24, 11


def show_live(client: Client, body: Mapping[str, object]) -> None:
    """Tell each candidate and each problem as it is found, and at last how it ended.

    Raises the server's refusal, or `not_running` if the stream breaks off before its end.
    """
    line = ProgressLine()
    try:
        with client.stream_answer(_ADDRESS, body) as frames:
            for frame in frames:
                found = json.loads(frame.data)
                if frame.event == "progress":
                    looked = count(found["directories"], "directory", "directories")
                    line.show(f"{looked}, {found['waiting']} to go, {found['candidates']} found")
                    continue
                line.clear()
                if frame.event == "candidate":
                    _candidate(found)
                elif frame.event == "problem":
                    notice(f"{found['path']}: {found['reason']}")
                elif frame.event == "refused":
                    raise _refusal(found)
                elif frame.event == "end":
                    _end(found)
                    return
    finally:
        line.clear()
    raise DorkError(
        ErrorCode.NOT_RUNNING,
        "The discovery broke off before its end.",
        hint="The server may have stopped; start it with `dorkos up`.",
    )


def _candidate(found: Any) -> None:
    hints = found["hints"]
    name, runtime = hints["suggestedName"], hints["detectedRuntime"]
    say(f"{name:<{_NAME}}  {runtime:<{_RUNTIME}}  {found['path']}", flush=True)
    if found["duplicateOf"]:
        notice(f"{found['path']} looks like a copy of agent {found['duplicateOf']}.")


def _end(end: Any) -> None:
    looked = count(end["directories"], "directory", "directories")
    if end["truncated"]:
        notice(f"The search ended early, by {end['truncatedBy']}. Name a smaller root, or use --depth.")
    if not end["candidates"]:
        say(f"Nothing new in {looked}. Registered and denied ones are left out.")
        return
    say("")
    say(f"{count(end['candidates'], 'candidate')} in {looked}. Register one: dorkos mesh register PATH")


def _refusal(body: Any) -> DorkError:
    try:
        code = ErrorCode(body["code"])
    except ValueError:
        code = ErrorCode.INTERNAL_ERROR
    return DorkError(code, str(body["error"]), hint=body.get("hint"), details=body.get("details"))
