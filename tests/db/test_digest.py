"""Digests: equal for equal contents on both engines, different for anything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from dorkos.clock import SystemClock
from dorkos.db.digest import LEFT_OUT, Digester, TableDigest, differing, digest_tables, whole_digest
from dorkos.db.engine import sqlite_driver
from dorkos.db.migrate import migrate_postgres
from dorkos.db.moving import Place, one_moment
from dorkos.db.progress import no_progress
from dorkos.db.rows import LOCAL_FACTS, LOCAL_FACTS_PREFIX, Kind, Shape, batches, shapes
from dorkos.db.schema.tables import metadata
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.any_rows import any_rows, filled_postgres, filled_sqlite
from tests.db.conftest import Bench

pytestmark = pytest.mark.xdist_group("digest")

_SHAPE = Shape("t", (("id", Kind.TEXT), ("n", Kind.INTEGER), ("f", Kind.FLAG)), ("id",))


def digests(place: Place, of: Sequence[Shape] | None = None) -> dict[str, TableDigest]:
    with one_moment(place) as moment:
        return digest_tables(moment.connection, of or shapes(), no_progress)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A migrated PostgreSQL database with a row in every table."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        yield filled_postgres(url, any_rows(0))


def test_both_engines_give_the_same_digests(postgres: str, tmp_path: Path) -> None:
    """Rows with odd values in every table; the same total as well."""
    rows = any_rows(0)
    assert all(rows.values()), "a table without rows proves nothing"
    here, there = digests(filled_sqlite(tmp_path / "dork.db", rows)), digests(postgres)
    assert here == there
    assert whole_digest(here) == whole_digest(there)
    assert {name: found.rows for name, found in here.items()} == {name: len(r) for name, r in rows.items()}


def test_the_digest_is_that_of_the_documented_json() -> None:
    """The SHA-256 over one array of arrays, without spaces, letters as they are."""
    digester = Digester(_SHAPE)
    digester.add([("é", 1, True)])
    digester.add([])
    digester.add([("ü\n", None, False), ("z", -(2**63), True)])
    text = '[["é",1,true],["ü\\n",null,false],["z",-9223372036854775808,true]]'
    assert digester.result() == TableDigest(3, hashlib.sha256(text.encode()).hexdigest())
    assert Digester(_SHAPE).result() == TableDigest(0, hashlib.sha256(b"[]").hexdigest())


def test_how_rows_are_batched_does_not_matter() -> None:
    """One by one or all at once: the same digest. Large rows make small batches."""
    rows = [(f"{number:04}", number, number % 2 == 0) for number in range(5000)]
    whole, single = Digester(_SHAPE), Digester(_SHAPE)
    whole.add(rows)
    for row in rows:
        single.add([row])
    assert whole.result() == single.result()
    assert [len(batch) for batch in batches(rows)] == [2000, 2000, 1000]
    assert [len(batch) for batch in batches([("x" * 3_000_000, 1, True)] * 3)] == [2, 1]


def test_any_changed_value_changes_the_digest_of_its_table_alone(tmp_path: Path) -> None:
    """One column after the other of every table; but what is made anew elsewhere does not count."""
    rows = any_rows(0)
    path = filled_sqlite(tmp_path / "dork.db", rows)
    before = digests(path)
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for shape in shapes():
            for name, kind in shape.columns:
                other = {Kind.INTEGER: "7", Kind.FLAG: f"1 - {name}"}.get(kind, "'2026-01-01T00:00:00.123Z'")
                connection.execute("BEGIN")
                one = f"rowid = (SELECT max(rowid) FROM {shape.table} WHERE {name} IS NOT {other})"
                connection.execute(f"UPDATE {shape.table} SET {name} = {other} WHERE {one}")
                connection.execute("COMMIT")
                after = digests(path, [shape])[shape.table]
                counts = name not in LEFT_OUT.get(shape.table, ())
                assert (after != before[shape.table]) == counts, f"{shape.table}.{name}"
                before[shape.table] = after
            assert digests(path) == before, f"a change of {shape.table} shows elsewhere"


def test_facts_about_one_place_are_left_out(tmp_path: Path) -> None:
    """Epoch, fingerprint, fleet mode and backup facts differ between equal databases; others count."""
    path = tmp_path / "dork.db"
    create_sqlite_file(path)
    before = digests(path)["system_state"]
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("UPDATE system_state SET value = 'other' WHERE key = 'epoch'")
        for key in ("fleet", "backup:rehearsed"):
            connection.execute("INSERT INTO system_state VALUES (?, '{}')", (key,))
        assert digests(path)["system_state"] == before
        connection.execute("INSERT INTO system_state VALUES ('lineage:agents:a:name', 'x')")
    assert digests(path)["system_state"].rows == before.rows + 1


def test_what_differs_is_named_with_both_counts() -> None:
    """A table that lacks rows, and one that has as many but others."""
    a, b = TableDigest(2, "aa"), TableDigest(1, "bb")
    assert differing({"x": a, "y": a, "z": a}, {"x": a, "y": b, "z": TableDigest(2, "cc")}) == [
        "y (2 rows expected, 1 found)",
        "z (as many rows, but others)",
    ]
    assert differing({"x": a}, {}) == ["x (2 rows expected, 0 found)"]


def test_one_moment_is_not_disturbed_by_a_writer(tmp_path: Path) -> None:
    """What is committed while the tables are read is in none of them."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as writer:
        writer.execute("UPDATE agents SET name = 'before'")
        with one_moment(path) as moment:
            first = digest_tables(moment.connection, shapes(), no_progress)
            writer.execute("UPDATE agents SET name = 'after'")
            assert digest_tables(moment.connection, shapes(), no_progress) == first
            moment.prove()
        assert digests(path) != first


def test_a_file_that_changed_while_it_was_read_without_locks_is_told(tmp_path: Path) -> None:
    """Nobody had it open, so no log was read; then somebody wrote: that is not one moment."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    with one_moment(path) as moment:
        moment.prove()
        with closing(sqlite_driver().connect(str(path), isolation_level=None)) as writer:
            writer.execute("UPDATE agents SET name = 'other'")
            with pytest.raises(DorkError) as refusal:
                moment.prove()
    assert refusal.value.code is ErrorCode.DATABASE_BUSY


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    """No byte and no side file, when nobody else has the database open."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    digests(path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_what_cannot_be_read_as_this_version_stores_it_is_refused(bench: Bench) -> None:
    """No database, and one whose migrations are not all applied; each with what to do."""
    with pytest.raises(DorkError) as absent, one_moment(bench.path):
        pass
    assert absent.value.code is ErrorCode.NOT_FOUND
    assert not bench.path.exists()
    bench.copy_revisions(1)
    bench.migrate()
    with pytest.raises(DorkError) as old, one_moment(bench.path):
        pass
    assert old.value.code is ErrorCode.CONFLICT
    assert "db migrate" in str(old.value.hint)


def test_a_text_that_is_not_utf8_is_told_as_damage(tmp_path: Path) -> None:
    """Bytes that somebody forced into a text column end in a refusal, not in a fault of ours."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("UPDATE agents SET name = CAST(X'FF' AS TEXT)")
    with pytest.raises(DorkError) as refusal:
        digests(path)
    assert refusal.value.code is ErrorCode.DATABASE_CORRUPT


def test_rows_are_described_as_they_are_stored() -> None:
    """Parents come before the rows that refer to them, and each column has its kind."""
    order = [shape.table for shape in shapes()]
    assert order.index("agents") < order.index("pulse_schedules") < order.index("pulse_runs")
    assert "schema_ledger" not in order
    kinds = dict(next(shape for shape in shapes() if shape.table == "tokens").columns)
    assert (kinds["hash"], kinds["scopes"], kinds["created_at"]) == (Kind.TEXT, Kind.JSON, Kind.INSTANT)
    assert json.dumps([kind.value for kind in Kind]) == '["text", "json", "integer", "flag", "instant"]'


def test_a_database_without_the_name_of_its_history_has_a_digest(bench: Bench) -> None:
    """The next start makes one; until then all that is stored can be read, compared and taken out."""
    bench.migrate(declared=metadata)
    before = digests(bench.path)
    with bench.raw() as connection:
        connection.execute("DELETE FROM system_state WHERE key = 'epoch'")
    assert digests(bench.path) == before


@pytest.mark.parametrize("page", ["database.md", "export-format.md"])
def test_the_facts_that_are_left_out_are_documented(page: str) -> None:
    """Whoever reads an export without this program has to know what is not in it."""
    told = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    assert [fact for fact in LOCAL_FACTS if f"`{fact}`" not in told] == []
    assert f"`{LOCAL_FACTS_PREFIX}" in told
