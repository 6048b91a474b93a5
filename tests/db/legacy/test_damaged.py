"""Stores that cannot be read as a whole: each is reported with its place and reason, and the rest comes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.home import ABSENT, UNREADABLE, LegacyHome
from dorkos.db.legacy.report import Report
from dorkos.db.verify import verify_sqlite
from tests.db.legacy.adopt_kit import Target, brought, brought_adoption, content_of, copy_of, new_target
from tests.db.legacy.relay_kit import expected

THREE = "home-three-databases"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A fresh data directory."""
    return new_target(tmp_path / "target")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of three databases that a test may damage."""
    return copy_of(THREE, tmp_path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _garbage(path: Path) -> None:
    path.write_bytes(b"nonsense " * 1000)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def _log_alone(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}-wal"))


@pytest.mark.parametrize("damage", [_garbage, _folder, _dangling, _log_alone])
@pytest.mark.parametrize(
    ("store", "table"), [("pulse.db", "pulse_runs"), ("mesh/mesh.db", "agents"), ("relay/index.db", None)]
)
def test_a_database_that_cannot_be_read_is_reported_once(
    store: str, table: str | None, damage: Callable[[Path], None], home: Path, target: Target
) -> None:
    """Everything else comes as it would have come."""
    damage(home / store)
    before = content_of(home)
    report = target.adopt(home).report
    (left,) = report.left_out
    assert (left.part, left.where) == (store, str(home / store))
    assert left.why
    assert content_of(home) == before
    whole = brought_adoption(THREE).report
    for name in {"pulse_schedules", "pulse_runs", "agents", "relay_rules"} - {table}:
        assert report.after[name] == whole.after[name]
    if table is not None:
        assert report.after[table] == 0
    assert verify_sqlite(target.home.database_path) == []


def test_of_a_truncated_database_the_rest_comes(home: Path, target: Target) -> None:
    """What of it can be read comes, what cannot is told, and nothing is made up."""
    _cut(home / "pulse.db")
    report = target.adopt(home).report
    runs = report.after["pulse_runs"]
    assert 0 < runs < len(expected(THREE)["databases"]["pulse.db"]["tables"]["runs"]["rows"])
    assert {left.part for left in report.left_out} == {"pulse.db runs"}
    whole = brought(THREE).by_id("pulse_runs")
    for run_id, row in target.by_id("pulse_runs").items():
        assert row == whole[run_id]
    assert report.after["agents"] == 13


def _long_rows(path: Path, number: int) -> None:
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, created_at TEXT, output_summary TEXT)")
        for row in range(number):
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?)", (f"r{row}", f"t{row}", chr(65 + row) * 3000)
            )


def test_of_a_database_with_one_bad_row_all_others_come(tmp_path: Path) -> None:
    """Before it and behind it; the report names the row."""
    _long_rows(tmp_path / "pulse.db", 9)
    stored = (tmp_path / "pulse.db").read_bytes()
    # A page that a long text goes on in begins with the number of the next one: point it out of the file.
    page = next(at for at in range(0, len(stored), 1024) if stored[at + 4 : at + 1024] == b"E" * 1020)
    (tmp_path / "pulse.db").write_bytes(stored[:page] + b"\x7f\xff\xff\xff" + stored[page + 4 :])
    report = Report()
    with LegacyHome(tmp_path, report) as home:
        database = home.database("pulse.db")
        assert database is not None
        read = [row["id"] for row in database.rows("runs", "created_at, id")]
    assert read == [f"r{number}" for number in range(9) if number != 4]
    (left,) = report.left_out
    assert left.where == f"{tmp_path / 'pulse.db'}: runs, row 5"


def test_rows_behind_a_hole_in_the_table_itself_come(tmp_path: Path) -> None:
    """A page that holds rows is gone: those before it come, those behind it, and nothing is made up."""
    _long_rows(tmp_path / "pulse.db", 26)
    stored = bytearray((tmp_path / "pulse.db").read_bytes())
    # A leaf of the table begins with 0x0d; take the one that the eleventh row begins on.
    page = next(
        at
        for at in range(1024, len(stored), 1024)
        if stored[at] == 0x0D and b"K" * 100 in stored[at : at + 1024]
    )
    stored[page : page + 1024] = bytes(1024)
    (tmp_path / "pulse.db").write_bytes(stored)
    report = Report()
    with LegacyHome(tmp_path, report) as home:
        database = home.database("pulse.db")
        assert database is not None
        read = {row["id"] for row in database.rows("runs")}
    assert read == {f"r{number}" for number in range(26)} - {"r10"}
    assert [left.where for left in report.left_out] == [f"{tmp_path / 'pulse.db'}: runs, what follows row 10"]


def test_a_part_of_a_page_does_not_pass_for_zeros(tmp_path: Path) -> None:
    """SQLite would show its rows as full of NULL, without a word. The pages before it are read."""
    with closing(sqlite_driver().connect(str(tmp_path / "pulse.db"), isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 4096")
        connection.execute("CREATE TABLE runs (id TEXT, output_summary TEXT)")
        for number in range(300):
            connection.execute("INSERT INTO runs VALUES (?, ?)", (f"r{number}", "x" * 30))
    (tmp_path / "pulse.db").write_bytes((tmp_path / "pulse.db").read_bytes()[:-1000])
    report = Report()
    with LegacyHome(tmp_path, report) as home:
        database = home.database("pulse.db")
        assert database is not None
        read = list(database.rows("runs"))
    assert read == [{"id": f"r{number}", "output_summary": "x" * 30} for number in range(len(read))]
    assert 200 < len(read) < 300
    assert len(report.left_out) == 1


@pytest.mark.parametrize("broken", [17, None, "text", [], {"id": "x"}, {"id": "x", "cron": 5}])
def test_an_entry_that_is_no_schedule_is_left_out_alone(broken: object, home: Path, target: Target) -> None:
    """The thirteen others come; the report says which one did not."""
    path = home / "schedules.json"
    schedules = json.loads(path.read_text("utf-8"))
    schedules[3] = broken
    path.write_text(json.dumps(schedules), "utf-8")
    report = target.adopt(home).report
    assert report.after["pulse_schedules"] == 13
    (left,) = report.left_out
    assert left.where == f"{path}: entry 4"
    assert report.parts["schedules.json"].unreadable == 1


@pytest.mark.parametrize("content", [b"", b"[{", b"{}", b"[NaN]", b"\x00", b"[" * 100_000], ids=str)
def test_a_schedules_file_that_is_none_is_left_out(content: bytes, home: Path, target: Target) -> None:
    """Its runs come all the same, and keep which schedule they were of."""
    (home / "schedules.json").write_bytes(content)
    report = target.adopt(home).report
    assert (report.after["pulse_schedules"], report.after["pulse_runs"]) == (0, 74)
    assert [left.where for left in report.left_out] == [str(home / "schedules.json")]
    kept = target.rows("SELECT key FROM system_state WHERE key LIKE 'lineage:pulse_runs:%:schedule_id'")
    assert len(kept) == 74


def test_absent_empty_and_unreadable_are_three_things(tmp_path: Path) -> None:
    """Only what is there and cannot be read is reported."""
    (tmp_path / "empty.json").write_text("[]", "utf-8")
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    report = Report()
    with LegacyHome(tmp_path, report) as home:
        assert home.document("absent.json") is ABSENT
        assert home.document("empty.json") == []
        assert report.left_out == []
        assert home.document("folder.json") is UNREADABLE
        assert home.document("empty.json/below.json") is UNREADABLE
        assert home.document("pipe.json") is UNREADABLE
        assert home.database("absent.db") is None
    assert [left.part for left in report.left_out] == ["folder.json", "empty.json/below.json", "pipe.json"]


def test_bytes_that_are_not_utf8_do_not_cost_a_file(tmp_path: Path) -> None:
    """Node read them as U+FFFD; so does the import."""
    (tmp_path / "latin.json").write_bytes(b'\xef\xbb\xbf["caf\xe9"]')
    with LegacyHome(tmp_path, Report()) as home:
        assert home.document("latin.json") == ["caf\ufffd"]


def test_settings_that_cannot_be_read_stop_nothing(home: Path, target: Target) -> None:
    """They are reported; no setting is shown."""
    (home / "config.json").write_text("{", "utf-8")
    report = target.adopt(home).report
    assert [left.part for left in report.left_out] == ["config.json"]
    assert report.settings == {}
    assert report.after["pulse_runs"] == 74


def test_mailboxes_that_lie_elsewhere_are_told(home: Path, target: Target) -> None:
    """`relay.dataDir` could name any folder: a person has to bring it."""
    path = home / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings["relay"]["dataDir"] = "/mnt/relay"
    path.write_text(json.dumps(settings), "utf-8")
    report = target.adopt(home).report
    (left,) = report.left_out
    assert (left.part, left.where) == ("relay", "/mnt/relay")
