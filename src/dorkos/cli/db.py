"""`dorkos db`: the database. These commands open it in this process; only `status` asks a server first."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from dorkos.cli.connection import connect
from dorkos.cli.instants import duration
from dorkos.cli.options import Command, Noun, Options, options_of
from dorkos.cli.render import byte_size, notice, print_facts, say, show
from dorkos.cli.target import data_directory
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.db.migrate import MigrationReport
    from dorkos.home import Home

app = typer.Typer(help="The database: migrations and checks.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

DatabaseOption = Annotated[
    str | None, typer.Option(metavar="URL", help="PostgreSQL URL; else as the settings say.")
]


@dataclass(frozen=True, slots=True)
class _Place:
    """The database that is meant: a PostgreSQL URL, or the file in the data directory."""

    home: Home
    url: str | None


@command("status")
def status(context: typer.Context, database: DatabaseOption = None) -> None:
    """Show which migrations the database has. Changes nothing.

    Example:

        dorkos db status
    """
    options = options_of(context)
    found = None if database else _ask_server(options)
    show(options, found or _look(_place(options, database)), _tell_status)


@command("migrate")
def migrate(context: typer.Context, database: DatabaseOption = None) -> None:
    """Bring the database up to date without starting the server, which does the same at each start.

    A snapshot is taken before anything changes. Refused while a server holds the data directory.

    Example:

        dorkos db migrate
    """
    options = options_of(context)
    report = _migrate(_place(options, database))
    answer = {
        "applied": [asdict(applied) for applied in report.applied],
        "snapshot": None if report.snapshot is None else str(report.snapshot),
        "notes": list(report.notes),
    }
    show(options, answer, _tell_migrated)


@command("verify")
def verify(context: typer.Context, database: DatabaseOption = None) -> None:
    """Check the stored data: integrity, relations, schema and migrations. Changes nothing.

    A server may be running meanwhile. The exit code is 1 if there is a problem.

    Example:

        dorkos db verify
    """
    from dorkos.db.verify import verify_postgres, verify_sqlite

    options = options_of(context)
    place = _place(options, database)
    problems = verify_postgres(place.url) if place.url else verify_sqlite(place.home.database_path)
    _conclude(options, problems, "The database is sound.")


@command("check")
def check(context: typer.Context) -> None:
    """Check the code: that schema and migrations agree, and that no migration was edited. Changes nothing.

    The exit code is 1 if there is a problem.

    Example:

        dorkos db check
    """
    from dorkos.db.check import check as problems_of_code

    _conclude(options_of(context), problems_of_code(), "Schema and migrations agree.")


def _ask_server(options: Options) -> Any:
    """The server's answer, or None if there is none to ask."""
    try:
        with connect(options) as client:
            return client.get("/api/db/status")
    except DorkError as refusal:
        # Of a server that was named by hand, "it does not run" is the answer.
        if options.url or os.environ.get("DORKOS_URL") or refusal.code is not ErrorCode.NOT_RUNNING:
            raise
        return None


def _place(options: Options, database: str | None) -> _Place:
    from dorkos.db.engine import is_postgres
    from dorkos.home import Home
    from dorkos.settings import load_settings

    home = Home(data_directory(options, os.environ))
    settings = load_settings(home.config_path, environment=os.environ, flags={"database.url": database})
    url = settings.values.database.url
    if url is not None and not is_postgres(url):
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"database.url names no PostgreSQL: {url.split(':', 1)[0]}:…",
            hint="Use postgresql://user@host/name, or leave it empty for the file in the data directory.",
        )
    return _Place(home, url)


def _look(place: _Place) -> dict[str, Any]:
    from dorkos.db.migrate import status_postgres, status_sqlite

    file = place.home.database_path
    found = status_postgres(place.url) if place.url else status_sqlite(file)
    # The server's answer, as far as it can be known without one, and what waits besides.
    return {
        "dialect": "postgresql" if place.url else "sqlite",
        "location": _without_secrets(place.url) if place.url else str(file),
        "sizeBytes": file.stat().st_size if not place.url and file.exists() else None,
        "migrations": [{"id": entry.id, "version": entry.version} for entry in found.applied],
        "pending": list(found.pending),
    }


def _without_secrets(url: str) -> str:
    """Host, port and name: a password may stand in a URL in more than one place."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'local socket'}:{parts.port or 5432}{parts.path}"


def _migrate(place: _Place) -> MigrationReport:
    from dorkos.app import migrate as bring_up_to_date
    from dorkos.clock import SystemClock

    place.home.prepare()
    place.home.lock()
    try:
        return bring_up_to_date(place.home, place.url, SystemClock(), notice)
    finally:
        place.home.unlock()


def _conclude(options: Options, problems: Sequence[str], affirmation: str) -> None:
    def tell(_: Any) -> None:
        for problem in problems:
            say(problem, "red")
        if not problems:
            say(affirmation, "green")

    show(options, {"ok": not problems, "problems": list(problems)}, tell)
    if problems:
        raise typer.Exit(1)


def _tell_status(answer: Any) -> None:
    size = answer.get("sizeBytes")
    print_facts(
        (
            ("database", answer["location"]),
            ("engine", " ".join(filter(None, (answer["dialect"], answer.get("engineVersion"))))),
            ("size", None if size is None else byte_size(size)),
            *((_heading(number, "applied"), row["id"]) for number, row in enumerate(answer["migrations"])),
            *((_heading(number, "pending"), name) for number, name in enumerate(answer.get("pending", ()))),
        )
    )
    if answer.get("pending"):
        say("")
        say("The next start applies what is pending; `dorkos db migrate` does it now.")


def _heading(number: int, word: str) -> str:
    return word if number == 0 else ""


def _tell_migrated(answer: Any) -> None:
    for applied in answer["applied"]:
        say(f"{applied['id']}  {duration(applied['duration_ms'])}")
        for note in applied["notes"]:
            say(f"  {note}")
    for note in answer["notes"]:
        say(note)
    if answer["snapshot"]:
        say(f"Snapshot: {answer['snapshot']}")
    if not answer["applied"]:
        say("The database is up to date; nothing was changed.", "green")
