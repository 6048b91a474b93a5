"""Which migrations exist, which were applied, and whether the two can be reconciled.

What to apply is decided by comparing sets of ids and their checksums. A high-water mark would apply a
migration twice, or skip one in silence, as soon as a file is renamed, edited or slipped in between.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from dorkos.db.types import Instant, Integer, Text
from dorkos.errors import DorkError, ErrorCode

MIGRATIONS = Path(__file__).with_name("migrations")
LOCK_FILE = "ledger.lock"
_FILE_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.py")

# As the first migration makes it, frozen like the tables of a revision: `dorkos.db.schema` may move on.
ledger_table = sa.Table(
    "schema_ledger",
    sa.MetaData(naming_convention={"pk": "pk_%(table_name)s"}),
    sa.Column("id", Text, primary_key=True, nullable=False),
    sa.Column("checksum", Text, nullable=False),
    sa.Column("applied_at", Instant, nullable=False),
    sa.Column("version", Text, nullable=False),
    sa.Column("duration_ms", Integer, nullable=False),
    sqlite_strict=True,
)


@dataclass(frozen=True, slots=True)
class Revision:
    """A migration file. `id` is its name without `.py`, `checksum` the SHA-256 of its text."""

    id: str
    path: Path
    checksum: str


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An applied migration as the database remembers it. `version` is the DorkOS that applied it."""

    id: str
    checksum: str
    version: str


def revisions(directory: Path = MIGRATIONS) -> tuple[Revision, ...]:
    """The migration files in order. Anything in the folder that is not named like one is passed over."""
    files = sorted(path for path in directory.iterdir() if _FILE_NAME.fullmatch(path.name))
    return tuple(Revision(path.stem, path, checksum(path)) for path in files)


def checksum(path: Path) -> str:
    r"""SHA-256 of the file's text in hex. Line ends count as `\n`, since git may have changed them."""
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return hashlib.sha256(text).hexdigest()


def read_lock(directory: Path = MIGRATIONS) -> tuple[tuple[str, str], ...]:
    """The ids and checksums that were landed, in order, from `ledger.lock`."""
    lines = (directory / LOCK_FILE).read_text(encoding="utf-8").splitlines()
    pairs = (line.split() for line in lines if line.strip() and not line.startswith("#"))
    return tuple((pair[0], pair[1] if len(pair) > 1 else "") for pair in pairs)


def pending(known: Sequence[Revision], applied: Sequence[LedgerEntry]) -> tuple[Revision, ...]:
    """The migrations to apply, in order.

    Raises `database_newer`, `migration_missing` or `migration_changed` when the ledger and the files
    do not tell one story; nothing may be applied then.
    """
    by_id = {revision.id: revision for revision in known}
    _refuse_unknown(by_id, applied)
    for entry in applied:
        if by_id[entry.id].checksum != entry.checksum:
            raise DorkError(
                ErrorCode.MIGRATION_CHANGED,
                f"The migration {entry.id} was edited after it was applied by DorkOS {entry.version}.",
                hint="Reinstall DorkOS. If you edited the file, put it back and write a new one instead.",
                details={"migration": entry.id},
            )
    done = {entry.id for entry in applied}
    waiting = tuple(revision for revision in known if revision.id not in done)
    newest = max(done, default="")
    for revision in waiting:
        if revision.id < newest:
            raise DorkError(
                ErrorCode.MIGRATION_MISSING,
                f"The migration {revision.id} was never applied, but the later {newest} was.",
                hint="Reinstall DorkOS, or restore the database from a backup made before.",
                details={"migration": revision.id},
            )
    return waiting


def _refuse_unknown(known: dict[str, Revision], applied: Sequence[LedgerEntry]) -> None:
    newest = max(known, default="")
    unknown = sorted((entry for entry in applied if entry.id not in known), key=lambda entry: entry.id)
    if not unknown:
        return
    entry = unknown[-1]
    if entry.id > newest:
        raise DorkError(
            ErrorCode.DATABASE_NEWER,
            f"The database was written by DorkOS {entry.version}: its migration {entry.id} is newer than "
            f"this version's last, {newest or 'none'}.",
            hint=f"Install DorkOS {entry.version} or later, or restore a snapshot made before that upgrade. "
            "Nothing was changed.",
            details={"migration": entry.id, "version": entry.version},
        )
    raise DorkError(
        ErrorCode.MIGRATION_MISSING,
        f"The database has the migration {entry.id}, applied by DorkOS {entry.version}, which this version "
        "does not contain.",
        hint=f"Install DorkOS {entry.version}, or restore a snapshot made before. Nothing was changed.",
        details={"migration": entry.id, "version": entry.version},
    )
