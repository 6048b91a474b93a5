"""Whether declared schema, migrations and `ledger.lock` agree. Looks at the code only, changes nothing.

`ledger.lock` is committed beside the migrations: one line `id sha256` for each that landed. Whoever adds
a migration adds its line, which the complaint about its absence spells out; whoever changes one
afterwards is found out in any clean checkout, without a database that remembers.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import SystemClock
from dorkos.db.connections import reading_sqlite
from dorkos.db.drift import catalogue, declared_sqlite, differences
from dorkos.db.ledger import LOCK_FILE, MIGRATIONS, Revision, read_lock, revisions
from dorkos.db.migrate import Plan, migrate_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError

_FOREIGN_KEY_SWITCH = re.compile(r"foreign_keys|defer_foreign_keys|writable_schema", re.IGNORECASE)
_DESTRUCTION = re.compile(
    r"\bDROP\s+(TABLE|COLUMN)\b|\bTRUNCATE\b|\bDELETE\s+FROM\b|\bdrop_(table|column)\b|\.(drop|drop_all|delete)\(",
    re.IGNORECASE,
)
_LOSS = re.compile(r"^LOSS\s*=\s*\S", re.MULTILINE)


def check(directory: Path = MIGRATIONS, declared: sa.MetaData = metadata) -> list[str]:
    """Every problem in words; an empty list is the affirmation that all checks ran and passed."""
    known = revisions(directory)
    return [
        *_numbering(known),
        *_lock_problems(directory, known),
        *[problem for revision in known for problem in _text_problems(revision)],
        *_schema_problems(Plan(directory, declared)),
    ]


def _numbering(known: tuple[Revision, ...]) -> list[str]:
    if not known:
        return ["there are no migrations"]
    return [
        f"migration {revision.id}: its number should be {number:04d}; numbers rise by one without gaps"
        for number, revision in enumerate(known)
        if int(revision.id[:4]) != number
    ]


def _lock_problems(directory: Path, known: tuple[Revision, ...]) -> list[str]:
    try:
        landed = read_lock(directory)
    except OSError as fault:
        return [f"{LOCK_FILE} cannot be read: {fault.strerror}"]
    checksums = dict(landed)
    ids = [revision.id for revision in known]
    gone = [name for name in checksums if name not in ids]
    problems = [f"migration {name} is in {LOCK_FILE} but its file is gone" for name in gone]
    for revision in known:
        if revision.id not in checksums:
            problems.append(
                f"migration {revision.id} is not in {LOCK_FILE}; add the line: "
                f"{revision.id} {revision.checksum}"
            )
        elif checksums[revision.id] != revision.checksum:
            problems.append(
                f"migration {revision.id} was edited after it landed; put it back and write a new one instead"
            )
    order = [name for name, _ in landed]
    if order != sorted(set(order)):
        problems.append(f"{LOCK_FILE} must name each migration once, in order")
    return problems


def _text_problems(revision: Revision) -> list[str]:
    text = revision.path.read_text(encoding="utf-8")
    problems = []
    if _FOREIGN_KEY_SWITCH.search(text):
        problems.append(
            f"migration {revision.id} touches foreign key enforcement, which SQLite ignores inside a "
            "transaction; the runner does it"
        )
    destruction = _DESTRUCTION.search(text)
    if destruction and not _LOSS.search(text):
        problems.append(
            f"migration {revision.id} destroys data ({destruction.group()!r}); rebuild the table with "
            'dorkos.db.rebuild, or state why with LOSS = "reason"'
        )
    return problems


def _schema_problems(plan: Plan) -> list[str]:
    """Build one database by replaying the migrations and one from the declaration, and compare them."""
    with tempfile.TemporaryDirectory(prefix="dorkos-check-") as folder:
        path = Path(folder) / "dork.db"
        try:
            # No tables declared: the runner then leaves the comparison, with all its findings, to us.
            replay = Plan(plan.directory, sa.MetaData())
            migrate_sqlite(path, backups=Path(folder), clock=SystemClock(), plan=replay)
        except DorkError as fault:
            return [f"the migrations cannot be replayed: {fault.message}"]
        with reading_sqlite(path) as connection:
            replayed = catalogue(connection)
    names = ("the migrations", "the declared schema")
    return differences(replayed, declared_sqlite(plan.declared), names=names)
