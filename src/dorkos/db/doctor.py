"""How a database is, without changing it: what `dorkos doctor` says of the SQLite file and its backups.

Opened read-only, needs no lock, works beside a running server. See `dorkos.db.doctor_postgres` for the
other engine and `dorkos.db.doctor_state` for what is the same on both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import iso
from dorkos.db.connections import reading_sqlite
from dorkos.db.doctor_state import examine_state
from dorkos.db.engine import SQLITE_FLOOR, sqlite_driver, sqlite_version, version_text
from dorkos.db.faults import explain
from dorkos.db.finding import Finding, age, examined, fault, fine, many, refused, size, warning
from dorkos.db.migrate import status_sqlite
from dorkos.db.retention import CopyKind, KeptCopy, copies, is_whole
from dorkos.db.side_files import side_file
from dorkos.errors import DorkError, ErrorCode

# Above it, something keeps the log from being emptied: its file is cut to 64 MiB whenever it was.
_WAL_LARGE = 512 * 2**20
_BACKUP_OLD = timedelta(days=7)
_SHOWN = 3


def examine_library() -> Finding:
    """Which SQLite reads and writes the file, and whether it is past the fault that loses commits."""
    return examined("sqlite", _library)


def examine_sqlite(path: Path, *, backups: Path, now: datetime) -> Iterator[Finding]:
    """The database at `path` and the copies in `backups`, one finding after another. Changes nothing.

    Reads the whole file, which takes a while when it is large. Raises nothing.
    """
    if not path.exists() and not path.is_symlink() and not side_file(path, "-wal").exists():
        yield fine("database", f"there is none at {path} yet; the first start makes it", path=str(path))
        return
    try:
        status = status_sqlite(path)
    except DorkError as refusal:
        yield refused("database", refusal)
    else:
        yield examined("database", lambda: _file(path))
        if status.applied:
            try:
                with reading_sqlite(path) as connection:
                    yield examined("integrity", lambda: _integrity(connection))
                    yield examined("relations", lambda: _relations(connection))
                    yield from examine_state(connection, status, now=now)
            except (DorkError, sa.exc.DBAPIError, OSError) as broken:
                yield fault("integrity", f"the file cannot be read: {broken}", "Run `dorkos db verify`.")
    yield examined("backups", lambda: _backups(backups, now))


def _library() -> Finding:
    driver, version = sqlite_driver(), sqlite_version()
    name = driver.__name__.split(".", maxsplit=1)[0]
    facts = {
        "version": version_text(version),
        "floor": version_text(SQLITE_FLOOR),
        "driver": name,
        "driverVersion": getattr(sys.modules.get(name), "version", None),
    }
    by = "Python's own module" if name == "sqlite3" else name
    if version >= SQLITE_FLOOR:
        return fine("sqlite", f"{version_text(version)} by {by}; the floor is {facts['floor']}", **facts)
    return warning(
        "sqlite",
        f"{version_text(version)} by {by} is below the floor {facts['floor']}: before it, SQLite can lose "
        "commits when two connections write or checkpoint at once. DorkOS writes with one, which avoids that",
        "Install the package pysqlite3 where it has a wheel, or a Python with a newer SQLite; until then let "
        "no other program write to dork.db.",
        **facts,
    )


def _file(path: Path) -> Finding:
    log = side_file(path, "-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    found = path.stat()
    with reading_sqlite(path) as connection:
        pages, free, page_size = (
            connection.exec_driver_sql(f"PRAGMA {fact}").scalar_one()
            for fact in ("page_count", "freelist_count", "page_size")
        )
    facts = {
        "path": str(path),
        "sizeBytes": found.st_size,
        "walBytes": log_bytes,
        "pages": pages,
        "freePages": free,
        "pageSize": page_size,
    }
    told = f"{path}: {size(found.st_size)}, {many(pages, 'page')}, {free:,} of them free; "
    told += f"log {size(log_bytes)}"
    if found.st_mode & 0o077:
        mode = f"{found.st_mode & 0o777:04o}"
        # The directory usually keeps others out; a file that is moved or shared takes its mode along.
        if path.parent.stat().st_mode & 0o077:
            return warning(
                "database", f"{told}; others may read it (mode {mode})", f"chmod 600 '{path}'", **facts
            )
    if log_bytes > _WAL_LARGE:
        return warning(
            "database",
            f"{told}, which is more than it should grow to",
            "Some program reads the file without an end: find it, then restart the server.",
            **facts,
        )
    return fine("database", told, **facts)


def _integrity(connection: sa.Connection) -> Finding:
    try:
        with connection.begin():
            told = connection.exec_driver_sql("PRAGMA quick_check(20)").scalars().all()
    except sa.exc.DBAPIError as broken:
        explained = explain(broken)
        if not isinstance(explained, DorkError) or explained.code is not ErrorCode.DATABASE_CORRUPT:
            raise
        told = [str(broken.orig)]  # Damage at a place that the check itself stands on.
    found = [str(text) for text in told if text != "ok"]
    if not found:
        return fine("integrity", "every page can be read and is in its place")
    shown = "; ".join(line for text in found[:_SHOWN] for line in text.splitlines()[:2])
    return fault(
        "integrity",
        f"the file is damaged: {shown}",
        "Stop the server, keep a copy of dork.db with its -wal, and run `dorkos db restore` with the newest "
        "sound backup.",
        problems=found,
    )


def _relations(connection: sa.Connection) -> Finding:
    with connection.begin():
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if not broken:
        return fine("relations", "no row refers to one that does not exist")
    shown = ", ".join(f"{table} row {rowid} -> {parent}" for table, rowid, parent, _ in broken[:_SHOWN])
    return fault(
        "relations",
        f"{many(len(broken), 'row')} refer to rows that do not exist: {shown}",
        "Another program wrote to the file with its checks off. `dorkos db verify` lists all; restore a "
        "backup, or undo what it did.",
        count=len(broken),
    )


def _backups(backups: Path, now: datetime) -> Finding:
    kept = copies(backups, *CopyKind)
    facts: dict[str, object] = {"folder": str(backups), "count": len(kept)}
    if not kept:
        return warning(
            "backups",
            f"there is none in {backups}",
            "A running server makes one each day; `dorkos db backup` makes one now. Keep one elsewhere, too.",
            **facts,
        )
    sound = next((copy for copy in kept if is_whole(copy.path)), None)
    facts["newest"] = str(kept[0].path)
    if sound is None:
        return fault(
            "backups",
            f"{_counted(kept)} in {backups}, and none that is whole",
            "Make one now with `dorkos db backup`, and look at the disk that they lie on.",
            **facts,
        )
    facts |= {"newestSound": str(sound.path), "newestSoundAt": iso(sound.at)}
    told = f"{_counted(kept)} in {backups}; the newest, {sound.path.name}, was made {age(now - sound.at)}"
    if sound is not kept[0]:
        return warning(
            "backups",
            f"{told}; newer ones, such as {kept[0].path.name}, are not whole",
            "Look at the disk that they lie on, and make one with `dorkos db backup`.",
            **facts,
        )
    if now - sound.at > _BACKUP_OLD:
        return warning(
            "backups", told, "Start the server, which makes one each day, or run `dorkos db backup`.", **facts
        )
    return fine("backups", told, **facts)


def _counted(kept: list[KeptCopy]) -> str:
    """`12 copies (7 daily, 5 backup)`."""
    by_kind = {kind: sum(copy.kind is kind for copy in kept) for kind in CopyKind}
    kinds = ", ".join(
        f"{count} {'before an upgrade' if kind is CopyKind.SNAPSHOT else kind.value}"
        for kind, count in by_kind.items()
        if count
    )
    return f"{len(kept)} {'copy' if len(kept) == 1 else 'copies'} ({kinds})"
