"""`dorkos status`: how the server is."""

from __future__ import annotations

import os
from typing import Any

import typer

from dorkos.cli.connection import connect
from dorkos.cli.fleet import hint
from dorkos.cli.instants import duration, local_time, zoned_time
from dorkos.cli.options import options_of
from dorkos.cli.render import byte_size, count, print_facts, show
from dorkos.cli.target import find_url


def status(context: typer.Context) -> None:
    """Show whether the server works and how much it has to do.

    Example:

        dorkos status
    """
    options = options_of(context)
    url = find_url(options, os.environ)
    with connect(options) as client:
        show(options, client.get("/api/status"), lambda answer: _tell(url, answer))


def _tell(url: str, answer: Any) -> None:
    database, due = answer["database"], answer["pulse"]["nextDueAt"]
    print_facts(
        (
            ("server", url),
            ("version", f"{answer['version']}, up for {duration(int(answer['uptimeSeconds'] * 1000))}"),
            (
                "database",
                f"{database['location']} ({database['dialect']}, {byte_size(database['sizeBytes'])})",
            ),
            # A server of an earlier version tells neither.
            ("backups", _backups(answer["backups"]) if "backups" in answer else None),
            ("fleet", hint(answer["fleet"]) if "fleet" in answer else None),
            ("pulse", _pulse(answer["pulse"])),
            ("next due", zoned_time(due) or "nothing"),
            ("relay", _relay(answer["relay"])),
            ("mesh", _mesh(answer["mesh"])),
        )
    )


def _backups(part: Any) -> str:
    if part["madeBy"] != "dorkos":
        return f"made by {part['madeBy']}, not by DorkOS"
    if part["problem"] is not None:
        return f"FAILED: {part['problem']}"
    hours = part.get("everyHours")
    rule = "switched OFF by the settings" if hours == 0 else f"every {count(hours or 24, 'hour')}"
    newest = f"the newest of {local_time(part['newestAt'])}" if part["newestAt"] else "none yet"
    return f"{rule}, {newest}, {_rehearsed(part['rehearsedAt'])}"


def _rehearsed(at: str | None) -> str:
    return f"restored for trial {local_time(at)}" if at else "never restored for trial"


def _pulse(part: Any) -> str:
    runs = f"{count(part['runsRunning'], 'run')} at work, {part['runsQueued']} queued"
    return f"{count(part['schedules'], 'schedule')}, {runs}{_held(part)}"


def _relay(part: Any) -> str:
    mailboxes = count(part["endpoints"], "mailbox", "mailboxes")
    waiting = f"{count(part['messagesPending'], 'message')} waiting"
    return f"{mailboxes}, {waiting}, {count(part['deadLetters'], 'dead letter')}{_held(part)}"


def _mesh(part: Any) -> str:
    return f"{count(part['agents'], 'agent')}, {count(part['denials'], 'denied path')}{_held(part)}"


def _held(part: Any) -> str:
    """A part whose work is switched off says so: it looks idle otherwise."""
    return ", switched OFF by the settings" if part.get("enabled") is False else ""
