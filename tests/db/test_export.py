"""Exports: what is in the file, whom it may surprise, and that nothing half-made is left."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.digest import whole_digest
from dorkos.db.engine import sqlite_driver
from dorkos.db.exporting import export_to_file, export_to_stream
from dorkos.db.migrate import migrate_postgres
from dorkos.db.moving import Place
from dorkos.db.rows import shapes
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import empty_postgres
from tests.db.any_rows import NEWEST, any_rows, filled_postgres, filled_sqlite


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Place]:
    """A database with odd rows in every table, on each engine."""
    if request.param == "sqlite":
        yield filled_sqlite(tmp_path / "dork.db", any_rows(0))
        return
    with empty_postgres() as url:
        migrate_postgres(url, clock=clock)
        yield filled_postgres(url, any_rows(0))


def lines(place: Place, clock: ManualClock) -> list[Any]:
    sink = io.BytesIO()
    export_to_stream(place, sink, clock=clock)
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_every_row_is_a_line_between_header_and_footer(place: Place, clock: ManualClock) -> None:
    """Values exactly as they are stored, tables so that parents come first, on both engines."""
    rows = any_rows(0)
    header, *body, footer = lines(place, clock)
    assert (header["format"], header["version"]) == ("dorkos-export", 1)
    assert header["migration"] == NEWEST
    assert header["at"] == "2026-03-01T09:00:00.000Z"
    assert [table["name"] for table in header["tables"]] == [shape.table for shape in shapes()]
    expected = [
        {"table": shape.table, "row": dict(zip(shape.names, row, strict=True))}
        for shape in shapes()
        for row in sorted(rows[shape.table], key=lambda row: [_bytes(v) for v in shape.key_of(row)])
    ]
    assert body == expected
    assert footer["rows"] == len(body)
    assert {name: found["rows"] for name, found in footer["tables"].items()} == {
        name: len(found) for name, found in rows.items()
    }


def _bytes(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


def test_digests_of_the_footer_can_be_computed_from_the_file(place: Place, clock: ManualClock) -> None:
    """By whoever reads the documentation: of all bytes before it, and of a table's values."""
    sink = io.BytesIO()
    made = export_to_stream(place, sink, clock=clock)
    before, _, last = sink.getvalue().rstrip(b"\n").rpartition(b"\n")
    footer = json.loads(last)
    assert footer["sha256"] == hashlib.sha256(before + b"\n").hexdigest()
    agents = [json.loads(line)["row"] for line in before.splitlines() if b'{"table":"agents"' in line]
    text = json.dumps([list(row.values()) for row in agents], ensure_ascii=False, separators=(",", ":"))
    assert footer["tables"]["agents"]["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert made.digest == whole_digest(made.tables)


def test_what_belongs_to_one_place_is_not_in_it(tmp_path: Path, clock: ManualClock) -> None:
    """Neither the ledger nor fleet mode, fingerprint and backup facts; kept values of the lineage are."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        for key in ("fleet", "backup:rehearsed", "lineage:agents:a:name"):
            connection.execute("INSERT INTO system_state VALUES (?, '{}')", (key,))
    body = lines(path, clock)[1:-1]
    keys = {line["row"]["key"] for line in body if line["table"] == "system_state"}
    assert "lineage:agents:a:name" in keys
    assert not keys & {"epoch", "schema_fingerprint", "fleet", "backup:rehearsed"}
    assert "schema_ledger" not in {line["table"] for line in body}


def test_the_file_is_its_owners_alone(place: Place, tmp_path: Path, clock: ManualClock) -> None:
    """Mode 0600, plain or compressed by its name, and nothing else lies beside it."""
    folder = tmp_path / "exports ü"
    folder.mkdir()
    plain, packed = folder / "a.jsonl", folder / "b.jsonl.gz"
    for file in (plain, packed):
        made = export_to_file(place, to=file, folder=tmp_path, clock=clock)
        assert made.file == file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert sorted(folder.iterdir()) == [plain, packed]


def test_a_name_is_found_where_none_is_given(tmp_path: Path, clock: ManualClock) -> None:
    """It tells time and migration; the second of one second gets a number."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    made = [export_to_file(path, to=None, folder=tmp_path / "backups", clock=clock).file for _ in range(2)]
    assert [file.name for file in made if file] == [
        f"export-20260301T090000Z-{NEWEST}.jsonl.gz",
        f"export-20260301T090000Z-{NEWEST}-2.jsonl.gz",
    ]


def test_nothing_is_replaced(tmp_path: Path, clock: ManualClock) -> None:
    """A file of that name, a link to nowhere and a missing folder are refused before any work."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    taken, link = tmp_path / "taken", tmp_path / "link"
    taken.write_text("mine", encoding="utf-8")
    link.symlink_to(tmp_path / "nowhere")
    for file in (taken, link, tmp_path / "no folder" / "x"):
        with pytest.raises(DorkError) as refusal:
            export_to_file(path, to=file, folder=tmp_path, clock=clock)
        assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert taken.read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_name_that_was_taken_meanwhile_is_not_replaced(tmp_path: Path, clock: ManualClock) -> None:
    """Asked again, without a gap, when the finished file gets its name."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    file = tmp_path / "x.jsonl"

    def take(what: str, done: int, total: int) -> None:
        file.write_text("mine", encoding="utf-8")

    with pytest.raises(DorkError) as refusal:
        export_to_file(path, to=file, folder=tmp_path, clock=clock, progress=take)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert file.read_text(encoding="utf-8") == "mine"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["dork.db", "x.jsonl"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """Neither the file nor the unfinished one."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))

    def full(what: str, done: int, total: int) -> None:
        if done > 3:
            raise OSError(28, "No space left on device")

    for file in (tmp_path / "x.jsonl", tmp_path / "x.jsonl.gz"):
        with pytest.raises(DorkError) as refusal:
            export_to_file(path, to=file, folder=tmp_path, clock=clock, progress=full)
        assert refusal.value.code is ErrorCode.EXPORT_FAILED
        assert "No space left" in refusal.value.message
    assert [found.name for found in tmp_path.iterdir()] == ["dork.db"]


def test_a_writer_beside_it_changes_nothing(tmp_path: Path, clock: ManualClock) -> None:
    """What is committed while it is written is not in it: it shows the moment at which it began."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as writer:
        writer.execute("UPDATE agents SET name = 'before'")

        def write(what: str, done: int, total: int) -> None:
            writer.execute("UPDATE agents SET name = 'after'")
            writer.execute("DELETE FROM events")

        file = tmp_path / "x.jsonl"
        made = export_to_file(path, to=file, folder=tmp_path, clock=clock, progress=write)
    names = {
        json.loads(line)["row"]["name"] for line in file.read_bytes().splitlines() if b'"agents"' in line[:20]
    }
    assert names == {"before"}
    assert made.tables["events"].rows == len(any_rows(0)["events"])


def test_a_file_read_without_locks_that_changed_is_not_published(tmp_path: Path, clock: ManualClock) -> None:
    """A server that began meanwhile: `database_busy`, and no file."""
    path = filled_sqlite(tmp_path / "dork.db", any_rows(0))

    def begin(what: str, done: int, total: int) -> None:
        with closing(sqlite_driver().connect(str(path), isolation_level=None)) as writer:
            writer.execute("CREATE TABLE IF NOT EXISTS x (y)")

    with pytest.raises(DorkError) as refusal:
        export_to_file(path, to=tmp_path / "x.jsonl", folder=tmp_path, clock=clock, progress=begin)
    assert refusal.value.code is ErrorCode.DATABASE_BUSY
    assert not (tmp_path / "x.jsonl").exists()
