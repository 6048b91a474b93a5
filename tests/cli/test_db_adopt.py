"""`dorkos db adopt`, and `dorkos db migrate` in a home of DorkOS for Node."""

from __future__ import annotations

import json
from pathlib import Path

from dorkos.home import Home
from tests.cli.terminal import Done, call
from tests.db.legacy.adopt_kit import content_of, copy_of
from tests.db.legacy.relay_kit import FIXTURES


def _db(home: Path, *words: str) -> Done:
    return call("db", *words, environment={"DORK_HOME": str(home)})


def test_it_tells_what_came_part_by_part(tmp_path: Path) -> None:
    """As a table, with what a person has to know before the fleet goes on."""
    done = _db(tmp_path / "new", "adopt", str(FIXTURES / "home-three-databases"))
    assert done.code == 0
    (runs,) = (line for line in done.out.splitlines() if line.startswith("pulse.db runs"))
    assert runs.split() == ["pulse.db", "runs", "74", "74", "0", "7", "0"]
    assert "Kept aside:" in done.out
    assert "ATTENTION: 2 schedules name no time zone." in done.out
    assert "dorkos fleet resume" in done.out
    assert "fake-" not in done.out + done.err


def test_the_report_is_there_as_json(tmp_path: Path) -> None:
    """The second time nothing is added."""
    first = _db(tmp_path / "new", "adopt", str(FIXTURES / "home-wal"), "--json").json
    second = _db(tmp_path / "new", "adopt", str(FIXTURES / "home-wal"), "--json").json
    assert first["added"] > 300
    assert (second["added"], second["snapshot"], second["unreadable"]) == (0, None, [])
    (runs,) = (part for part in first["parts"] if part["part"] == "dork.db pulse_runs")
    assert runs["found"] == runs["added"] > 70
    (table,) = (table for table in first["tables"] if table["table"] == "pulse_runs")
    assert (table["before"], table["after"]) == (0, runs["found"])
    assert first["settings"]["server.port"] == 4299


def test_the_exit_code_tells_that_something_was_left_out(tmp_path: Path) -> None:
    """The rest came; the place and the reason are shown."""
    source = copy_of("home-three-databases", tmp_path)
    (source / "schedules.json").write_text("{", "utf-8")
    done = _db(tmp_path / "new", "adopt", str(source))
    assert done.code == 1
    assert f"Left out:\n  {source / 'schedules.json'}: not JSON" in done.out
    assert "added." in done.out


def test_where_nothing_could_be_read_nothing_is_said_to_have_come(tmp_path: Path) -> None:
    """It would look as if an earlier run had brought all of it."""
    source = tmp_path / "old"
    source.mkdir()
    (source / "dork.db").write_bytes(b"no database at all" * 100)
    done = _db(tmp_path / "new", "adopt", str(source))
    assert done.code == 1
    assert "there was nothing that could be read" in done.out
    again = [_db(tmp_path / "new", "adopt", str(FIXTURES / "home-wal")) for _ in range(2)]
    assert "everything that could be read was there already" in again[1].out


def test_a_data_directory_of_this_dorkos_is_no_source(tmp_path: Path) -> None:
    """Nothing would come, and the report would sound as if all had; it is told how such a one moves."""
    assert _db(tmp_path / "ours", "migrate").code == 0
    done = _db(tmp_path / "new", "adopt", str(tmp_path / "ours"), "--json")
    assert (done.code, done.json["code"]) == (2, "validation_failed")
    assert "export" in done.json["hint"]
    assert not (tmp_path / "new").exists()


def test_a_slip_in_the_name_leaves_no_trace(tmp_path: Path) -> None:
    """Exit code 3, and no data directory."""
    done = _db(tmp_path / "new", "adopt", str(tmp_path / "nowhere"), "--json")
    assert (done.code, done.json["code"]) == (3, "not_found")
    assert not (tmp_path / "new").exists()


def test_the_data_directory_itself_is_no_source(tmp_path: Path) -> None:
    """Exit code 2, and the hint names the command for that."""
    home = copy_of("home-node-0002", tmp_path)
    before = content_of(home)
    done = _db(home, "adopt", str(home))
    assert done.code == 2
    assert "dorkos db migrate" in done.err
    assert content_of(home) == before


def test_a_running_server_keeps_it_out(tmp_path: Path) -> None:
    """Exit code 6."""
    held = Home(tmp_path)
    held.lock()
    try:
        done = _db(tmp_path, "adopt", str(FIXTURES / "home-wal"), "--json")
    finally:
        held.unlock()
    assert (done.code, done.json["code"]) == (6, "home_locked")


def test_migrate_tells_by_its_exit_code_that_something_was_left_out(tmp_path: Path) -> None:
    """On trial and for good. Another `adopt` of the same home says that it is ours already."""
    home = copy_of("home-upgraded-by-server", tmp_path)
    (home / "schedules.json").write_text("{", "utf-8")
    assert _db(home, "migrate", "--dry-run").code == 1
    done = _db(home, "migrate")
    assert done.code == 1
    assert f"Left out: {home / 'schedules.json'}: not JSON" in done.out
    assert _db(home, "migrate").code == 0
    again = _db(home, "adopt", str(home), "--json").json
    assert again["code"] == "validation_failed"
    assert "of this DorkOS already" in again["hint"]
    assert "db migrate" not in again["hint"]


def test_migrate_takes_over_what_lies_in_the_home(tmp_path: Path) -> None:
    """After a rehearsal that changed nothing and said the same."""
    home = copy_of("home-upgraded-by-server", tmp_path)
    before = content_of(home)
    status = _db(home, "status", "--json")
    assert (status.code, status.json["code"]) == (7, "database_lineage")
    assert "dorkos db migrate" in status.json["hint"]
    rehearsed = _db(home, "migrate", "--dry-run", "--json").json
    assert content_of(home) == before
    told = _db(home, "migrate", "--dry-run")
    assert "Brought over from DorkOS for Node: 14 agents" in told.out
    assert "The database was not changed." in told.out
    done = _db(home, "migrate", "--json").json
    assert rehearsed["dryRun"]
    assert json.dumps(rehearsed["adopted"]) == json.dumps(done["adopted"])
    assert Path(done["snapshot"]).name.startswith("lineage-")
    assert _db(home, "status", "--json").json["pending"] == []
    assert _db(home, "verify", "--json").json == {"ok": True, "problems": []}
    assert "nothing was changed" in _db(home, "migrate").out
