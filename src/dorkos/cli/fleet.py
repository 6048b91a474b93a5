"""`dorkos fleet`: everything at once, put on hold, stopped, drained, and set going again."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from dorkos.cli.in_process import ask
from dorkos.cli.instants import zoned_time
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import count, print_facts, say, show

_FLEET = "/api/system/fleet"
_WORDS = {"running": "running", "drain": "draining", "hold": "on hold", "stop": "stopped"}
_STYLES = {"running": "green", "drain": "yellow", "hold": "yellow", "stop": "red"}

app = typer.Typer(cls=Noun, invoke_without_command=True)
command = functools.partial(app.command, cls=Command)

ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for whoever wonders.")
]


@app.callback()
def fleet(context: typer.Context) -> None:
    """Whether work may start at all: all schedules, runs and messages at once.

    Alone it shows the mode and what waits. The mode survives restarts, counts
    for every server on the database, and can be set while no server runs.

    Example:

        dorkos fleet
        dorkos fleet hold --reason 'the bill is too high'
    """
    if context.invoked_subcommand is None:
        show(options_of(context), ask(options_of(context), "GET", _FLEET), _tell)


@command("hold")
def hold(context: typer.Context, reason: ReasonOption = None) -> None:
    """Start nothing more; what runs may end. Messages are still accepted, and wait.

    Example:

        dorkos fleet hold --reason 'the bill is too high'
    """
    _set(context, "hold", reason)


@command("drain")
def drain(context: typer.Context, reason: ReasonOption = None) -> None:
    """Take nothing new, but finish what was accepted: queued runs and waiting messages.

    Example:

        dorkos fleet drain --reason 'maintenance tonight'
    """
    _set(context, "drain", reason)


@command("stop")
def stop(context: typer.Context, reason: ReasonOption = None) -> None:
    """Start nothing more, and end every run that is at work.

    Example:

        dorkos fleet stop --reason 'two agents argue'
    """
    _set(context, "stop", reason)


@command("resume")
def resume(context: typer.Context, reason: ReasonOption = None) -> None:
    """Let work go on. What waits starts; what was due meanwhile is not caught up.

    Example:

        dorkos fleet resume
    """
    _set(context, "running", reason)


def hint(mode: Any) -> str | None:
    """A mode other than running in a sentence, None for running; for commands about something else."""
    if mode["mode"] == "running":
        return None
    why = f": {mode['reason']}" if mode["reason"] else ""
    return f"{_WORDS.get(mode['mode'], mode['mode'])} since {zoned_time(mode['since']) or 'unknown'}{why}"


def _set(context: typer.Context, mode: str, reason: str | None) -> None:
    options = options_of(context)
    show(options, ask(options, "POST", _FLEET, {"mode": mode, "reason": reason}), _tell_change)


def _tell_change(answer: Any) -> None:
    if not answer["changed"]:
        say(f"The fleet is {_word(answer)} already. Nothing was changed.")
    _tell(answer)


def _tell(answer: Any) -> None:
    say(f"The fleet is {_word(answer)}.", _STYLES.get(answer["mode"], ""))
    waiting = answer["waiting"]
    queued, pending = count(waiting["runsQueued"], "run"), count(waiting["deliveriesPending"], "message")
    print_facts(
        (
            ("since", zoned_time(answer["since"]) or None),
            ("reason", answer["reason"]),
            ("set by", answer["actor"]),
            ("waiting", f"{queued}, {pending}"),
            ("at work", count(waiting["runsRunning"], "run")),
        )
    )
    if answer["mode"] != "running":
        say("Let it go on: dorkos fleet resume")


def _word(answer: Any) -> str:
    return _WORDS.get(answer["mode"], str(answer["mode"]))
