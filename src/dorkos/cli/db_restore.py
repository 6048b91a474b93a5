"""`dorkos db restore` and `dorkos db rehearse`: going back to a backup, for good or for trial."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dorkos.cli.db_place import DatabaseOption, Place, file_named, only_sqlite, place_of
from dorkos.cli.instants import local_time
from dorkos.cli.options import options_of
from dorkos.cli.render import count, notice, print_facts, say, show
from dorkos.clock import iso
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.db.backup_facts import BackupNote
    from dorkos.db.restore import Restore
    from dorkos.home import Home

_FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The backup, in any folder.")]
_PG_RESTORE = "Run pg_restore --clean --if-exists --dbname=URL dorkos.dump, with no server running."


def restore(
    context: typer.Context,
    file: _FileArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Put a backup in the place of the database. Stop the server first.

    The backup is copied, brought up to date and verified before anything is touched, and stays as it is.
    What it replaces is kept in the backups folder and never deleted. Afterwards the fleet stands on hold:
    nothing that was waiting starts before you say so.

    Example:

        dorkos db restore ~/.dork/backups/daily-20260301T090000Z-0004_full_schema.db
    """
    from dorkos.clock import SystemClock
    from dorkos.db.legacy.recognition import refuse_to_hide
    from dorkos.db.replace import finish_replacement
    from dorkos.db.restore import prepared_restore
    from dorkos.db.staging import refuse_what_is_no_file

    options = options_of(context)
    place = place_of(options, database)
    if place.url:
        raise only_sqlite("Backups of PostgreSQL are restored by its own tools.", _PG_RESTORE)
    backup = file_named(file)
    # Before the data directory is made or locked: a slip in the name is to leave no trace.
    refuse_what_is_no_file(backup)
    if not yes and not sys.stdin.isatty():
        raise DorkError(
            ErrorCode.USAGE,
            "There is no terminal to ask whether the database may be replaced. Nothing was changed.",
            hint="Give --yes if it may.",
        )
    home = place.home
    with _locked(home):
        refuse_to_hide(home.path)
        finish_replacement(home.database_path)
        prepared = prepared_restore(
            backup, home.database_path, backups=home.backups_path, clock=SystemClock(), say=notice
        )
        with prepared as ready:
            answer = _facts_of(ready, home)
            if not yes and not _confirmed(answer):
                show(options, answer, lambda _: say("Nothing was changed."))
                raise typer.Exit(1)
            kept = ready.carry_out()
    show(options, {**answer, "restored": True, "kept": None if kept is None else str(kept)}, _tell_restored)


def rehearse(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="The backup; else the newest in the backups folder."),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Restore a backup into a folder that is thrown away, to see whether that works.

    It is migrated and verified as a restore would do it. The database is not touched, and a server may be
    running. The exit code is 1 if the backup could not be restored.

    Example:

        dorkos db rehearse
    """
    from dorkos.clock import SystemClock
    from dorkos.db.rehearse import newest_backup
    from dorkos.db.rehearse import rehearse as rehearsal_of
    from dorkos.db.staging import refuse_what_is_no_file

    options = options_of(context)
    place = place_of(options, database)
    if place.url:
        raise only_sqlite(
            "Backups of PostgreSQL are rehearsed with its own tools.",
            "Restore a pg_dump into another database, and run `dorkos db verify --database` on that.",
        )
    backups = place.home.backups_path
    try:
        backup = newest_backup(backups) if file is None else file_named(file)
    except OSError as fault:
        raise DorkError(
            ErrorCode.RESTORE_FAILED,
            f"The folder of backups {backups} cannot be read: {fault.strerror}.",
            hint="Correct its owner and mode, or move away what is in its place; or name the backup.",
        ) from fault
    if backup is None:
        raise DorkError(
            ErrorCode.NOT_FOUND, f"There is no backup in {backups}.", hint="Make one with `dorkos db backup`."
        )
    refuse_what_is_no_file(backup)
    note = rehearsal_of(backup, scratch=_scratch(backups), clock=SystemClock(), say=notice)
    recorded = _record(place, note)
    show(options, {**note.fields(), "file": str(backup), "recorded": recorded}, _tell_rehearsed)
    if not note.ok:
        raise typer.Exit(1)


def _scratch(backups: Path) -> Path:
    """Where there is room for databases; the folder for temporary files may be one in memory."""
    import tempfile

    usable = backups.is_dir() and os.access(backups, os.W_OK | os.X_OK)
    return backups if usable else Path(tempfile.gettempdir())


def _record(place: Place, note: BackupNote) -> bool:
    """Remember the rehearsal in the database, unless a server holds it: no other process writes there."""
    from dorkos.clock import SystemClock
    from dorkos.db.rehearse import record_offline

    if not place.home.database_path.exists():
        return False
    try:
        with _locked(place.home):
            return record_offline(place.home.database_path, note, clock=SystemClock())
    except DorkError:
        return False


@contextlib.contextmanager
def _locked(home: Home) -> Iterator[None]:
    home.prepare()
    try:
        home.lock()
    except DorkError as refusal:
        if refusal.code is not ErrorCode.HOME_LOCKED:
            raise
        hint = "Stop that server first: what it is about to write would be lost."
        raise DorkError(refusal.code, refusal.message, hint=hint, details=refusal.details) from refusal
    try:
        yield
    finally:
        home.unlock()


def _facts_of(ready: Restore, home: Home) -> dict[str, Any]:
    """What is about to happen, as the answer tells it."""
    staged, replaced = ready.staged, ready.replaced
    return {
        "restored": False,
        "database": str(home.database_path),
        "file": str(staged.file),
        "asOf": None if staged.as_of is None else iso(staged.as_of),
        "rows": staged.rows,
        "migration": staged.migration,
        "migrated": list(staged.applied),
        "waiting": {"runs": ready.waiting.runs, "messages": ready.waiting.messages},
        "replaces": None
        if replaced is None
        else {
            "problem": replaced.problem,
            "rows": replaced.rows,
            "asOf": None if replaced.as_of is None else iso(replaced.as_of),
            "runsUnfinished": replaced.runs,
        },
        "kept": None,
    }


def _confirmed(answer: Any) -> bool:
    for line in _outlook(answer):
        notice(line)
    return typer.confirm("Replace the database?", err=True)


def _outlook(answer: Any) -> Iterator[str]:
    yield f"database: {answer['database']}"
    now = answer["replaces"]
    if now is None:
        yield "  now:   there is none"
    elif now["problem"] is not None:
        yield f"  now:   {now['problem']}"
    else:
        yield f"  now:   {_contents(now)}"
    yield f"  then:  {_contents(answer)}, from {answer['file']}"
    if now is not None:
        yield "What is there now is kept in the backups folder; what happened since the backup is only there."
    if now is not None and now["runsUnfinished"]:
        unfinished = count(now["runsUnfinished"], "run")
        yield f"{unfinished} there: their server was killed. A program of theirs that still runs goes on."


def _contents(part: Any) -> str:
    as_of = local_time(part["asOf"])
    return f"{count(part['rows'], 'row')}, newest event {as_of}" if as_of else count(part["rows"], "row")


def _tell_restored(answer: Any) -> None:
    waiting = answer["waiting"]
    print_facts(
        (
            ("restored", answer["file"]),
            ("as of", local_time(answer["asOf"]) or "an unknown time"),
            ("rows", str(answer["rows"])),
            ("migrated", ", ".join(answer["migrated"]) or "nothing; it was up to date"),
            ("replaced", answer["kept"] or "nothing; there was no database"),
        )
    )
    say("The fleet stands on hold, and nothing starts: look around after `dorkos up`.", "yellow")
    say("`dorkos fleet` shows what waits, `dorkos fleet resume` lets it go on.")
    if waiting["runs"] or waiting["messages"]:
        say(
            f"Then {count(waiting['runs'], 'queued run')} and {count(waiting['messages'], 'pending message')}"
            " go on, which may have been dealt with after the backup was made."
        )


def _tell_rehearsed(answer: Any) -> None:
    if answer["ok"]:
        say(f"{answer['file']} can be restored: {count(answer['rows'], 'row')}, all checks passed.", "green")
    else:
        say(f"It cannot be restored: {answer['problem']}", "red")
    if not answer["recorded"]:
        say("It is not noted in the database: a server has that open, or it is of another version.")
