"""Transfers from SQLite to PostgreSQL: all or refused, resumed where they broke off, never served half."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from dorkos.db.connections import migrating_postgres
from dorkos.db.engine import sqlite_driver
from dorkos.db.marks import Move
from dorkos.db.migrate import status_postgres
from dorkos.db.moving import one_moment
from dorkos.db.transfer import Transferred, discard_transfer, transfer_to_postgres
from dorkos.db.verify import verify_postgres
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.any_rows import any_rows, filled_sqlite, stored
from tests.db.conftest import Bench
from tests.db.moves import CLOCK, export_of, import_into, migrate, unmoved


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A SQLite database with odd rows in every table."""
    return filled_sqlite(tmp_path / "dork.db", any_rows(0, per_table=8))


def transfer(source: Path, url: str) -> Transferred:
    return transfer_to_postgres(source, url, clock=CLOCK)


def refused(source: Path, url: str) -> DorkError:
    with pytest.raises(DorkError) as refusal:
        transfer(source, url)
    return refusal.value


class BrokenOffError(Exception):
    """Stands for a kill: PostgreSQL sees a connection that goes away before its COMMIT."""


@contextmanager
def broken_off_at(number: int) -> Iterator[None]:
    """Break off before the commit of this number within the block."""
    commits = iter(range(1, number))

    def count(_: sa.Connection) -> None:
        if next(commits, None) is None:
            raise BrokenOffError

    event.listen(sa.Engine, "commit", count)
    try:
        yield
    finally:
        event.remove(sa.Engine, "commit", count)


def test_everything_arrives_and_comes_back(source: Path, tmp_path: Path) -> None:
    """Equal digests: SQLite to PostgreSQL by transfer, to a file by export, to SQLite by import."""
    with empty_postgres() as url:
        moved = transfer(source, url)
        assert unmoved(stored(url)) == unmoved(stored(source))
        assert verify_postgres(url) == []
        assert (migrate(url).applied, moved.resumed) == ((), 0)
        back = import_into(tmp_path / "back.db", export_of(url))
    assert back.digest == moved.digest
    assert back.tables == moved.tables
    assert unmoved(stored(tmp_path / "back.db")) == unmoved(stored(source))


def test_the_source_keeps_every_byte(source: Path) -> None:
    """Of its file, also of a log that a crash left beside it, whose rows arrive."""
    folder = source.parent
    with closing(sqlite_driver().connect(str(source), isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("UPDATE agents SET name = 'in the log'")
        crashed = folder / "crashed"
        crashed.mkdir()
        for name in ("dork.db", "dork.db-wal"):
            (crashed / name).write_bytes((folder / name).read_bytes())
    files = [crashed / "dork.db", crashed / "dork.db-wal"]
    before = [file.read_bytes() for file in files]
    with empty_postgres() as url:
        transfer(crashed / "dork.db", url)
        assert {row[1] for row in stored(url)["agents"]} == {"in the log"}
    assert [file.read_bytes() for file in files] == before


def test_nothing_acts_at_the_target(source: Path) -> None:
    """The fleet is on hold there, the epoch is another, and the next event gets a position of its own."""
    with empty_postgres() as url:
        moved = transfer(source, url)
        with one_moment(source) as here, one_moment(url) as there:
            assert moved.epoch == there.epoch != here.epoch
        with migrating_postgres(url) as connection, connection.begin():
            run = connection.exec_driver_sql
            fleet = json.loads(run("SELECT value FROM system_state WHERE key = 'fleet'").scalar_one())
            assert (fleet["mode"], str(source) in fleet["reason"]) == ("hold", True)
            insert = "INSERT INTO events (kind, entity_id, at, data) VALUES ('k', 'e', now(), '{}')"
            newest = run("SELECT max(position) FROM events").scalar_one()
            assert run(f"{insert} RETURNING position").scalar_one() == newest + 1


def test_it_goes_on_wherever_it_broke_off(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each commit in turn. Half of it is never served, and no row comes in twice."""
    monkeypatch.setattr("dorkos.db.rows.BATCH_ROWS", 6)
    rows, seen = stored(source), set()
    with empty_postgres() as url:
        moved = None
        for number in range(1, 400):
            try:
                with broken_off_at(number):
                    moved = transfer(source, url)
                break
            except BrokenOffError:
                pass
            if not status_postgres(url).applied or status_postgres(url).pending:
                continue
            there = stored(url)
            with migrating_postgres(url) as connection, connection.begin():
                marks = connection.exec_driver_sql("SELECT count(*) FROM system_state WHERE key = 'transfer'")
                begun = marks.scalar_one() == 1
            count = sum(map(len, there.values()))
            seen.add(count)
            assert begun or not count
            assert all(rows[table][: len(found)] == found for table, found in there.items())
            if begun:
                with pytest.raises(DorkError) as refusal:
                    migrate(url)
                assert refusal.value.code is ErrorCode.MOVE_UNFINISHED
                assert refused(filled_sqlite(source.parent / f"{number}.db", any_rows(1)), url).code is (
                    ErrorCode.MOVE_UNFINISHED
                )
        assert len(seen) > 5, "it broke off at too few places to prove anything"
        assert moved is not None
        assert moved.resumed > 0
        assert unmoved(stored(url)) == unmoved(rows)


def test_a_transfer_that_was_finished_is_not_begun_again(source: Path) -> None:
    """The target holds rows by then, and they stay as they are."""
    with empty_postgres() as url:
        transfer(source, url)
        before = stored(url)
        again = refused(source, url)
        assert again.code is ErrorCode.TARGET_NOT_EMPTY
        assert "agents" in again.message
        assert stored(url) == before


def test_a_source_that_was_used_again_begins_another_transfer(source: Path) -> None:
    """Its rows are others by then: nothing is mixed. Discarded, the target takes the new ones."""
    with empty_postgres() as url:
        with pytest.raises(BrokenOffError), broken_off_at(22):
            transfer(source, url)
        assert any(stored(url).values())
        with closing(sqlite_driver().connect(str(source), isolation_level=None)) as writer:
            writer.execute("UPDATE agents SET name = 'other'")
        again = refused(source, url)
        assert again.code is ErrorCode.MOVE_UNFINISHED
        assert "--discard" in str(again.hint)
        assert discard_transfer(url) > 0
        assert not any(stored(url).values())
        transfer(source, url)
        assert unmoved(stored(url)) == unmoved(stored(source))


def test_only_an_unfinished_transfer_can_be_discarded(source: Path) -> None:
    """Neither a finished one nor a database that is not ours, nor one without tables."""
    with empty_postgres() as url:
        with pytest.raises(DorkError) as nothing:
            discard_transfer(url)
        assert nothing.value.code is ErrorCode.NOT_FOUND
        transfer(source, url)
        before = stored(url)
        with pytest.raises(DorkError) as finished:
            discard_transfer(url)
        assert finished.value.code is ErrorCode.NOT_FOUND
        assert stored(url) == before


def test_a_mark_that_cannot_be_read_is_not_taken_for_ours(source: Path) -> None:
    """It is a mark: the target is not served, and not filled either, whatever is wrong with it."""
    with empty_postgres() as url:
        migrate(url)
        for text in ("", "[]", "{}", "null"):
            with migrating_postgres(url) as connection, connection.begin():
                connection.exec_driver_sql("DELETE FROM system_state WHERE key = 'transfer'")
                connection.exec_driver_sql("INSERT INTO system_state VALUES ('transfer', %s)", (text,))
            assert refused(source, url).code is ErrorCode.MOVE_UNFINISHED
        discard_transfer(url)
        transfer(source, url)


def test_the_target_of_an_unfinished_import_is_refused(source: Path) -> None:
    """Two moves into one database would mix."""
    with empty_postgres() as url:
        migrate(url)
        with migrating_postgres(url) as connection, connection.begin():
            connection.exec_driver_sql("INSERT INTO system_state VALUES (%s, '{}')", (Move.IMPORT.value,))
        assert refused(source, url).code is ErrorCode.MOVE_UNFINISHED


def test_two_transfers_at_once_do_not_mix(source: Path) -> None:
    """The second moved the mark on: the first finds that out with its next rows, and stops."""
    with empty_postgres() as url:
        stolen: list[Transferred] = []

        def steal(what: str, done: int, total: int) -> None:
            if what == "copying" and done > 20 and not stolen:
                stolen.append(transfer(source, url))

        with pytest.raises(DorkError) as refusal:
            transfer_to_postgres(source, url, clock=CLOCK, progress=steal)
        assert refusal.value.code is ErrorCode.CONFLICT
        assert unmoved(stored(url)) == unmoved(stored(source))


def test_somebody_who_writes_to_the_target_is_noticed(source: Path) -> None:
    """What arrived is compared with what was sent before anything is served."""
    rows = stored(source)
    with empty_postgres() as url:

        def disturb(what: str, done: int, total: int) -> None:
            if what == "copying" and done >= sum(map(len, rows.values())):
                with migrating_postgres(url) as connection, connection.begin():
                    connection.exec_driver_sql("UPDATE agents SET name = 'other'")
                    connection.exec_driver_sql("DELETE FROM tokens")

        with pytest.raises(DorkError) as refusal:
            transfer_to_postgres(source, url, clock=CLOCK, progress=disturb)
        assert refusal.value.code is ErrorCode.TRANSFER_FAILED
        assert "agents (as many rows, but others)" in refusal.value.message
        assert "tokens (8 rows expected, 0 found)" in refusal.value.message
        with pytest.raises(DorkError) as start:
            migrate(url)
        assert start.value.code is ErrorCode.MOVE_UNFINISHED


def test_a_value_that_postgresql_cannot_hold_is_named_before_anything_is_made(source: Path) -> None:
    """U+0000, bytes that are no text, no instant: table, column and key are told, the value is not."""
    with closing(sqlite_driver().connect(str(source), isolation_level=None)) as writer:
        (key,) = writer.execute("SELECT id FROM relay_adapters ORDER BY id LIMIT 1").fetchone()
        writer.execute("UPDATE relay_adapters SET secrets = 'geheim' || char(0) WHERE id = ?", (key,))
    with empty_postgres() as url:
        refusal = refused(source, url)
        assert refusal.code is ErrorCode.DATABASE_CORRUPT
        assert f"relay_adapters.secrets of row {key} holds U+0000" in refusal.message
        assert "geheim" not in f"{refusal.message} {refusal.details}"
        assert not status_postgres(url).applied


def test_a_text_too_long_for_an_index_is_told(source: Path) -> None:
    """PostgreSQL's limit is not a fault of the connection."""
    text = "".join(chr(0x4E00 + number * 7 % 20_000) for number in range(9000))
    with closing(sqlite_driver().connect(str(source), isolation_level=None)) as writer:
        writer.execute("UPDATE agents SET project_path = ? WHERE id = (SELECT min(id) FROM agents)", (text,))
    with empty_postgres() as url:
        refusal = refused(source, url)
        assert refusal.code is ErrorCode.TRANSFER_FAILED
        assert "agents" in refusal.message


def test_a_target_that_cannot_serve_is_refused_before_anything_is_made(source: Path) -> None:
    """Not reachable, not UTF-8, no right to make tables, tables of somebody else; no password is told."""
    nowhere = "postgresql://me:geheim@127.0.0.1:1/none"
    away = refused(source, nowhere)
    assert away.code is ErrorCode.DATABASE_UNREACHABLE
    assert "geheim" not in f"{away.message} {away.hint} {away.details}"
    with empty_postgres() as url, migrating_postgres(url) as admin:
        raw: Any = admin.connection.dbapi_connection
        raw.autocommit = True
        with raw.cursor() as cursor:
            name = f"latin_{url.rpartition('_')[2].partition('?')[0]}"
            cursor.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
            try:
                latin = str(sa.make_url(url).set(database=name).render_as_string(hide_password=False))
                assert refused(source, latin).code is ErrorCode.DATABASE_FOREIGN
            finally:
                cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
            cursor.execute("DROP ROLE IF EXISTS guest")
            cursor.execute("CREATE ROLE guest LOGIN")
            try:
                guest = str(sa.make_url(url).set(username="guest").render_as_string(hide_password=False))
                lacking = refused(source, guest)
                assert lacking.code is ErrorCode.DATABASE_READONLY
                assert "may not make tables" in lacking.message
            finally:
                cursor.execute("DROP ROLE guest")
            cursor.execute("CREATE TABLE agents (x int)")
            assert refused(source, url).code is ErrorCode.DATABASE_FOREIGN


def test_a_source_that_is_not_up_to_date_is_refused(bench: Bench) -> None:
    """Its rows would have another form; and so is one that is not there."""
    with empty_postgres() as url:
        assert refused(bench.path, url).code is ErrorCode.NOT_FOUND
        bench.copy_revisions(2)
        bench.migrate()
        assert refused(bench.path, url).code is ErrorCode.CONFLICT
        with migrating_postgres(url) as connection, connection.begin():
            assert sa.inspect(connection).get_table_names() == []


def test_a_source_that_was_half_imported_is_refused(tmp_path: Path) -> None:
    """A mark travels nowhere."""
    source = tmp_path / "dork.db"
    create_sqlite_file(source)
    with closing(sqlite_driver().connect(str(source), isolation_level=None)) as writer:
        writer.execute("INSERT INTO system_state VALUES ('import', '{}')")
    with empty_postgres() as url:
        assert refused(source, url).code is ErrorCode.MOVE_UNFINISHED


def test_progress_is_told_from_nothing_to_all(source: Path) -> None:
    """Each part begins at 0 and ends at its total, and never goes back."""
    told: dict[str, list[tuple[int, int]]] = {}

    def note(what: str, done: int, total: int) -> None:
        told.setdefault(what, []).append((done, total))

    with empty_postgres() as url:
        transfer_to_postgres(source, url, clock=CLOCK, progress=note)
    assert list(told) == ["reading", "copying", "comparing"]
    for steps in told.values():
        assert steps[0][0] == 0
        assert steps == sorted(steps)
        # Facts that stay with their database are counted, but not moved.
        assert steps[-1][1] - steps[-1][0] <= 3
