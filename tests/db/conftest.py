"""Folders of migrations and databases at a chosen migration, for the tests of the runner."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.engine import sqlite_driver
from dorkos.db.ledger import MIGRATIONS, revisions
from dorkos.db.migrate import MigrationReport, Plan, migrate_sqlite
from dorkos.db.schema.tables import metadata


class Bench:
    """A data directory, and a copy of the migrations that a test may edit."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.clock = clock
        self.home = folder / "a hömé"
        self.home.mkdir()
        self.path = self.home / "dork.db"
        self.backups = self.home / "backups"
        self.directory = folder / "migrations"
        self.directory.mkdir()
        self.copy_revisions(len(revisions()))

    def copy_revisions(self, count: int) -> None:
        """Leave only the first `count` migrations in the folder."""
        for old in self.directory.glob("*.py"):
            old.unlink()
        for revision in revisions()[:count]:
            shutil.copy(revision.path, self.directory)
        shutil.copy(MIGRATIONS / "ledger.lock", self.directory)

    def add_revision(self, name: str, body: str, *, head: str = "") -> Path:
        """Write a migration whose `upgrade(step)` is `body`."""
        path = self.directory / f"{name}.py"
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        path.write_text(
            f'"""A migration of a test."""\nimport sqlalchemy as sa\n{head}\n\ndef upgrade(step):\n{lines}\n',
            encoding="utf-8",
        )
        return path

    def migrate(self, *, declared: sa.MetaData | None = None) -> MigrationReport:
        """Migrate to the end of the folder; without a declaration no schema is compared."""
        plan = Plan(self.directory, sa.MetaData() if declared is None else declared)
        return migrate_sqlite(self.path, backups=self.backups, clock=self.clock, plan=plan)

    @contextmanager
    def raw(self) -> Iterator[Any]:
        """A plain connection that commits each statement."""
        with closing(sqlite_driver().connect(str(self.path), isolation_level=None)) as connection:
            yield connection

    def rows(self, sql: str) -> list[Any]:
        """What a query answers."""
        with self.raw() as connection:
            answer: list[Any] = connection.execute(sql).fetchall()
            return answer

    def files(self) -> dict[str, bytes]:
        """Every file of the data directory with its content."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in sorted(self.home.rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def bench(tmp_path: Path, clock: ManualClock) -> Bench:
    """A data directory without a database, and all migrations."""
    return Bench(tmp_path, clock)


@pytest.fixture
def filled(bench: Bench) -> Bench:
    """A database at the newest migration, with a row of its own."""
    bench.migrate(declared=metadata)
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('before', 'x')")
    return bench
