"""`dorkos init`: the settings that a person may want to choose before the first start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dorkos.cli.config_edit import aside, asked
from dorkos.cli.config_place import config_path, refuse_in_run
from dorkos.cli.options import options_of
from dorkos.cli.render import notice, say, show
from dorkos.errors import DorkError, ErrorCode

# Each with its question; the answer is checked before the next is asked.
_QUESTIONS = (
    ("server.port", "Port of the server"),
    ("server.boundary", "Directory that agents and paths must lie in"),
    ("scheduler.timezone", "Time zone of schedules that name none"),
    ("mesh.scanRoots", "Directories to look for agents in, separated by commas"),
)


def init(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: write the defaults, put an old file aside.")
    ] = False,
) -> None:
    """Write config.toml, asking for what people most often choose. A first start does without.

    Return takes what is offered. A file that is there already is put aside, never deleted.

    Example:

        dorkos init
    """
    from dorkos.config_edit import create
    from dorkos.home import Home

    refuse_in_run("write the settings")
    options = options_of(context)
    path = config_path(options)
    if not yes and (options.json or not sys.stdin.isatty()):
        raise DorkError(
            ErrorCode.USAGE, "Nobody is here to answer questions.", hint="`dorkos init --yes` asks none."
        )
    exists = path.exists()
    if exists and not yes and not asked(f"{path} exists. Put it aside and begin anew?", json=options.json):
        say("Aborted. Nothing was changed.")
        raise typer.Exit(1)
    chosen = {} if yes else _ask_all()
    Home(path.parent).prepare()
    kept = aside(path)["keptAs"] if exists else None
    if not create(path, chosen):
        raise DorkError(
            ErrorCode.CONFLICT, f"{path} was made by somebody else meanwhile.", hint="Look at what it says."
        )
    show(options, {"path": str(path), "keptAs": kept, "settings": chosen}, _tell)


def _ask_all() -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for key, question in _QUESTIONS:
        offered = _offered(key)
        value = _ask(key, question, offered)
        if value != offered:
            chosen[key] = value
    return chosen


def _ask(key: str, question: str, offered: Any) -> Any:
    from dorkos.config_edit import checked

    shown = ", ".join(offered) if isinstance(offered, list) else str(offered)
    while True:
        typed = typer.prompt(question, default=shown).strip()
        if typed == shown:
            return offered
        words = [str(Path(word.strip()).expanduser()) for word in typed.split(",") if word.strip()]
        value = words if isinstance(offered, list) else typed
        try:
            return checked({key: value})[key]
        except DorkError as refusal:
            notice(refusal.hint or refusal.message)


def _offered(key: str) -> Any:
    """What Return takes: the default, or what an empty setting means on this machine."""
    from dorkos.settings import SETTING_BY_KEY

    if key == "server.boundary":
        return str(Path.home())
    if key == "scheduler.timezone":
        from dorkos.pulse.zones import Zones

        return Zones(None).inherited.key
    return SETTING_BY_KEY[key].default


def _tell(answer: Any) -> None:
    if answer["keptAs"] is not None:
        say(f"The old file is now {answer['keptAs']}.")
    say(f"Settings are in {answer['path']}.")
    say("Start the server: dorkos up")
