"""`dorkos db`: the database. These commands open it in this process; only `status` asks a server first."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from dorkos.cli import db_adopt, db_move, db_restore
from dorkos.cli.connection import connect
from dorkos.cli.db_place import DatabaseOption, Place, file_named, only_sqlite, place_of
from dorkos.cli.db_text import tell_backup, tell_drafted, tell_migrated, tell_rehearsed, tell_status
from dorkos.cli.options import Command, Noun, Options, options_of
from dorkos.cli.render import notice, say, show
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.db.migrate import MigrationReport

app = typer.Typer(help="The database: migrations, checks and backups.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)
command("adopt")(db_adopt.adopt)
command("digest")(db_move.digest)
command("export")(db_move.export)
command("import")(db_move.import_)
command("transfer")(db_move.transfer)


@command("status")
def status(context: typer.Context, database: DatabaseOption = None) -> None:
    """Show which migrations the database has. Changes nothing.

    Example:

        dorkos db status
    """
    options = options_of(context)
    found = None if database else _ask_server(options)
    show(options, found or _look(place_of(options, database)), tell_status)


@command("migrate")
def migrate(
    context: typer.Context,
    database: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Migrate a copy, say what happened to it, and throw it away.")
    ] = False,
) -> None:
    """Bring the database up to date without starting the server, which does the same at each start.

    A snapshot is taken before anything changes. Refused while a server holds the data directory. With
    --dry-run nothing is changed, and a server may be running.

    The exit code is 1 if something of DorkOS for Node was left out because it cannot be read.

    Example:

        dorkos db migrate --dry-run
        dorkos db migrate
    """
    options = options_of(context)
    place = place_of(options, database)
    report = _rehearse(place) if dry_run else _migrate(place)
    answer = {
        "dryRun": dry_run,
        "applied": [asdict(applied) for applied in report.applied],
        "snapshot": None if report.snapshot is None else str(report.snapshot),
        "notes": list(report.notes),
        "adopted": report.adopted,
    }
    show(options, answer, tell_rehearsed if dry_run else tell_migrated)
    if report.adopted is not None and report.adopted["unreadable"]:
        raise typer.Exit(1)


@command("backup")
def backup(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="The file to make; else one in the backups folder."),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Copy the SQLite database to a file, read the copy back, and say where it is.

    A server may be running and writing meanwhile. Nothing is ever replaced, and no backup is ever deleted.

    Example:

        dorkos db backup
        dorkos db backup /mnt/stick/dork.db
    """
    from dorkos.clock import SystemClock
    from dorkos.db.backup import back_up_sqlite

    options = options_of(context)
    place = place_of(options, database)
    if place.url:
        raise only_sqlite(
            "Backups of PostgreSQL are made by its own tools.",
            "Run pg_dump --format=custom --file=dorkos.dump with the same URL; pg_restore reads it back.",
        )
    made = back_up_sqlite(
        place.home.database_path,
        backups=place.home.backups_path,
        to=None if file is None else file_named(file),
        now=SystemClock().now(),
    )
    answer = {
        "file": str(made.path),
        "sizeBytes": made.size_bytes,
        "migration": made.migration,
        "rows": made.rows,
    }
    show(options, answer, tell_backup)


command("restore")(db_restore.restore)
command("rehearse")(db_restore.rehearse)


@command("verify")
def verify(context: typer.Context, database: DatabaseOption = None) -> None:
    """Check the stored data: integrity, relations, schema and migrations. Changes nothing.

    A server may be running meanwhile. The exit code is 1 if there is a problem.

    Example:

        dorkos db verify
    """
    from dorkos.db.verify import verify_postgres, verify_sqlite

    options = options_of(context)
    place = place_of(options, database)
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


@command("revision")
def revision(
    context: typer.Context,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="What it does, in one line.")
    ],
    empty: Annotated[
        bool, typer.Option("--empty", help="Also where nothing differs: for a migration of data.")
    ] = False,
) -> None:
    """Draft the next migration from the difference between migrations and declared schema.

    For developers, in a git checkout. The draft has to be read and finished before it is entered into
    ledger.lock, which this command leaves alone.

    Example:

        dorkos db revision -m "agents have colours"
    """
    from dorkos.db.draft import draft_revision

    drafted = draft_revision(message, empty=empty)
    answer = {
        "file": str(drafted.path),
        "id": drafted.path.stem,
        "differences": list(drafted.differences),
        "missing": list(drafted.missing),
    }
    show(options_of(context), answer, tell_drafted)


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


def _look(place: Place) -> dict[str, Any]:
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


def _migrate(place: Place) -> MigrationReport:
    from dorkos.clock import SystemClock
    from dorkos.storage import migrate as bring_up_to_date

    place.home.prepare()
    place.home.lock()
    try:
        return bring_up_to_date(place.home, place.url, SystemClock(), notice)
    finally:
        place.home.unlock()


def _rehearse(place: Place) -> MigrationReport:
    from dorkos.clock import SystemClock
    from dorkos.storage import rehearse

    if place.url:
        raise only_sqlite(
            "--dry-run works on a copy, and DorkOS copies only SQLite databases.",
            "Restore a pg_dump into another database, and run `dorkos db migrate --database` on that.",
        )
    return rehearse(place.home, SystemClock(), notice)


def _conclude(options: Options, problems: Sequence[str], affirmation: str) -> None:
    def tell(_: Any) -> None:
        for problem in problems:
            say(problem, "red")
        if not problems:
            say(affirmation, "green")

    show(options, {"ok": not problems, "problems": list(problems)}, tell)
    if problems:
        raise typer.Exit(1)
