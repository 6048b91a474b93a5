"""`dorkos db adopt` as a whole: what it promises about the source, the target, and being run again."""

from __future__ import annotations

import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos import storage
from dorkos.clock import ManualClock
from dorkos.db.connections import migrating_postgres
from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.adopt import adopt_into_sqlite
from dorkos.db.legacy.collecting import Rules
from dorkos.db.legacy.write import ADOPT_LOCK
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_postgres, verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from dorkos.testing import empty_postgres
from tests.db.legacy.adopt_kit import (
    NOW,
    Target,
    brought,
    brought_adoption,
    content_of,
    copy_of,
    dump_of,
    new_target,
    sums,
)
from tests.db.legacy.relay_kit import FIXTURES, HOMES, expected


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A fresh data directory."""
    return new_target(tmp_path / "a target")


@pytest.mark.parametrize("home", HOMES)
def test_the_source_keeps_every_byte_and_gets_no_file(home: str, tmp_path: Path, target: Target) -> None:
    """Not even a log that a crash left is merged into it; nothing is written beside it."""
    source = copy_of(home, tmp_path)
    before = content_of(source)
    target.adopt(source)
    assert content_of(source) == before
    digests = {f"{home}/{name}": hashlib.sha256(stored).hexdigest() for name, stored in before.items()}
    assert digests == {name: digest for name, digest in sums().items() if name.startswith(f"{home}/")}


@pytest.mark.parametrize("home", HOMES)
def test_running_it_again_adds_nothing_and_changes_nothing(home: str, target: Target) -> None:
    """Equal row for row, though the clock went on; and the report says that all was there."""
    first = target.adopt(FIXTURES / home)
    dump = target.dump()
    second = storage.adopt(target.home, FIXTURES / home, None, ManualClock(), lambda _: None)
    assert first.added > 300
    assert (second.added, second.snapshot) == (0, None)
    assert target.dump() == dump
    for part, count in second.report.parts.items():
        assert count.added == 0
        assert count.already >= first.report.parts[part].added
    assert second.report.before == second.report.after == first.report.after


@pytest.mark.parametrize("home", HOMES)
def test_everything_that_was_found_came(home: str) -> None:
    """Nothing of the fixtures is unreadable, and what the report counts is what the tables hold."""
    target, report = brought(home), brought_adoption(home).report
    assert report.left_out == []
    for table, count in report.after.items():
        stored = target.rows(f"SELECT count(*) AS number FROM {table}")[0]["number"]
        assert stored == count
    tables = [content["tables"] for content in expected(home)["databases"].values()]
    for ours, theirs in (("agents", ("agents",)), ("pulse_runs", ("pulse_runs", "runs"))):
        found = sum(each[name]["row_count"] for each in tables for name in theirs if name in each)
        assert report.after[ours] - report.before[ours] == found
    assert verify_sqlite(target.home.database_path) == []


@pytest.mark.parametrize("home", HOMES)
def test_nothing_starts_before_a_person_says_so(home: str) -> None:
    """The fleet is on hold, with the reason; no run is queued or running."""
    target = brought(home)
    (fleet,) = target.rows("SELECT value FROM system_state WHERE key = 'fleet'")
    assert json.loads(fleet["value"])["mode"] == "hold"
    assert "DorkOS for Node" in json.loads(fleet["value"])["reason"]
    assert target.rows("SELECT id FROM pulse_runs WHERE status IN ('queued', 'running')") == []


@pytest.mark.parametrize("home", HOMES)
def test_no_secret_is_in_the_report(home: str) -> None:
    """Every secret of the fixtures says that it is a fake."""
    assert "fake-" not in json.dumps(brought_adoption(home).report.answer(), ensure_ascii=False)


def test_what_the_old_settings_were_is_told(target: Target) -> None:
    """Schedules without a zone would fire at other instants where the setting is not taken along."""
    report = target.adopt(FIXTURES / "home-three-databases").report
    assert report.settings["scheduler.timezone"] == "Europe/Berlin"
    assert "tunnel.authtoken" not in report.settings
    (warning,) = (note for note in report.notes if note.startswith("ATTENTION"))
    assert "2 schedules name no time zone" in warning
    assert not target.home.config_path.exists()


def test_with_the_same_zone_set_there_is_nothing_to_warn_of(target: Target) -> None:
    """The instants are the same then."""
    target.home.config_path.write_text('[scheduler]\ntimezone = "Europe/Berlin"\n', "utf-8")
    report = target.adopt(FIXTURES / "home-three-databases").report
    assert not [note for note in report.notes if note.startswith("ATTENTION")]


def test_a_target_that_holds_something_is_copied_first(target: Target) -> None:
    """The snapshot shows the target as it was before."""
    first = target.adopt(FIXTURES / "home-node-0002")
    second = target.adopt(FIXTURES / "home-three-databases")
    assert first.snapshot is None
    assert second.snapshot is not None
    assert Target(Home(target.home.path)).dump() != dump_of(second.snapshot)
    counted = {table: len(rows) for table, rows in dump_of(second.snapshot).items()}
    assert counted["pulse_runs"] == first.report.after["pulse_runs"]


def test_a_failed_snapshot_leaves_the_target_as_it_was(target: Target) -> None:
    """All was written already by then, but not committed."""
    target.adopt(FIXTURES / "home-node-0002")
    dump = target.dump()
    target.home.backups_path.write_text("no folder", "utf-8")
    with pytest.raises(DorkError) as refusal:
        target.adopt(FIXTURES / "home-three-databases")
    assert refusal.value.code is ErrorCode.SNAPSHOT_FAILED
    assert target.dump() == dump


def test_two_homes_come_together(target: Target) -> None:
    """What both hold under one name is there once: their common mailboxes, with the messages of both."""
    target.adopt(FIXTURES / "home-node-0002")
    target.adopt(FIXTURES / "home-three-databases")
    runs = brought_adoption("home-node-0002").report.after["pulse_runs"]
    runs += brought_adoption("home-three-databases").report.after["pulse_runs"]
    assert len(target.rows("SELECT id FROM pulse_runs")) == runs
    for endpoint in target.rows("SELECT * FROM relay_endpoints"):
        lying = target.rows(
            "SELECT i.position, i.status, m.bytes FROM relay_index i JOIN relay_messages m"
            " ON m.id = i.message_id WHERE endpoint_id = ? ORDER BY i.position",
            endpoint["id"],
        )
        assert [row["position"] for row in lying] == list(range(1, len(lying) + 1))
        waiting = [row["bytes"] for row in lying if row["status"] == "pending"]
        assert (endpoint["position"], endpoint["pending_count"], endpoint["pending_bytes"]) == (
            len(lying),
            len(waiting),
            sum(waiting),
        )
    assert verify_sqlite(target.home.database_path) == []


def test_an_agent_whose_folder_has_another_agent_here_is_kept_aside(target: Target) -> None:
    """One folder is one agent: the one that is there stands, and the other one is not lost."""
    agent = brought("home-node-0002").rows("SELECT * FROM agents ORDER BY id LIMIT 1")[0]
    with sqlite_driver().connect(str(target.home.database_path)) as connection:
        connection.execute(
            "INSERT INTO agents (id, name, runtime, project_path, registered_at, updated_at)"
            " VALUES ('01KJ0000000000000000000000', 'mine', 'other', ?, ?, ?)",
            (agent["project_path"], agent["registered_at"], agent["updated_at"]),
        )
    report = target.adopt(FIXTURES / "home-node-0002").report
    stored = target.by_id("agents")
    assert agent["id"] not in stored
    assert stored["01KJ0000000000000000000000"]["name"] == "mine"
    assert json.loads(target.kept(f"agents:{agent['id']}:row") or "")["name"] == agent["name"]
    assert agent["id"] in {value.key for value in report.values}
    assert target.rows("SELECT id FROM relay_endpoints WHERE agent_id = ?", agent["id"]) == []


def test_an_agent_that_is_there_is_not_kept_aside_for_one_of_another_machine(target: Target) -> None:
    """On another machine another agent may lie at the same path."""
    target.adopt(FIXTURES / "home-node-0002")
    agents = target.rows("SELECT * FROM agents ORDER BY id")
    with sqlite_driver().connect(str(target.home.database_path)) as connection:
        connection.executemany(
            "INSERT INTO agents (id, name, runtime, project_path, host, registered_at, updated_at)"
            " VALUES (?, 'elsewhere', 'other', ?, 'elsewhere', ?, ?)",
            [
                (f"7ZZ{number:023}", row["project_path"], row["registered_at"], row["updated_at"])
                for number, row in enumerate(agents)
            ],
        )
    again = target.adopt(FIXTURES / "home-node-0002")
    assert (again.added, len(target.rows("SELECT id FROM agents"))) == (0, 2 * len(agents))
    assert target.rows("SELECT key FROM system_state WHERE key LIKE 'lineage:agents:%:row'") == []


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """A home in which both generations know the same agent, each by another name and path."""
    source = copy_of("home-upgraded-by-server", tmp_path)
    with sqlite_driver().connect(str(source / "dork.db")) as connection:
        connection.execute(
            "INSERT INTO agents (id, name, runtime, project_path, namespace, registered_at, updated_at)"
            " VALUES ('01HZZZZZZZLEGACYTOOL000001', 'newer', 'codex', '/moved', 'n', ?, ?)",
            ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.000Z"),
        )
    return source


def test_a_folder_is_written_as_it_is_here(mixture: Path, target: Target) -> None:
    """Without a slash at its end, by which nobody would find it again; what stood there is kept."""
    with sqlite_driver().connect(str(mixture / "dork.db")) as connection:
        connection.execute("UPDATE agents SET project_path = '/srv//moved/' WHERE project_path = '/moved'")
    target.adopt(mixture)
    assert target.by_id("agents")["01HZZZZZZZLEGACYTOOL000001"]["project_path"] == "/srv/moved"
    assert target.kept("agents:01HZZZZZZZLEGACYTOOL000001:project_path") == "/srv//moved/"


def test_of_two_that_tell_of_the_same_agent_the_newer_stands(mixture: Path, target: Target) -> None:
    """Every value in which the older one differs is kept."""
    report = target.adopt(mixture).report
    agent = target.by_id("agents")["01HZZZZZZZLEGACYTOOL000001"]
    assert (agent["name"], agent["project_path"]) == ("newer", "/moved")
    key = "mesh/mesh.db/agents:01HZZZZZZZLEGACYTOOL000001"
    assert target.kept(f"{key}:name") == "legacy-tool"
    (older,) = (
        row
        for row in expected("home-upgraded-by-server")["databases"]["mesh/mesh.db"]["tables"]["agents"][
            "rows"
        ]
        if row["id"] == agent["id"]
    )
    assert target.kept(f"{key}:project_path") == older["project_path"]
    assert json.loads(target.kept(f"{key}:capabilities_json") or "") == ["legacy"]
    assert report.parts["mesh/mesh.db agents"].already == 1


def test_a_source_that_is_in_use_is_told(target: Target, tmp_path: Path) -> None:
    """What came after it was read is not here, and a person has to know."""
    source = copy_of("home-three-databases", tmp_path)
    assert not any("was written after it was read" in note for note in target.adopt(source).report.notes)

    def write_meanwhile(_cron: str, _zone: str | None) -> None:
        (source / "schedules.json").write_text("[]", "utf-8")

    report = adopt_into_sqlite(
        source,
        target.home.database_path,
        backups=target.home.backups_path,
        clock=ManualClock(),
        rules=Rules(write_meanwhile, None),
        say=lambda _: None,
    ).report
    (note,) = (note for note in report.notes if "was written after it was read" in note)
    assert str(source / "schedules.json") in note


def test_into_postgresql_the_same_comes(tmp_path: Path) -> None:
    """Row for row what comes into SQLite, and nothing when it is run again."""
    name = "home-upgraded-by-server"
    place = Home(tmp_path / "place")
    with empty_postgres() as url:
        adoption = storage.adopt(place, FIXTURES / name, url, ManualClock(NOW), lambda _: None)
        again = storage.adopt(place, FIXTURES / name, url, ManualClock(), lambda _: None)
        assert (adoption.added, again.added) == (brought_adoption(name).added, 0)
        assert not place.database_path.exists()
        assert verify_postgres(url) == []
        with migrating_postgres(url) as connection, connection.begin():
            stored = _typed_dump(connection)
    engine = sa.create_engine(f"sqlite:///{brought(name).home.database_path}", module=sqlite_driver())
    with engine.connect() as connection:
        assert stored == _typed_dump(connection)
    engine.dispose()


def test_two_that_write_into_one_postgresql_take_turns(tmp_path: Path) -> None:
    """Each sees what the other one brought, so that a later run finds nothing to add."""
    with empty_postgres() as url, ThreadPoolExecutor() as pool:
        storage.migrate(Home(tmp_path / "place"), url, ManualClock(NOW), lambda _: None)
        with migrating_postgres(url) as holder, holder.begin():
            holder.execute(sa.select(sa.func.pg_advisory_xact_lock(ADOPT_LOCK)))
            adopting = pool.submit(
                storage.adopt,
                Home(tmp_path / "place"),
                FIXTURES / "home-wal",
                url,
                ManualClock(NOW),
                lambda _: None,
            )
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not holder.exec_driver_sql(waiting).scalar_one():
                assert not adopting.done()
        assert adopting.result(timeout=60).added > 0


def _typed_dump(connection: sa.Connection) -> dict[str, list[str]]:
    skipped = ("schema_ledger", "system_state")
    dump = {
        table.name: sorted(repr(tuple(row)) for row in connection.execute(sa.select(table)))
        for table in metadata.sorted_tables
        if table.name not in skipped
    }
    state = metadata.tables["system_state"]
    kept = sa.select(state).where(state.c.key.like("lineage:%"))
    return {**dump, "kept": sorted(repr(tuple(row)) for row in connection.execute(kept))}


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda folder: folder / "nowhere", ErrorCode.NOT_FOUND),
        (lambda folder: folder, ErrorCode.NOT_FOUND),
        (lambda folder: Path(shutil.copy(FIXTURES / "README.md", folder)), ErrorCode.NOT_FOUND),
    ],
    ids=["nothing there", "an empty directory", "a file"],
)
def test_a_source_that_holds_nothing_is_refused(make: object, code: ErrorCode, tmp_path: Path) -> None:
    """Before the data directory is even made."""
    folder = tmp_path / "source"
    folder.mkdir()
    assert callable(make)
    with pytest.raises(DorkError) as refusal:
        Target(Home(tmp_path / "never")).adopt(make(folder))
    assert refusal.value.code is code
    assert not (tmp_path / "never").exists()


def test_the_data_directory_itself_is_refused(target: Target, tmp_path: Path) -> None:
    """It is taken over in place, which the hint says; unless its database is one of ours already."""
    old = Target(Home(copy_of("home-wal", tmp_path)))
    for mine, advised in ((old, True), (target, False)):
        with pytest.raises(DorkError) as refusal:
            mine.adopt(mine.home.path / ".." / mine.home.path.name)
        assert refusal.value.code is ErrorCode.VALIDATION_FAILED
        assert ("dorkos db migrate" in str(refusal.value.hint)) is advised


def test_a_data_directory_within_the_source_is_refused(tmp_path: Path) -> None:
    """The source would be written."""
    source = copy_of("home-node-0002", tmp_path)
    before = content_of(source)
    with pytest.raises(DorkError) as refusal:
        Target(Home(source / "relay" / "new")).adopt(source)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert content_of(source) == before
    assert not (source / "relay" / "new").exists()


def test_a_running_server_keeps_it_out(target: Target) -> None:
    """The lock of the target's directory is held by it."""
    dump = target.dump()
    other = Home(target.home.path)
    other.lock()
    try:
        with pytest.raises(DorkError) as refusal:
            target.adopt(FIXTURES / "home-wal")
    finally:
        other.unlock()
    assert refusal.value.code is ErrorCode.HOME_LOCKED
    assert target.dump() == dump


def test_a_database_of_ours_in_the_source_is_not_read(target: Target) -> None:
    """Its tables have the same names; it is no part of the lineage any more."""
    source = Path(
        shutil.copytree(brought("home-three-databases").home.path, target.home.path.parent / "ours")
    )
    shutil.copy(FIXTURES / "home-three-databases" / "schedules.json", source)
    report = target.adopt(source).report
    assert report.after["pulse_schedules"] == 14
    assert report.after["pulse_runs"] == 0
    assert any("is of this DorkOS already" in note for note in report.notes)


def test_the_fixtures_are_as_they_were_made() -> None:
    """Whoever opens one of them in place changes it, and every test after that; ignore rules drop some."""
    found = {
        path: hashlib.sha256(stored).hexdigest()
        for path, stored in content_of(FIXTURES).items()
        if path not in ("SHA256SUMS", "README.md")
    }
    assert found == {path: digest for path, digest in sums().items() if path != "README.md"}
