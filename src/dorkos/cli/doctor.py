"""`dorkos doctor`: is everything well here, and if not, what to do."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from dorkos.cli.db_place import DatabaseOption
from dorkos.cli.options import Options, options_of
from dorkos.cli.render import count, say, say_pieces, show
from dorkos.cli.target import data_directory
from dorkos.errors import DorkError

if TYPE_CHECKING:
    from dorkos.db.finding import Finding
    from dorkos.home import Home
    from dorkos.settings import LoadedSettings, Settings

_STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red"}
_LEVEL = 7
_INDENT = 2


def doctor(context: typer.Context, database: DatabaseOption = None) -> None:
    """Look at everything that DorkOS stands on, and say what to do about what is not well. Changes nothing.

    A server may be running or not; the database is opened read-only and read through, which takes a while
    when it is large. With --url, that server is asked instead, for all that it can tell from afar. The exit
    code is 1 if there is a fault; a warning alone leaves it 0.

    Example:

        dorkos doctor
    """
    options = options_of(context)
    groups = [(group, list(findings)) for group, findings in _examine(options, database)]
    levels = [finding.level.value for _, findings in groups for finding in findings]
    answer = {
        "ok": "fault" not in levels,
        "faults": levels.count("fault"),
        "warnings": levels.count("warning"),
        "findings": [_wire(group, finding) for group, findings in groups for finding in findings],
    }
    show(options, answer, _tell)
    if not answer["ok"]:
        raise typer.Exit(1)


def _examine(options: Options, database: str | None) -> Iterator[tuple[str, Iterable[Finding]]]:
    """Every group of lines by its heading."""
    if options.url is not None:
        yield "Server", _afar(options)
        return
    from dorkos.cli.doctor_place import examine_home, examine_python, examine_settings, examine_zone
    from dorkos.cli.doctor_runtimes import examine_runtimes
    from dorkos.cli.doctor_server import examine_server
    from dorkos.db.doctor import examine_library
    from dorkos.db.finding import examined_all
    from dorkos.home import Home
    from dorkos.settings import Settings

    home = Home(data_directory(options, os.environ))
    loaded, unreadable = _settings(home, database)
    settings = Settings() if loaded is None else loaded.values
    machine = [examine_python(), examine_library()]
    if loaded is not None:
        machine.extend(examine_settings(loaded, home.config_path))
    if unreadable is not None:
        machine.append(unreadable)
    machine.append(examine_zone(settings.scheduler.timezone))
    yield "Machine", machine
    yield "Data directory", examine_home(home, postgres=settings.database.url is not None)
    yield "Server", [examine_server(home)]
    yield "Runtimes", examine_runtimes(home.path / "runtimes")
    # What the settings do not tell must not be guessed: another database would be examined.
    if unreadable is None:
        yield "Database", examined_all("database", _database(home, settings))


def _afar(options: Options) -> list[Finding]:
    from dorkos.cli.client import Client
    from dorkos.cli.doctor_remote import examine_remote
    from dorkos.cli.target import find_target

    target = find_target(options, os.environ)
    client = Client(target)
    try:
        return list(examine_remote(client, target.url))
    finally:
        client.close()


def _settings(home: Home, database: str | None) -> tuple[LoadedSettings | None, Finding | None]:
    from dorkos.db.finding import refused
    from dorkos.settings import load_settings

    try:
        flags = {"database.url": database}
        return load_settings(home.config_path, environment=os.environ, flags=flags), None
    except DorkError as refusal:
        return None, refused("settings", refusal)


def _database(home: Home, settings: Settings) -> Iterator[Finding]:
    from dorkos.clock import SystemClock
    from dorkos.db.engine import is_postgres, not_postgres
    from dorkos.db.finding import refused

    url, now = settings.database.url, SystemClock().now()
    if url is None:
        from dorkos.db.doctor import examine_sqlite

        yield from examine_sqlite(home.database_path, backups=home.backups_path, now=now)
    elif is_postgres(url):
        from dorkos.db.doctor_postgres import examine_postgres

        yield from examine_postgres(url, now=now)
    else:
        yield refused("database", not_postgres(url))


def _wire(group: str, finding: Finding) -> dict[str, Any]:
    return {
        "group": group,
        "name": finding.name,
        "level": finding.level.value,
        "message": finding.message,
        **({} if finding.advice is None else {"advice": finding.advice}),
        **({"facts": dict(finding.facts)} if finding.facts else {}),
    }


def _tell(answer: Any) -> None:
    names = max(len(finding["name"]) for finding in answer["findings"])
    group = None
    for finding in answer["findings"]:
        if finding["group"] != group:
            if group is not None:
                say("")
            group = finding["group"]
            say(group, "bold")
        _tell_one(finding, names)
    say("")
    _conclude(answer["faults"], answer["warnings"])


def _tell_one(finding: Any, names: int) -> None:
    """The level in its colour, the name, the message; below it, as far in, what to do."""
    level, name = finding["level"], finding["name"]
    margin = " " * (_INDENT + _LEVEL + 2 + names + 2)
    lines = _wrapped(finding["message"], len(margin))
    say_pieces(
        (" " * _INDENT, ""),
        (level.ljust(_LEVEL + 2), _STYLES[level]),
        (name.ljust(names + 2), ""),
        (lines[0], ""),
    )
    for line in lines[1:]:
        say(margin + line)
    for number, line in enumerate(_wrapped(finding.get("advice") or "", len(margin) + 3)):
        if line:
            say_pieces((margin, ""), ("-> " if number == 0 else "   ", _STYLES[level]), (line, ""))


def _wrapped(text: str, margin: int) -> list[str]:
    """The text in lines of the terminal's width; in a pipe nothing is broken."""
    if not sys.stdout.isatty():
        return [text]
    width = max(30, shutil.get_terminal_size().columns - margin)
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _conclude(faults: int, warnings: int) -> None:
    if faults:
        also = f" and {count(warnings, 'warning')}" if warnings else ""
        say(f"{count(faults, 'fault')}{also}: do what stands behind the arrows.", "bold red")
    elif warnings:
        say(f"It works. {count(warnings, 'warning')}: see what stands behind the arrows.", "yellow")
    else:
        say("All is well.", "green")
