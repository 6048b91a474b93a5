"""Taking over the database of DorkOS for Node in the very home that it lies in.

The new database is built beside the old one, proved, and then takes its name by one rename. Until that
rename the old database is what it was. Its log cannot be left lying there meanwhile: SQLite would replay it
onto the new file without a word. So right before the rename, when everything else is done and proved, the
old file is opened alone and its log is merged into it by SQLite itself. From there to the rename the home
holds the old database in one piece, which nobody else can open; after it, the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

from dorkos.clock import Clock
from dorkos.db.connections import migrating_sqlite
from dorkos.db.copying import CopyError, place_copy, sync
from dorkos.db.engine import BUSY_TIMEOUT_MS, sqlite_driver, sqlite_uri
from dorkos.db.filesystem import refuse_network_filesystem
from dorkos.db.legacy.adopt import HOLD_REASON, Adoption, Progress
from dorkos.db.legacy.collecting import Rules, collect
from dorkos.db.legacy.database import LegacyDatabase
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.recognition import DATABASE, LEDGER, is_known
from dorkos.db.legacy.report import Report
from dorkos.db.legacy.write import row_counts, write
from dorkos.db.migrate import migrate_sqlite
from dorkos.db.retention import CopyKind, copy_names
from dorkos.db.scratch import scratch_folder
from dorkos.db.side_files import own_place
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode

_BUILDING = "dork.db.adopting"
_SIDE_FILES = ("-wal", "-shm", "-journal")
_LAST = "0002_rate_limit_unique"


def take_over(
    home: Path,
    *,
    backups: Path,
    clock: Clock,
    rules: Rules,
    say: Progress,
    reached: Callable[[str], None] = lambda _: None,
) -> Adoption:
    """Replace the lineage's `dork.db` in `home` by ours with all that it and the files beside it held.

    Without a `dork.db`, the new one is made of the stores that the lineage had before it.

    A crash at any moment leaves the old database or the new one, whole. The old one stays in `backups` as
    `lineage-<time>-0002_….db`, verified, with what its log held; it is never deleted. The files beside it are
    left as they are. The fleet is on hold afterwards. Blocking; the caller holds the lock of the home.

    Raises `database_lineage` if its migrations are not the known ones, `database_corrupt` if it is damaged,
    `database_busy` if DorkOS for Node still uses it, `snapshot_failed`, `migration_failed`; then nothing was
    replaced. `reached` is told the name of each step that is done, for tests that end there.
    """
    # Beside the file itself, also where a link leads to it: a rename to another disk would be no one step.
    database = own_place(home / DATABASE)
    refuse_network_filesystem(database)
    building = database.with_name(_BUILDING)
    _remove(building)
    report = Report()
    kept: Path | None = None
    try:
        with LegacyHome(home, report) as old:
            found = _checked(old, database)
            _build(building, old, report, clock=clock, rules=rules, say=say)
            _refuse_lost(old)
            reached("built")
            kept = None if found is None else _keep(found, backups, clock)
            reached("kept")
            with nullcontext() if found is None else _alone_with(database, old):
                reached("merged")
                # DorkOS for Node may still be writing others: what it added since would stay behind.
                for relative in old.changed():
                    if relative != DATABASE:
                        raise _in_use(home / relative)
                _replace(building, database, is_first=found is None)
        reached("replaced")
    except Exception:
        # As long as it lies there, the old database was not replaced, and needs no copy of itself.
        if building.exists():
            _remove(building)
            if kept is not None:
                kept.unlink(missing_ok=True)
        raise
    if kept is not None:
        say(f"The old database is kept as {kept}")
    return Adoption(report, sum(report.after.values()) - sum(report.before.values()), kept)


def rehearse(home: Path, *, clock: Clock, rules: Rules, say: Progress) -> Adoption:
    """Do what `take_over` would do in a folder that is thrown away. The home keeps every byte."""
    report = Report()
    with (
        scratch_folder("rehearsal") as folder,
        LegacyHome(home, report) as old,
    ):
        _checked(old, home / DATABASE)
        _build(Path(folder) / DATABASE, old, report, clock=clock, rules=rules, say=say)
    return Adoption(report, sum(report.after.values()) - sum(report.before.values()))


def _checked(old: LegacyHome, path: Path) -> LegacyDatabase | None:
    """The old database, if it is one that can be taken over; None where there is none."""
    found = old.database(DATABASE)
    if found is None:
        if os.path.lexists(path):
            raise _damaged(path, old.lost.get(DATABASE, "it cannot be read"))
        return None
    problems = found.problems()
    if problems:
        raise _damaged(path, problems[0])
    ledger = [(row.get("hash"), row.get("created_at")) for row in found.rows(LEDGER)]
    if not is_known(ledger):
        raise DorkError(
            ErrorCode.DATABASE_LINEAGE,
            f"{path} was written by DorkOS for Node, at other migrations than 0000 to 0002 "
            f"({len(ledger)} are noted in it). Nothing was changed.",
            hint=f"Bring it over into a new data directory: dorkos db adopt '{path.parent}' --home DIRECTORY",
        )
    return found


def _refuse_lost(old: LegacyHome) -> None:
    """A whole store that cannot be read now could never be brought over later: nothing is replaced then."""
    for relative, reason in old.lost.items():
        raise DorkError(
            ErrorCode.DATABASE_UNREACHABLE,
            f"{old.path / relative} cannot be read: {reason}. Nothing was replaced.",
            hint="Mend that (rights, room for temporary files), then start again. To go on without it, bring "
            f"over what can be read into a new data directory: dorkos db adopt '{old.path}' --home DIRECTORY",
        )


def _build(path: Path, old: LegacyHome, report: Report, *, clock: Clock, rules: Rules, say: Progress) -> None:
    """Make the new database at `path`, and prove it. The old one is read from a copy."""
    say(f"Reading what DorkOS for Node left in {old.path}")
    now = clock.now()
    rows = collect(old, report, now, rules, in_place=True)
    say("Building the new database beside it")
    # Nothing of ours is in it, so there is nothing to take a snapshot of.
    migrate_sqlite(path, backups=path.parent, clock=clock)
    path.chmod(0o600)
    with migrating_sqlite(path) as connection:
        with connection.begin():
            write(connection, rows, report, reason=HOLD_REASON, now=now)
        with connection.begin():
            stored = row_counts(connection)
    problems = verify_sqlite(path)
    if stored != report.after:
        problems.append("the rows in it are not those that were written")
    if problems:
        raise DorkError(
            ErrorCode.MIGRATION_FAILED,
            f"The new database is not sound: {'; '.join(problems[:3])}.",
            hint="The old one was not touched. Please report it with this message.",
        )


def _keep(found: LegacyDatabase, backups: Path, clock: Clock) -> Path:
    """A verified copy of the old database, log and all, under a name that is never evicted."""
    try:
        backups.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = copy_names(CopyKind.LINEAGE, clock.now(), _LAST)
        return place_copy(found.copy, backups, names, mark=found.application_id).path
    except (OSError, CopyError) as fault:
        raise DorkError(
            ErrorCode.SNAPSHOT_FAILED,
            f"The old database could not be copied to {backups}: {fault}. Nothing was replaced.",
            hint="Make room on the disk and check that the backups folder can be written, then start again.",
        ) from fault


@contextmanager
def _alone_with(database: Path, old: LegacyHome) -> Iterator[None]:
    """Let SQLite merge the log into the old file, and let nobody else open it until the end of the block.

    Raises `database_busy` if anybody has it open, or wrote to it since it was copied. Nothing of ours may
    open and close the file meanwhile: that would drop the lock of the whole process.
    """
    try:
        connection = sqlite_driver().connect(
            sqlite_uri(database, "rw"),
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        with closing(connection):
            connection.execute("PRAGMA synchronous = FULL")
            # Taken with the first read and held until the end. Refused if there is any other connection.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not old.is_unchanged(DATABASE):
                raise _in_use(database)
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":
                raise _in_use(database)
            if _beside(database, "-wal").exists():
                raise _in_use(database)
            # What is left of the other two holds nothing: the marks of readers that are gone, and a journal
            # that SQLite made void when the merge was on disk, but deletes only when it closes.
            for suffix in ("-shm", "-journal"):
                _beside(database, suffix).unlink(missing_ok=True)
            sync(database.parent)
            yield
    except sqlite_driver().Error as fault:
        raise _in_use(database) from fault


def _replace(building: Path, database: Path, *, is_first: bool) -> None:
    """The moment from which on the home is ours."""
    strange = [path for suffix in _SIDE_FILES if (path := _beside(building, suffix)).exists()]
    if strange or (is_first and os.path.lexists(database)):
        raise _in_use(database)
    sync(building)
    building.replace(database)
    sync(database.parent)


def _remove(building: Path) -> None:
    """Clear away what an import that was interrupted left. It was never anybody's database."""
    for suffix in ("", *_SIDE_FILES):
        _beside(building, suffix).unlink(missing_ok=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _damaged(path: Path, problem: str) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_CORRUPT,
        f"{path} was written by DorkOS for Node and is damaged: {problem}. Nothing was changed.",
        hint="Bring over what can be read into a new data directory: "
        f"dorkos db adopt '{path.parent}' --home DIRECTORY",
    )


def _in_use(path: Path) -> DorkError:
    return DorkError(
        ErrorCode.DATABASE_BUSY,
        f"Another program uses {path}, such as DorkOS for Node. It was not replaced.",
        hint="Stop that program, then start again.",
    )
