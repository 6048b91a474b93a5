"""Backups and what may be wrong with them, for the tests of the restore."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dorkos.db.backup import back_up_sqlite
from dorkos.db.engine import sqlite_driver
from dorkos.db.replace import Checkpoint, finish_replacement, no_checkpoint
from dorkos.db.restore import Restore, prepared_restore
from dorkos.errors import DorkError
from tests.db.conftest import Bench

LEGACY = Path(__file__).parents[1] / "fixtures" / "legacy"


def back_up(bench: Bench, to: Path | None = None) -> Path:
    """A backup of the bench's database."""
    return back_up_sqlite(bench.path, backups=bench.backups, to=to, now=bench.clock.now()).path


@contextmanager
def prepared(bench: Bench, file: Path) -> Iterator[Restore]:
    """A restore that is ready, as the command prepares it."""
    finish_replacement(bench.path)
    with prepared_restore(
        file, bench.path, backups=bench.backups, clock=bench.clock, say=lambda _: None
    ) as ready:
        yield ready


def restore(bench: Bench, file: Path, checkpoint: Checkpoint = no_checkpoint) -> Path | None:
    """Restore the file; returns where the old database is kept."""
    with prepared(bench, file) as ready:
        return ready.carry_out(checkpoint=checkpoint)


def refusal(bench: Bench, file: Path) -> DorkError:
    """Why the restore is refused."""
    with pytest.raises(DorkError) as refused:
        restore(bench, file)
    return refused.value


def remember(bench: Bench, key: str, value: str = "x") -> None:
    """A row that tells one state of the database from another."""
    with bench.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES (?, ?)", (key, value))


def mine(path: Path) -> set[str]:
    """The keys that tests put there; `path` is read without a trace."""
    connection = sqlite_driver().connect(f"file:{path}?immutable=1", uri=True)
    try:
        return {key for (key,) in connection.execute("SELECT key FROM system_state WHERE value = 'x'")}
    finally:
        connection.close()


def leave_rows_in_the_log(bench: Bench, key: str) -> None:
    """A row that is committed, and in the log alone: as a killed server leaves it."""
    with bench.raw() as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("INSERT INTO system_state VALUES (?, 'x')", (key,))
        copies = {path: path.read_bytes() for path in bench.home.glob("dork.db*") if path.suffix != ".db-shm"}
    for path, content in copies.items():
        path.write_bytes(content)
    assert bench.path.with_name("dork.db-wal").stat().st_size > 0


def damage_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[3 * 4096 : 8 * 4096] = secrets.token_bytes(5 * 4096)
    path.write_bytes(data)


def execute(path: Path, *statements: str) -> None:
    connection = sqlite_driver().connect(str(path), isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def foreign(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('mine')")


def lineage(name: str) -> Callable[[Path], object]:
    return lambda path: shutil.copyfile(LEGACY / name / "dork.db", path)


NEWER = "INSERT INTO schema_ledger VALUES ('9999_far', 'c', '2030-01-01T00:00:00.000Z', '9.9.9', 1)"
