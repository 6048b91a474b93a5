"""`dorkos db export`: everything of a database as JSON lines, as it is at one moment."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from dorkos import __version__
from dorkos.clock import Clock, iso
from dorkos.db.copying import CopyError, NameTakenError, publish, sync
from dorkos.db.digest import Digester, TableDigest, whole_digest
from dorkos.db.export_format import Footer, Header, footer_line, header_line, row_lines
from dorkos.db.moving import Moment, Place, one_moment
from dorkos.db.progress import Progress, no_progress
from dorkos.db.rows import batches, count_rows, shapes, stream
from dorkos.db.soundness import refuse_wrong_values
from dorkos.errors import DorkError, ErrorCode


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `file` is None where it went into a stream."""

    file: Path | None
    migration: str
    tables: Mapping[str, TableDigest]
    digest: str


def export_to_stream(
    place: Place, sink: IO[bytes], *, clock: Clock, progress: Progress = no_progress
) -> Exported:
    """Write the lines to `sink`. A server may be writing meanwhile: they show one moment. Blocking.

    Changes nothing. Raises what `one_moment` and `refuse_wrong_values` raise, and OSError as the sink does.
    """
    with one_moment(place) as moment:
        refuse_wrong_values(moment.connection)
        found = _write(moment, sink, clock, progress)
        return Exported(None, moment.migration, found, whole_digest(found))


def export_to_file(
    place: Place, *, to: Path | None, folder: Path, clock: Clock, progress: Progress = no_progress
) -> Exported:
    """Write the lines to the file `to`, or under a name that tells time and migration into `folder`.

    Compressed where the name ends in `.gz`. Readable by its owner alone, since it holds the secrets of
    adapters and the hashes of tokens; synced to disk before it gets its name; it replaces nothing.
    Raises `validation_failed` for a name that cannot be used, `export_failed`, and what `one_moment` and
    `refuse_wrong_values` raise. Nothing is left behind then.
    """
    with one_moment(place) as moment:
        refuse_wrong_values(moment.connection)
        try:
            if to is None:
                folder.mkdir(mode=0o700, exist_ok=True)
                names = _names(clock, moment.migration)
            else:
                _refuse_name(to)
                folder, names = to.parent, iter((to.name,))
            # A folder of its own takes an unfinished file along when it goes.
            with tempfile.TemporaryDirectory(prefix=".dorkos-", dir=folder) as workplace:
                draft = Path(workplace) / "export"
                packed = to is None or to.name.endswith(".gz")
                with _opened(draft, packed=packed) as sink:
                    found = _write(moment, sink, clock, progress)
                sync(draft)
                file = publish(draft, folder, names)
                sync(folder)
        except NameTakenError as fault:
            raise _taken(to or folder) from fault
        except (OSError, CopyError) as fault:
            raise DorkError(
                ErrorCode.EXPORT_FAILED,
                f"The export failed: {fault}. No file was made.",
                hint="Make room on the disk and check that you may write there, then try again.",
            ) from fault
        return Exported(file, moment.migration, found, whole_digest(found))


def _write(moment: Moment, sink: IO[bytes], clock: Clock, progress: Progress) -> dict[str, TableDigest]:
    """Header, rows, footer; each row is digested as it passes."""
    tables = shapes()
    total, done = sum(count_rows(moment.connection, shape) for shape in tables), 0
    written = hashlib.sha256()

    def put(lines: bytes) -> None:
        written.update(lines)
        sink.write(lines)

    put(
        header_line(Header(f"DorkOS {__version__}", moment.migration, moment.epoch, iso(clock.now()), tables))
    )
    progress("exporting", 0, total)
    found: dict[str, TableDigest] = {}
    for shape in tables:
        digester = Digester(shape)
        for batch in batches(stream(moment.connection, shape)):
            digester.add(batch)
            put(row_lines(shape, batch))
            done += len(batch)
            progress("exporting", done, total)
        found[shape.table] = digester.result()
    sink.write(footer_line(Footer(done, written.hexdigest(), found)))
    sink.flush()
    moment.prove()
    progress("exporting", total, total)
    return found


@contextmanager
def _opened(file: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    """A new file that only its owner may read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as plain:
        if not packed:
            yield plain
            return
        with gzip.GzipFile(filename="", fileobj=plain, mode="wb", compresslevel=6, mtime=0) as squeezed:
            yield cast(IO[bytes], squeezed)


def _names(clock: Clock, migration: str) -> Iterator[str]:
    stem = f"export-{clock.now():%Y%m%dT%H%M%SZ}-{migration}"
    yield f"{stem}.jsonl.gz"
    for number in itertools.count(2):
        yield f"{stem}-{number}.jsonl.gz"


def _refuse_name(to: Path) -> None:
    # Asked before the work, which takes a while; asked again, without a gap, when the file gets its name.
    if os.path.lexists(to):
        raise _taken(to)
    if not to.parent.is_dir():
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"There is no folder {to.parent}.",
            hint="Make the folder first, or name a file in one that exists.",
        )


def _taken(to: Path) -> DorkError:
    return DorkError(
        ErrorCode.VALIDATION_FAILED,
        f"{to} exists already, and an export replaces nothing.",
        hint="Name a new file, or give no name: the export then gets one that tells the time.",
    )
