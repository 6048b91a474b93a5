"""Kill the process that upgrades a database, at every statement, and see that nothing is lost or half done.

    python -m tests.crash.kill_migration --engine sqlite --every 1

A database at the first migration, with rows in every table, is led to the last one by a child that ends
itself with SIGKILL at a chosen moment: when a step is announced, before a statement, before a commit, or (on
SQLite) in the middle of a statement. Afterwards the database must be at one whole version with all its rows,
and migrating again must lead to the same content as if nothing had happened.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dorkos.clock import ManualClock
from dorkos.db.connections import migrating_sqlite, reading_sqlite
from dorkos.db.drift import catalogue
from dorkos.db.engine import postgres_url
from dorkos.db.ledger import revisions
from dorkos.db.migrate import Plan, migrate_postgres, migrate_sqlite, status_postgres, status_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.testing import empty_postgres
from tests.crash.lineage_rows import fill_lineage

ALL = [revision.id for revision in revisions()]
# Instructions of SQLite's machine between two looks, in the runs that kill within a statement.
TICK = 400
# What differs from one run to the next, kill or no kill.
_CHANCE = ("schema_ledger", "system_state")
_NEW_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


@dataclass
class Report:
    """What one whole run of the script found. `faults` must stay empty."""

    kills: int = 0
    steps: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Version:
    """A database at one version: how its schema looks, and how many rows the old tables have."""

    applied: tuple[str, ...]
    schema: str
    rows: tuple[tuple[str, int], ...]


class Bench(Protocol):
    """An engine's way to make the old database, upgrade it and look at it."""

    def old(self) -> AbstractContextManager[str]:
        """Where a fresh copy of it is."""

    def upgrade(self, where: str, say: Callable[[str], None], steps: int | None = None) -> None:
        """To the end, or only some steps."""

    def applied(self, where: str) -> tuple[str, ...]:
        """As the database tells."""

    def connected(self, where: str) -> AbstractContextManager[sa.Connection]:
        """To read."""

    def faults(self, where: str) -> list[str]:
        """Of the whole database at the end."""


class _Folders:
    """Folders of migrations that end early."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def plan(self, steps: int | None) -> Plan:
        """All of them, or the first so many; then no schema is compared."""
        if steps is None:
            return Plan()
        folder = self._folder / f"first-{steps}"
        if not folder.exists():
            folder.mkdir()
            for revision in revisions()[:steps]:
                shutil.copy(revision.path, folder)
        return Plan(folder, sa.MetaData())


class OnSqlite:
    """A file a run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._folders = folder, _Folders(folder)
        self._template = folder / "template.db"
        self.upgrade(str(self._template), lambda _: None, 1)
        with migrating_sqlite(self._template) as connection, connection.begin():
            fill_lineage(connection)

    @contextmanager
    def old(self) -> Iterator[str]:
        """A copy of the filled database."""
        with tempfile.TemporaryDirectory(dir=self._folder) as home:
            path = Path(home) / "dork.db"
            shutil.copyfile(self._template, path)
            yield str(path)

    def upgrade(self, where: str, say: Callable[[str], None], steps: int | None = None) -> None:
        """Migrate."""
        path = Path(where)
        migrate_sqlite(
            path,
            backups=path.parent / "backups",
            clock=ManualClock(),
            progress=say,
            plan=self._folders.plan(steps),
        )

    def applied(self, where: str) -> tuple[str, ...]:
        """By the ledger."""
        return tuple(entry.id for entry in status_sqlite(Path(where)).applied)

    def connected(self, where: str) -> AbstractContextManager[sa.Connection]:
        """Read only."""
        return reading_sqlite(Path(where))

    def faults(self, where: str) -> list[str]:
        """Integrity, relations, schema, ledger."""
        return verify_sqlite(Path(where))


class OnPostgres:
    """A database a run."""

    def __init__(self, folder: Path) -> None:
        self._folders = _Folders(folder)

    @contextmanager
    def old(self) -> Iterator[str]:
        """A database that was made and filled anew."""
        with empty_postgres() as url:
            self.upgrade(url, lambda _: None, 1)
            with self.connected(url) as connection, connection.begin():
                fill_lineage(connection)
            yield url

    def upgrade(self, where: str, say: Callable[[str], None], steps: int | None = None) -> None:
        """Migrate."""
        migrate_postgres(where, clock=ManualClock(), progress=say, plan=self._folders.plan(steps))

    def applied(self, where: str) -> tuple[str, ...]:
        """By the ledger."""
        return tuple(entry.id for entry in status_postgres(where).applied)

    @contextmanager
    def connected(self, where: str) -> Iterator[sa.Connection]:
        """A connection of its own."""
        engine = sa.create_engine(postgres_url(where), poolclass=NullPool)
        with engine.connect() as connection:
            yield connection

    def faults(self, where: str) -> list[str]:
        """Schema and ledger."""
        return verify_postgres(where)


def run(bench: Bench, *, every: int, within: bool, first: bool = True) -> Report:
    """Kill at every so many moments, and always at the first (unless told not to) and last of each step.

    `within` kills in the middle of statements instead of between them, which only SQLite allows.
    """
    versions = _versions(bench)
    with bench.old() as where:
        bench.upgrade(where, lambda _: None)  # What a process makes once is no moment of those to come.
    with bench.old() as where:
        moments = _observe(partial(bench.upgrade, where), within=within)
        wanted = _content(bench, where)
    report = Report()
    for number, step in enumerate(moments):
        begins = number == 0 or step != moments[number - 1]
        ends = number == len(moments) - 1 or step != moments[number + 1]
        edge = ends or (begins and first)
        if number % every and not edge:
            continue
        report.kills += 1
        report.steps.add(step)
        with bench.old() as where:
            name = f"{step}, moment {number}"
            if not _die_at(number, partial(bench.upgrade, where), within=within):
                report.faults.append(f"{name}: the process was not killed")
            report.faults += [f"{name}: {fault}" for fault in _look(bench, where, versions, wanted)]
    return report


def _look(bench: Bench, where: str, versions: list[Version], wanted: str) -> Iterator[str]:
    """What is wrong with a database after the kill, and after migrating it again."""
    applied = bench.applied(where)
    if list(applied) != ALL[: len(applied)]:
        yield f"the ledger holds {applied}"
        return
    found = _version(bench, where)
    if found != versions[len(applied) - 1]:
        yield f"what is there is not version {applied[-1]}"
    with bench.connected(where) as connection:
        if connection.dialect.name == "sqlite":
            run = connection.exec_driver_sql
            if run("PRAGMA integrity_check").all() != [("ok",)] or run("PRAGMA foreign_key_check").all():
                yield "the file is damaged"
    bench.upgrade(where, lambda _: None)
    yield from bench.faults(where)
    if _content(bench, where) != wanted:
        yield "the rows are not those of an upgrade that was left alone"


def _versions(bench: Bench) -> list[Version]:
    """How the database looks after each number of steps."""
    found = []
    for steps in range(1, len(ALL) + 1):
        with bench.old() as where:
            bench.upgrade(where, lambda _: None, steps)
            found.append(_version(bench, where))
    return found


def _version(bench: Bench, where: str) -> Version:
    applied = bench.applied(where)
    with bench.connected(where) as connection, connection.begin():
        schema = sorted((table, sorted(facts.items())) for table, facts in catalogue(connection).items())
        counts = tuple(
            (table, connection.exec_driver_sql(f'SELECT count(*) FROM "{table}"').scalar_one())
            for table in sorted(sa.inspect(connection).get_table_names())
            if table not in _CHANCE
        )
    return Version(applied, hashlib.sha256(repr(schema).encode()).hexdigest(), counts)


def _content(bench: Bench, where: str) -> str:
    """A digest of every row that an upgrade carries or makes."""
    digest = hashlib.sha256()
    with bench.connected(where) as connection, connection.begin():
        for table in metadata.sorted_tables:
            if table.name in _CHANCE:
                continue
            rows = [tuple(map(str, row)) for row in connection.execute(sa.select(table))]
            digest.update(f"{table.name}{sorted(_NEW_ID.sub('id', repr(row)) for row in rows)}".encode())
    return digest.hexdigest()


def _observe(upgrade: Callable[[Callable[[str], None]], None], *, within: bool) -> list[str]:
    """The moments of an upgrade that is left alone, each by the name of its step."""
    moments: list[str] = []
    with _watched(moments.append, within=within) as say:
        upgrade(say)
    return moments


def _die_at(number: int, upgrade: Callable[[Callable[[str], None]], None], *, within: bool) -> bool:
    """Upgrade in a child that kills itself at that moment; whether it did."""
    child = os.fork()
    if child == 0:
        seen = 0

        def look(_step: str) -> None:
            nonlocal seen
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        try:
            with _watched(look, within=within) as say:
                upgrade(say)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


@contextmanager
def _watched(look: Callable[[str], None], *, within: bool) -> Iterator[Callable[[str], None]]:
    """Call `look` at each moment with the step's name; yields what the upgrade has to tell its steps."""
    step = "before the first"

    def tick() -> int:
        look(step)
        return 0

    def connected(raw: Any, _record: object) -> None:
        raw.set_progress_handler(tick, TICK)

    def looked(*_: object, **__: object) -> None:
        look(step)

    def say(told: str) -> None:
        nonlocal step
        step = told.split(":", maxsplit=1)[0]
        if not within:
            look(step)

    moments: list[tuple[str, Callable[..., None]]] = [("before_cursor_execute", looked), ("commit", looked)]
    hooks = [("connect", connected)] if within else moments
    for name, hook in hooks:
        sa.event.listen(sa.Engine, name, hook)
    try:
        yield say
    finally:
        for name, hook in hooks:
            sa.event.remove(sa.Engine, name, hook)


def main() -> int:
    """Run from the command line; exit code 1 if anything went wrong. Prints the report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--within", action="store_true")
    parser.add_argument("--no-first", action="store_true", help="not where a step begins")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dorkos-crash-") as name:
        folder = Path(name)
        bench: Bench = OnSqlite(folder) if options.engine == "sqlite" else OnPostgres(folder)
        report = run(bench, every=options.every, within=options.within, first=not options.no_first)
    print(json.dumps({"kills": report.kills, "steps": sorted(report.steps), "faults": report.faults}))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
