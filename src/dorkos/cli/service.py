"""`dorkos service`: let the machine start the server by itself. Nothing is switched on unasked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dorkos.cli import service_files
from dorkos.cli.options import Command, Noun, Options, options_of
from dorkos.cli.render import notice, print_facts, say, show
from dorkos.cli.target import data_directory
from dorkos.errors import DorkError, ErrorCode

app = typer.Typer(cls=Noun, no_args_is_help=True, help="Let the machine start the server by itself.")


class Manager(StrEnum):
    """What starts programs for a user."""

    SYSTEMD = "systemd"
    LAUNCHD = "launchd"


NameOption = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="Its name, where more than one data directory is served."),
]
ManagerOption = Annotated[
    Manager | None,
    typer.Option("--manager", help="systemd or launchd; else the one of this system.", show_default=False),
]


@dataclass(frozen=True)
class _Place:
    """The file of a service, and who reads it."""

    manager: Manager
    name: str
    path: Path

    def commands(self, *, on: bool) -> list[list[str]]:
        """What switches it on, or off."""
        if self.manager is Manager.SYSTEMD:
            verbs = ["enable", "--now"] if on else ["disable", "--now"]
            reload = ["systemctl", "--user", "daemon-reload"]
            switch = ["systemctl", "--user", *verbs, f"{self.name}.service"]
            return [reload, switch] if on else [switch]
        verb = "bootstrap" if on else "bootout"
        return [["launchctl", verb, f"gui/{os.getuid()}", str(self.path)]]

    def text(self) -> str | None:
        """What stands in the file; None if there is none."""
        try:
            return self.path.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise _unwritable(self.path, fault) from fault


@app.command("install", cls=Command)
def install(
    context: typer.Context,
    name: NameOption = "dorkos",
    manager: ManagerOption = None,
    enable: Annotated[
        bool, typer.Option("--enable", help="Also switch it on: now, and at each login.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that this command did not write.")
    ] = False,
) -> None:
    """Write the file by which systemd or launchd starts the server for you: a user unit, or an agent.

    It starts `dorkos up` on this data directory, anew if it fails, with the PATH of this terminal, in which
    the programs of your agents are found. Without --enable nothing is switched on.

    Example:

        dorkos service install --enable
    """
    options = options_of(context)
    place = _place(name, manager)
    text = _text(place, options)
    before = place.text()
    if before is not None and before != text and not service_files.is_ours(before) and not force:
        raise DorkError(
            ErrorCode.CONFLICT,
            f"{place.path} exists, and this command did not write it.",
            hint="Choose another --name; --force writes over it.",
        )
    if place.manager is Manager.LAUNCHD:
        # It starts nothing whose log it cannot open, and makes no folder for it.
        _make_home(_home(options))
    if before != text:
        _write(place.path, text)
    done = _run(place.commands(on=True)) if enable else []
    answer = {
        **_wire(place),
        "changed": before != text,
        "enabled": enable,
        "next": [] if enable else [" ".join(command) for command in place.commands(on=True)],
        "ran": done,
    }
    show(options, answer, _tell_installed)


@app.command("uninstall", cls=Command)
def uninstall(
    context: typer.Context,
    name: NameOption = "dorkos",
    manager: ManagerOption = None,
    disable: Annotated[
        bool, typer.Option("--disable", help="First switch it off, which stops the server.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take away a file that this command did not write, too.")
    ] = False,
) -> None:
    """Take that file away. A server that it started runs on, unless you say --disable.

    Example:

        dorkos service uninstall --disable
    """
    options = options_of(context)
    place = _place(name, manager)
    before = place.text()
    if before is not None and not service_files.is_ours(before) and not force:
        raise DorkError(
            ErrorCode.CONFLICT,
            f"{place.path} was not written by this command.",
            hint="Look at it, then take it away with --force.",
        )
    done = _run(place.commands(on=False)) if disable and before is not None else []
    if before is not None:
        try:
            place.path.unlink()
        except OSError as fault:
            raise _unwritable(place.path, fault) from fault
    show(options, {**_wire(place), "changed": before is not None, "ran": done}, _tell_uninstalled)


@app.command("status", cls=Command)
def status(context: typer.Context, name: NameOption = "dorkos", manager: ManagerOption = None) -> None:
    """Show whether the file is there, whether it is up to date, and what its manager says. Changes nothing.

    Example:

        dorkos service status
    """
    options = options_of(context)
    place = _place(name, manager)
    found = place.text()
    answer = {
        **_wire(place),
        "installed": found is not None,
        "current": found is not None and found == _text(place, options),
        **_told_by_manager(place),
    }
    show(options, answer, _tell_status)


def _place(name: str, manager: Manager | None) -> _Place:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) is None:
        raise DorkError(
            ErrorCode.USAGE,
            f"A service cannot be called {name[:100]!r}.",
            hint="Use letters, digits, dots, hyphens and underscores, 64 at most.",
        )
    chosen = manager or (Manager.LAUNCHD if sys.platform == "darwin" else Manager.SYSTEMD)
    if chosen is Manager.LAUNCHD:
        return _Place(chosen, name, service_files.agent_path(name, Path.home()))
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # As systemd does it: what is not absolute counts as not given.
    config = Path(given) if given.startswith("/") else Path.home() / ".config"
    return _Place(chosen, name, service_files.unit_path(name, config))


def _text(place: _Place, options: Options) -> str:
    home = _home(options)
    path = os.environ.get("PATH", "")
    service = service_files.Service(
        name=place.name,
        argv=(sys.executable, "-m", "dorkos", "--home", str(home), "up"),
        environment=(("PATH", path),) if path else (),
        home=home,
        log_path=home / "service.log",
    )
    for text in (*service.argv, *(value for _, value in service.environment)):
        if service_files.has_odd_characters(text):
            raise DorkError(
                ErrorCode.INVALID_TEXT,
                f"{text!r} holds a character that cannot stand in the file of a service.",
                hint="Use a data directory and a PATH in UTF-8, without line breaks and control characters.",
            )
    return (service_files.unit if place.manager is Manager.SYSTEMD else service_files.agent)(service)


def _write(path: Path, text: str) -> None:
    from dorkos.plain_file import write_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
    except OSError as fault:
        raise _unwritable(path, fault) from fault


def _home(options: Options) -> Path:
    return Path(data_directory(options, os.environ)).expanduser().absolute()


def _make_home(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as fault:
        raise _unwritable(home, fault) from fault


def _unwritable(path: Path, fault: OSError) -> DorkError:
    return DorkError(
        ErrorCode.HOME_UNWRITABLE,
        f"{path} cannot be read or written: {fault.strerror or fault}.",
        hint="Correct its owner and mode; with systemd, XDG_CONFIG_HOME names another folder.",
    )


def _run(commands: list[list[str]]) -> list[str]:
    """Run each. Raises `not_running` with what it said, if one fails or is not there."""
    done: list[str] = []
    for command in commands:
        told = " ".join(command)
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise _not_switched(told, str(fault)) from fault
        if result.returncode != 0:
            raise _not_switched(told, (result.stderr or result.stdout).strip())
        done.append(told)
    return done


def _not_switched(command: str, why: str) -> DorkError:
    return DorkError(
        ErrorCode.NOT_RUNNING,
        f"`{command}` failed: {why[:500]}",
        hint="The file stands as it is. Where nobody is logged in, `loginctl enable-linger` comes first.",
    )


def _told_by_manager(place: _Place) -> dict[str, str | None]:
    """What systemd says of it in a word each; None where it is not there to be asked."""
    if place.manager is not Manager.SYSTEMD or shutil.which("systemctl") is None:
        return {"enabled": None, "active": None}
    said: dict[str, str | None] = {}
    for key, verb in (("enabled", "is-enabled"), ("active", "is-active")):
        command = ["systemctl", "--user", verb, f"{place.name}.service"]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
        except (OSError, subprocess.TimeoutExpired):
            said[key] = None
        else:
            said[key] = result.stdout.strip() or None
    return said


def _wire(place: _Place) -> dict[str, Any]:
    return {"manager": place.manager.value, "name": place.name, "path": str(place.path)}


def _tell_installed(answer: Any) -> None:
    say(f"{'Wrote' if answer['changed'] else 'Up to date:'} {answer['path']}", "green")
    if answer["enabled"]:
        say("It is switched on: the server runs, and starts at each login.")
    else:
        say("Nothing is switched on. To do so:")
        for command in answer["next"]:
            say(f"  {command}")
    if answer["manager"] == Manager.SYSTEMD.value:
        notice("It runs while you are logged in; `loginctl enable-linger` lets it run without.")


def _tell_uninstalled(answer: Any) -> None:
    say(f"Took away {answer['path']}." if answer["changed"] else f"There is no {answer['path']}.")
    if answer["changed"] and not answer["ran"]:
        notice("A server that it started runs on until it is stopped.")


def _tell_status(answer: Any) -> None:
    state = "not installed"
    if answer["installed"]:
        state = "installed" if answer["current"] else "installed; `dorkos service install` would change it"
    print_facts(
        (
            ("file", answer["path"]),
            ("state", state),
            ("at login", answer["enabled"] or "unknown"),
            ("now", answer["active"] or "unknown"),
        )
    )
