"""Imports: every value survives, everything else is refused with its line, and nothing is half in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from dorkos.clock import iso
from dorkos.db.connections import migrating_postgres
from dorkos.db.export_format import Footer, footer_line, row_lines
from dorkos.db.marks import MARKS, Mark
from dorkos.db.migrate import Plan, migrate_sqlite, status_sqlite
from dorkos.db.moving import one_moment
from dorkos.db.rows import Kind, shapes
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.any_rows import NEWEST, any_rows, filled_sqlite, stored
from tests.db.conftest import Bench
from tests.db.moves import (
    CLOCK,
    a_place,
    changed,
    export_of,
    import_into,
    migrate,
    opened,
    signed,
    unmoved,
)


@pytest.fixture
def export(tmp_path: Path) -> bytes:
    """An export of a database with odd rows in every table."""
    (tmp_path / "source").mkdir()
    return export_of(filled_sqlite(tmp_path / "source" / "dork.db", any_rows(0)))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_every_row_of_every_table_comes_in(engine: str, export: bytes, tmp_path: Path) -> None:
    """With its values; the digests are the export's, the epoch is new, and the database is sound."""
    with a_place(engine, tmp_path) as place:
        made = import_into(place, export)
        assert unmoved(stored(place)) == unmoved(stored(tmp_path / "source" / "dork.db"))
        problems = verify_sqlite(place) if isinstance(place, Path) else verify_postgres(place)
        assert problems == []
        with one_moment(place) as moment:
            assert moment.epoch == made.epoch != made.header.epoch
        again = export_of(place).splitlines()[-1]
        assert json.loads(again)["tables"] == json.loads(export.splitlines()[-1])["tables"]
        assert migrate(place).applied == ()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_acts_after_an_import(engine: str, export: bytes, tmp_path: Path) -> None:
    """The fleet is on hold, schedules stand at now, and no process id could make a rescue kill anything."""
    with a_place(engine, tmp_path) as place:
        import_into(place, export)
        with opened(place) as connection:
            facts = "SELECT value FROM system_state WHERE key = 'fleet'"
            fleet = connection.exec_driver_sql(facts).scalar_one()
            assert json.loads(fleet)["mode"] == "hold"
            assert iso(CLOCK.now()) in json.loads(fleet)["reason"]
            schedules, runs = metadata.tables["pulse_schedules"], metadata.tables["pulse_runs"]
            stands = set(connection.execute(sa.select(schedules.c.decided_until)).scalars())
            assert stands == {CLOCK.now()}
            under_way = sa.select(runs.c.pid, runs.c.process_started_at).where(runs.c.status == "running")
            assert set(connection.execute(under_way)) <= {(None, None)}
            ended = sa.select(runs.c.pid).where(runs.c.status != "running", runs.c.pid.is_not(None))
            assert connection.execute(ended).first() is not None


def test_the_next_event_gets_a_new_position(export: bytes, tmp_path: Path) -> None:
    """Positions of imported events are taken: on PostgreSQL the identity goes on behind the highest."""
    values = "'k', 'e', '2026-03-01T09:00:00.000Z', '{}'"
    insert = f"INSERT INTO events (kind, entity_id, at, data) VALUES ({values})"
    for engine in ("sqlite", "postgresql"):
        with a_place(engine, tmp_path) as place:
            import_into(place, export)
            with opened(place) as connection:
                newest = connection.exec_driver_sql("SELECT max(position) FROM events").scalar_one()
                position = connection.exec_driver_sql(f"{insert} RETURNING position").scalar_one()
                assert position == newest + 1


def test_a_compressed_export_comes_in(export: bytes, tmp_path: Path) -> None:
    """Whatever its name is: its first bytes tell."""
    made = import_into(tmp_path / "dork.db", gzip.compress(export))
    assert made.digest == import_into(tmp_path / "other.db", export).digest


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.TEXT: _TEXT,
    Kind.JSON: st.builds(
        lambda value, wide: json.dumps(value, indent=wide), _JSON, st.sampled_from((None, 1))
    ),
    Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
    Kind.FLAG: st.booleans(),
    # From the year 1000 to 9999: below that texts would not sort as times.
    Kind.INSTANT: st.integers(-30_610_000_000_000, 253_402_300_799_999).map(
        lambda ms: iso(_EPOCH + timedelta(milliseconds=ms))
    ),
}


@st.composite
def free_rows(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Rows of the tables that are bound by nothing but types, with every kind among their columns."""
    rows: dict[str, list[Any]] = {shape.table: [] for shape in shapes()}
    for shape in shapes():
        if shape.table not in ("relay_adapters", "relay_messages", "nodes"):
            continue
        columns = metadata.tables[shape.table].columns
        one = st.tuples(
            *(
                # Sender and key together are unique; that is another matter than values.
                st.none()
                if name == "idempotency_key"
                else st.none() | _VALUES[kind]
                if columns[name].nullable
                else _VALUES[kind]
                for name, kind in shape.columns
            )
        )
        rows[shape.table] = draw(st.lists(one, max_size=4, unique_by=shape.key_of))
    return rows


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(free_rows())
def test_any_value_survives_export_and_import(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, list[Any]]
) -> None:
    """Unicode, empty texts, 64-bit integers, NULL and any JSON text: read back as they were written."""
    folder = tmp_path_factory.mktemp("any")
    source = filled_sqlite(folder / "a.db", rows)
    import_into(folder / "b.db", export_of(source))
    assert stored(folder / "b.db") == stored(source)


@pytest.mark.parametrize("seed", range(1, 5))
def test_rows_of_all_tables_survive_any_way_round(seed: int, tmp_path: Path) -> None:
    """SQLite to PostgreSQL to SQLite through exports, with rows that the constraints just allow."""
    source = filled_sqlite(tmp_path / "a.db", any_rows(seed, per_table=12))
    with empty_postgres() as url:
        there = import_into(url, export_of(source))
        back = import_into(tmp_path / "b.db", export_of(url))
    assert there.digest == back.digest
    assert unmoved(stored(tmp_path / "b.db")) == unmoved(stored(source))


def test_a_later_migration_is_refused_with_the_version(export: bytes, tmp_path: Path) -> None:
    """`database_newer`, naming who wrote it; no database is made."""
    later = changed(0, lambda fields: fields.update(migration="0999_later", writtenBy="DorkOS 9.1"))
    newer = later(export.splitlines())
    with pytest.raises(DorkError) as refusal:
        import_into(tmp_path / "dork.db", b"\n".join(newer))
    assert refusal.value.code is ErrorCode.DATABASE_NEWER
    assert "DorkOS 9.1" in refusal.value.message
    assert not (tmp_path / "dork.db").exists()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_target_with_rows_is_refused(engine: str, export: bytes, tmp_path: Path) -> None:
    """Also one that the same export filled: nothing is mixed, and nothing changes."""
    with a_place(engine, tmp_path) as place:
        import_into(place, export)
        before = stored(place)
        with pytest.raises(DorkError) as refusal:
            import_into(place, export)
        assert refusal.value.code is ErrorCode.TARGET_NOT_EMPTY
        assert "agents" in refusal.value.message
        assert stored(place) == before


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_an_import_that_breaks_off_leaves_an_empty_database(
    engine: str, export: bytes, tmp_path: Path
) -> None:
    """At any point of its progress: no row is in, no mark is there, and it can be done again."""
    seen: list[str] = []

    def count(what: str, done: int, total: int) -> None:
        seen.append(what)

    with a_place(engine, tmp_path) as place:
        (tmp_path / "whole").mkdir()
        import_into(tmp_path / "whole" / "dork.db", export, progress=count)
        for stop in range(1, len(seen), 9):
            left = iter(range(stop))

            def break_off(what: str, done: int, total: int, left: Iterator[int] = left) -> None:
                if next(left, None) is None:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                import_into(place, export, progress=break_off)
            assert not any(stored(place).values())
            assert migrate(place).applied == ()
        import_into(place, export)


def look(url: str) -> None:
    """What every start reads first, without patience."""
    with migrating_postgres(url) as connection, connection.begin():
        connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")
        connection.exec_driver_sql("SELECT * FROM system_state")


def test_a_server_that_starts_meanwhile_waits(export: bytes) -> None:
    """On PostgreSQL it cannot even read whether it may start before all rows are in or none is."""
    with empty_postgres() as url:
        kept_out: list[bool] = []

        def start(what: str, done: int, total: int) -> None:
            if what != "comparing" or kept_out:
                return
            with pytest.raises(DorkError) as refusal:
                look(url)
            assert refusal.value.code is ErrorCode.DATABASE_BUSY
            kept_out.append(True)

        import_into(url, export, progress=start)
        assert kept_out == [True]


def older_export(bench: Bench) -> bytes:
    """What the last version wrote: the bench has one migration more."""
    bench.add_revision(
        "0900_later",
        'step.connection.exec_driver_sql("CREATE TABLE later (id TEXT)")\n'
        "step.connection.exec_driver_sql(\"UPDATE agents SET name = 'migrated'\")",
    )
    return export_of(filled_sqlite(bench.home / "source.db", any_rows(0)))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_an_export_of_an_older_version_is_migrated_after_it_came_in(engine: str, bench: Bench) -> None:
    """Its rows go into a database as it was then; the migrations since are applied to them."""
    plan = Plan(bench.directory, sa.MetaData())
    export = older_export(bench)
    with a_place(engine, bench.home) as place:
        made = import_into(place, export, plan=plan)
        assert made.header.migration == NEWEST
        with opened(place) as connection:
            assert set(connection.exec_driver_sql("SELECT name FROM agents").scalars()) == {"migrated"}
            facts: dict[str, str] = dict(
                connection.exec_driver_sql("SELECT key, value FROM system_state").all()
            )
        assert facts["epoch"] == made.epoch
        assert json.loads(facts["fleet"])["mode"] == "hold"
        assert not facts.keys() & set(MARKS)
        with pytest.raises(DorkError) as refusal:
            import_into(place, export, plan=plan)
        assert refusal.value.code is ErrorCode.TARGET_NOT_EMPTY


def test_an_older_import_that_failed_to_migrate_is_not_served_and_can_be_finished(bench: Bench) -> None:
    """A mark keeps every start away until the same file is imported again; another file is refused."""
    plan = Plan(bench.directory, sa.MetaData())
    export = older_export(bench)
    good = (bench.directory / "0900_later.py").read_text(encoding="utf-8")
    bench.add_revision("0900_later", 'raise RuntimeError("no")')
    with pytest.raises(DorkError) as failed:
        import_into(bench.path, export, plan=plan)
    assert failed.value.code is ErrorCode.MIGRATION_FAILED
    starts: tuple[Callable[[], object], ...] = (bench.migrate, lambda: migrate(bench.path))
    for start in starts:
        with pytest.raises(DorkError) as refusal:
            start()
        assert refusal.value.code is ErrorCode.MOVE_UNFINISHED

    (bench.directory / "0900_later.py").write_text(good, encoding="utf-8")
    other = signed(changed(0, lambda f: f.update(epoch="other"))(export.splitlines()))
    with pytest.raises(DorkError) as another:
        import_into(bench.path, b"".join(line + b"\n" for line in other), plan=plan)
    assert another.value.code is ErrorCode.MOVE_UNFINISHED
    import_into(bench.path, export, plan=plan)
    assert bench.migrate().applied == ()
    assert bench.rows("SELECT DISTINCT name FROM agents") == [("migrated",)]


def test_an_older_export_takes_up_a_database_that_has_no_rows_yet(bench: Bench) -> None:
    """Such as one that was killed between its making and its first row; not one that is newer."""
    plan = Plan(bench.directory, sa.MetaData())
    export = older_export(bench)
    create_sqlite_file(bench.path)
    import_into(bench.path, export, plan=plan)
    assert bench.rows("SELECT DISTINCT name FROM agents") == [("migrated",)]

    newer = bench.home / "newer.db"
    migrate_sqlite(newer, backups=bench.backups, clock=CLOCK, plan=plan)
    with pytest.raises(DorkError) as refusal:
        import_into(newer, export, plan=plan)
    assert refusal.value.code is ErrorCode.TARGET_NOT_EMPTY
    assert "DorkOS" in refusal.value.message


def test_an_older_export_that_lies_about_its_tables_is_refused(bench: Bench) -> None:
    """Its header must describe the tables as the migrations of then make them."""
    plan = Plan(bench.directory, sa.MetaData())
    lines = older_export(bench).splitlines()
    wrong = signed(changed(0, lambda f: f["tables"][0]["columns"].update(more="text"))(lines))
    with pytest.raises(DorkError) as refusal:
        import_into(bench.path, b"".join(line + b"\n" for line in wrong), plan=plan)
    assert refusal.value.code is ErrorCode.IMPORT_INVALID
    assert status_sqlite(bench.path, plan=plan).pending == ("0900_later",)


def test_a_mark_survives_being_stored() -> None:
    """Texts and integers of a key come back as what they were."""
    mark = Mark("id", "2026-03-01T09:00:00.000Z", "rate_limit_buckets", ("agent", "ä", 7), 3)
    assert Mark.parse(mark.text()) == mark
    assert Mark.parse(Mark("id", "t").text()) == Mark("id", "t")


def test_lines_are_written_as_documented() -> None:
    """One object a line, without spaces."""
    shape = next(shape for shape in shapes() if shape.table == "system_state")
    line = '{"table":"system_state","row":{"key":"a","value":"é"}}\n'
    assert row_lines(shape, [("a", "é")]) == line.encode()
    assert footer_line(Footer(0, "aa", {})) == b'{"end":"dorkos-export","rows":0,"sha256":"aa","tables":{}}\n'
