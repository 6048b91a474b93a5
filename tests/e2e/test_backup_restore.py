"""Going back to a backup that was made while messages poured in."""

from __future__ import annotations

import json
import os
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dorkos.db.probe import connect_read_only
from dorkos.db.retention import CopyKind, copies, copy_names
from dorkos.db.verify import verify_sqlite
from dorkos.testing import empty_postgres
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

_MAILBOX = "relay.human.restore"
_SENDERS = 4


def _db(home: Path, *words: str) -> Done:
    return call("db", *words, "--json", environment={"DORK_HOME": str(home)})


class _Load:
    """Several senders that publish until they are told to stop."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self._sent = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(_SENDERS)]
        self.ids: list[str] = []

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self._sent.acquire(timeout=60)

    def _send(self, sender: int) -> None:
        with self._server.client() as client:
            while not self._stop.is_set():
                body = {"subject": _MAILBOX, "payload": {"sender": sender}}
                answer = client.post("/api/relay/messages", json=body)
                assert answer.status_code < 300, answer.text
                self.ids.append(answer.json()["messageId"])
                self._sent.release()


# A restore begins a new history, on hold, with the rules read anew.
_NEW_EACH_TIME = ("epoch", "fleet", "relay:rules")


def _contents(path: Path) -> dict[str, list[Any]]:
    """Every row of every table, without what a restore is there to change."""
    with closing(connect_read_only(path, immutable=True)) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not name.startswith("sqlite_")
        ]
        rows = {
            name: sorted(connection.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for name in tables
        }
    rows["system_state"] = [row for row in rows["system_state"] if row[0] not in _NEW_EACH_TIME]
    rows["events"] = [row for row in rows["events"] if row[1] != "system.database.restored"]
    return rows


def _first(client: httpx.Client, cursor: str | None) -> tuple[str, dict[str, Any]]:
    """How the stream of events greets somebody who was at `cursor`."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    with client.stream("GET", "/api/events", headers=headers) as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))
    raise AssertionError("the stream ended without a word")


def test_a_restore_brings_back_the_very_state_of_the_backup(tmp_path: Path) -> None:
    """Made under load, restored when more had happened; on hold at first, and at work when that is lifted."""
    home = tmp_path / "my hömé"
    file = tmp_path / "the backup.db"
    with ServerProcess(home, boundary=tmp_path) as server:
        with server.client() as client:
            assert client.post("/api/relay/endpoints", json={"subject": _MAILBOX}).status_code < 300
            body = {"name": "hourly", "cron": "0 * * * *", "prompt": "go", "command": ["true"]}
            made = client.post("/api/pulse/schedules", json={**body, "cwd": str(tmp_path)})
            assert made.status_code < 300, made.text
        with _Load(server) as load:
            load.wait_for(60)
            before = list(load.ids)
            assert _db(home, "backup", str(file)).code == 0
            load.wait_for(60)
        with server.client() as client:
            cursor = client.get("/api/status").json()["eventCursor"]
            assert _first(client, cursor)[0] == "hello"
            client.delete(f"/api/pulse/schedules/{made.json()['id']}")
    assert verify_sqlite(file) == []

    done = _db(home, "restore", str(file), "--yes")
    assert done.code == 0, done.out
    waiting = done.json["waiting"]["messages"]
    assert len(before) <= waiting <= len(load.ids)
    back, backup = _contents(home / "dork.db"), _contents(file)
    # Cursors of schedules begin anew; all else is as it was.
    assert {name: rows for name, rows in back.items() if name != "pulse_schedules"} == {
        name: rows for name, rows in backup.items() if name != "pulse_schedules"
    }
    assert [row[0] for row in back["pulse_schedules"]] == [made.json()["id"]]
    # What was replaced holds everything that was ever answered.
    with closing(connect_read_only(Path(done.json["kept"]), immutable=True)) as kept:
        stored = {row[0] for row in kept.execute("SELECT id FROM relay_messages")}
    assert set(load.ids) <= stored

    with server, server.client() as client:
        assert client.get("/api/ready").status_code == 200
        assert _first(client, cursor)[0] == "reset"
        status = client.get("/api/status").json()
        assert status["relay"]["messagesPending"] == waiting
        fleet = client.get("/api/system/fleet").json()
        assert fleet["mode"] == "hold"
        assert file.name in fleet["reason"]
        claim = f"/api/relay/endpoints/{_MAILBOX}/claim"
        held = client.post(claim, json={})
        assert held.json()["code"] == "fleet_on_hold", held.text
        lifted = client.post("/api/system/fleet", json={"mode": "running"})
        assert lifted.status_code == 200, lifted.text
        taken = client.post(claim, json={})
        assert taken.status_code < 300, taken.text
        assert len(taken.json()["deliveries"]) == 1
        trigger = client.post(f"/api/pulse/schedules/{made.json()['id']}/trigger")
        assert trigger.status_code < 300, trigger.text


def test_a_server_backs_up_by_itself_and_says_so(tmp_path: Path) -> None:
    """Soon after its start, and no less ready for it; the event names the file, and status shows it."""
    home = tmp_path / "home"
    with ServerProcess(home, boundary=tmp_path) as server, server.client() as client:
        with client.stream("GET", "/api/events") as stream:
            assert next(line for line in stream.iter_lines() if line == "event: system.backup.rehearsed")
        backups = client.get("/api/status").json()["backups"]
        assert client.get("/api/ready").status_code == 200
        shown = call("status", environment={"DORK_HOME": str(home)}).out
    (copy,) = copies(home / "backups", CopyKind.DAILY)
    assert backups["newest"] == copy.path.name
    assert backups["madeBy"] == "dorkos"
    assert backups["problem"] is None
    assert backups["rehearsedAt"] is not None
    assert verify_sqlite(copy.path) == []
    assert "restored for trial" in shown


@pytest.mark.parametrize("kind", ["daily", "none"])
def test_a_failed_backup_leaves_the_server_ready(tmp_path: Path, kind: str) -> None:
    """It is shown where one looks for trouble, and work goes on."""
    home = tmp_path / "home"
    assert _db(home, "migrate").code == 0
    (home / "backups").write_text("a file where the folder should be", encoding="utf-8")
    environment = {"DORKOS_BACKUP_EVERY_HOURS": "0" if kind == "none" else "24"}
    with ServerProcess(home, boundary=tmp_path, environment=environment) as server, server.client() as client:
        if kind == "daily":
            with client.stream("GET", "/api/events") as stream:
                assert next(line for line in stream.iter_lines() if line == "event: system.backup.failed")
        backups = client.get("/api/status").json()["backups"]
        shown = call("status", environment={"DORK_HOME": str(home)}).out
        assert client.get("/api/ready").status_code == 200
    if kind == "daily":
        assert backups["problem"]
        assert "FAILED" in shown
    else:
        assert backups["problem"] is None
        assert "OFF" in shown


def test_a_database_that_will_not_open_is_restored_from_the_daily_backup(tmp_path: Path) -> None:
    """The story of the morning after: damaged at night, and one command brings yesterday back."""
    home = tmp_path / "home"
    with ServerProcess(home, boundary=tmp_path) as server, server.client() as client:
        assert client.post("/api/relay/endpoints", json={"subject": _MAILBOX}).status_code < 300
    made = Path(_db(home, "backup").json["file"])
    yesterday = datetime.now(UTC) - timedelta(days=1)
    daily = made.rename(made.with_name(next(copy_names(CopyKind.DAILY, yesterday, "0004_full_schema"))))
    database = home / "dork.db"
    os.truncate(database, database.stat().st_size // 2)
    with pytest.raises(RuntimeError, match="database_corrupt"):
        server.start()
    assert _db(home, "restore", str(daily), "--yes").code == 0
    with server, server.client() as client:
        found = client.get("/api/relay/endpoints").json()
    assert _MAILBOX in json.dumps(found)
    (kept,) = (home / "backups").glob("replaced-*")
    assert (kept / "dork.db").stat().st_size > 0


def test_a_postgresql_is_said_to_be_backed_up_by_its_own_tools(tmp_path: Path) -> None:
    """Rather than to have no backups: what pg_dump does is not known here. No file is made."""
    with empty_postgres() as url:
        environment = {"DORKOS_DATABASE_URL": url}
        with ServerProcess(tmp_path / "home", boundary=tmp_path, environment=environment) as server:
            with server.client() as client:
                backups = client.get("/api/status").json()["backups"]
            shown = call("status", environment={"DORK_HOME": str(server.home)}).out
        assert (backups["madeBy"], backups["newest"], backups["problem"]) == ("pg_dump", None, None)
        assert "pg_dump" in shown
        assert not (server.home / "backups").exists()
