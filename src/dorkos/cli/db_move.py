"""`dorkos db digest`, `export`, `import` and `transfer`: comparing databases, and moving one elsewhere."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from dorkos.cli.db_move_text import (
    tell_digest,
    tell_discarded,
    tell_exported,
    tell_imported,
    tell_transferred,
)
from dorkos.cli.db_place import DatabaseOption, Place, file_named, place_of
from dorkos.cli.options import options_of
from dorkos.cli.progress import progress_bar
from dorkos.cli.render import notice, show
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.db.digest import TableDigest
    from dorkos.home import Home

_STREAM = "-"


def digest(context: typer.Context, database: DatabaseOption = None) -> None:
    """Count and digest the rows of each table: equal digests mean equal contents, on either engine.

    Changes nothing; a server may be running. What is made anew when rows are moved does not count: the
    name of the event history, the fleet's mode, where each schedule stands, process ids.

    Example:

        dorkos db digest
    """
    from dorkos.db.digest import digest_tables, whole_digest
    from dorkos.db.moving import one_moment
    from dorkos.db.rows import shapes

    options = options_of(context)
    place = place_of(options, database)
    with progress_bar() as progress, one_moment(_source(place)) as moment:
        found = digest_tables(moment.connection, shapes(), progress)
        moment.prove()
    answer = {"migration": moment.migration, "digest": whole_digest(found), "tables": _tables(found)}
    show(options, answer, tell_digest)


def export(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]",
            help="The file to make, or - for standard output; else one in the backups folder.",
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Write everything in the database as lines of JSON, compressed if the name ends in .gz.

    A server may be running and writing: the file shows one moment. It is made for its owner alone and
    is to be kept so: the secrets of adapters and the hashes of tokens are in it. Nothing is replaced.

    Example:

        dorkos db export everything.jsonl.gz
    """
    from dorkos.clock import SystemClock
    from dorkos.db.exporting import export_to_file, export_to_stream

    options = options_of(context)
    place = place_of(options, database)
    with progress_bar() as progress:
        if file == _STREAM:
            made = export_to_stream(_source(place), sys.stdout.buffer, clock=SystemClock(), progress=progress)
        else:
            made = export_to_file(
                _source(place),
                to=None if file is None else file_named(file),
                folder=place.home.backups_path,
                clock=SystemClock(),
                progress=progress,
            )
    if made.file is None:
        notice(f"Exported {sum(found.rows for found in made.tables.values())} rows; digest {made.digest}")
        return
    answer = {
        "file": str(made.file),
        "sizeBytes": made.file.stat().st_size,
        "migration": made.migration,
        "digest": made.digest,
        "tables": _tables(made.tables),
    }
    show(options, answer, tell_exported)


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The export to read, or - for standard input.")],
    database: DatabaseOption = None,
) -> None:
    """Read an export into an empty database, all of it or nothing.

    The data directory must hold no database, or one without any rows; the same goes for a PostgreSQL
    database. Refused while a server holds the directory. Afterwards the fleet is on hold, so that nothing
    fires twice while the original may still be running.

    Example:

        dorkos db import everything.jsonl.gz --home ~/restored
    """
    from dorkos.clock import SystemClock
    from dorkos.db.importing import import_export
    from dorkos.db.legacy.recognition import refuse_to_hide

    options = options_of(context)
    place = place_of(options, database)
    with _opened(file) as (lines, size), _locked(place.home), progress_bar() as progress:
        if not place.url:
            refuse_to_hide(place.home.path)
        made = import_export(
            lines,
            _source(place),
            backups=place.home.backups_path,
            clock=SystemClock(),
            size=size,
            progress=progress,
        )
    answer = {
        "writtenBy": made.header.written_by,
        "exportedAt": made.header.at,
        "migration": made.header.migration,
        "epoch": made.epoch,
        "digest": made.digest,
        "tables": _tables(made.tables),
    }
    show(options, answer, tell_imported)


def transfer(
    context: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="The PostgreSQL database to move into.")],
    discard: Annotated[
        bool, typer.Option("--discard", help="Empty a target whose transfer was not finished; nothing else.")
    ] = False,
) -> None:
    """Move the SQLite database of the data directory into an empty PostgreSQL database.

    Counts and digests of every table are compared at the end. Interrupted, it goes on when it is called
    again. The SQLite file is not changed. Refused while a server holds the directory. The fleet of the
    PostgreSQL database is on hold afterwards.

    Example:

        dorkos db transfer postgresql://dorkos@db.example/dorkos
    """
    from dorkos.clock import SystemClock
    from dorkos.db.engine import is_postgres
    from dorkos.db.transfer import discard_transfer, transfer_to_postgres

    options = options_of(context)
    if not is_postgres(url):
        raise DorkError(
            ErrorCode.USAGE,
            "URL names no PostgreSQL database. Nothing was changed.",
            hint="Write it as postgresql://user@host/name. SQLite files are moved by `export` and `import`.",
        )
    # The source is always the file, also where the settings name a PostgreSQL database already.
    home = place_of(options, url).home
    if discard:
        show(options, {"discarded": discard_transfer(url)}, tell_discarded)
        return
    if not home.database_path.exists():
        raise DorkError(
            ErrorCode.NOT_FOUND,
            f"There is no database at {home.database_path}, so there is nothing to transfer.",
            hint="Name the data directory with --home or DORK_HOME.",
        )
    with _locked(home), progress_bar() as progress:
        moved = transfer_to_postgres(home.database_path, url, clock=SystemClock(), progress=progress)
    answer = {
        "resumedRows": moved.resumed,
        "epoch": moved.epoch,
        "digest": moved.digest,
        "tables": _tables(moved.tables),
    }
    show(options, answer, tell_transferred)


def _source(place: Place) -> Path | str:
    return place.url or place.home.database_path


def _tables(found: Mapping[str, TableDigest]) -> dict[str, Any]:
    return {name: {"rows": table.rows, "digest": table.digest} for name, table in sorted(found.items())}


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    home.prepare()
    home.lock()
    try:
        yield
    finally:
        home.unlock()


@contextmanager
def _opened(file: str) -> Iterator[tuple[io.BufferedReader, int]]:
    """The file, and its size where that is known."""
    if file == _STREAM:
        # A reader of its own, which can look ahead whatever standard input is.
        reader = cast(io.BufferedReader, io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer)))
        yield reader, 0
        reader.detach()  # Else it would close standard input when it goes.
        return
    path = file_named(file)
    try:
        # A FIFO that nobody has open for writing is empty: waiting for somebody might take for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(descriptor, True)
        opened = os.fdopen(descriptor, "rb")
    except OSError as fault:
        raise DorkError(
            ErrorCode.NOT_FOUND,
            f"{path} cannot be read: {fault.strerror}.",
            hint="Name a file that `dorkos db export` made. Nothing was changed.",
        ) from fault
    with opened:
        yield opened, path.stat().st_size
