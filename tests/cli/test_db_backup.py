"""`dorkos db backup` and `dorkos db migrate --dry-run`."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from pathlib import Path

from dorkos.db.probe import connect_read_only
from dorkos.db.verify import verify_sqlite
from dorkos.testing import empty_postgres
from tests.cli.conftest import Dorkos
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

_MAILBOX = "relay.human.backup"
_PAIRS = {
    "the mailbox counted what it holds": (
        "SELECT position, pending_count FROM relay_endpoints WHERE subject = 'relay.human.backup'",
        "SELECT max(position), count(*) FROM relay_index",
    ),
    "every message has its delivery": (
        "SELECT count(*) FROM relay_messages",
        "SELECT count(DISTINCT message_id) FROM relay_index",
    ),
    "every message has its event": (
        "SELECT count(*) FROM relay_messages",
        "SELECT count(DISTINCT entity_id) FROM events WHERE kind = 'relay.message.published'",
    ),
}


def _db(home: Path, *words: str) -> Done:
    return call("db", *words, environment={"DORK_HOME": str(home)})


class _Load:
    """Sends messages from a thread of its own, one after the other, until it is told to stop."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._stop = threading.Event()
        self._sent = threading.Semaphore(0)
        self.answered = 0
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> _Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def wait_for(self, number: int) -> None:
        """Until so many more were accepted."""
        for _ in range(number):
            assert self._sent.acquire(timeout=60)

    def _send(self) -> None:
        with self._server.client() as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                body = {"subject": _MAILBOX, "payload": {"number": number}}
                assert client.post("/api/relay/messages", json=body).status_code < 300
                self.answered += 1
                self._sent.release()


def test_a_backup_under_load_shows_one_moment(tmp_path: Path) -> None:
    """While a server writes: every check passes, and what is committed together is there together."""
    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        with server.client() as client:
            assert client.post("/api/relay/endpoints", json={"subject": _MAILBOX}).status_code < 300
        with _Load(server) as load:
            for number in range(3):
                load.wait_for(10)
                before = load.answered
                file = tmp_path / f"copy-{number}.db"
                made = _db(server.home, "backup", str(file), "--json")
                after = load.answered
                assert (made.code, made.json["file"]) == (0, str(file)), made.out
                assert verify_sqlite(file) == []
                with closing(connect_read_only(file, immutable=True)) as copy:
                    for fact, (one, other) in _PAIRS.items():
                        assert copy.execute(one).fetchall() == copy.execute(other).fetchall(), fact
                    (held,) = copy.execute("SELECT count(*) FROM relay_messages").fetchone()
                # All that was answered before it began, and at most one more than was answered at its end.
                assert before <= held <= after + 1
        assert _db(server.home, "verify", "--json").json["ok"]


def test_a_backup_lies_in_the_backups_folder_unless_told_otherwise(home: Path) -> None:
    """The answer names the file, its size, its last migration and how many rows it has."""
    _db(home, "migrate")
    as_json, as_text = _db(home, "backup", "--json"), _db(home, "backup")
    file = Path(as_json.json["file"])
    assert file.parent == home / "backups"
    assert as_json.json["sizeBytes"] == file.stat().st_size
    assert as_json.json["migration"] in file.name
    assert as_json.json["rows"] > 0
    assert "read back" in as_text.out
    assert len(list(file.parent.iterdir())) == 2


def test_a_relative_file_lies_where_the_person_stands(home: Path, dorkos: Dorkos) -> None:
    """Not in the data directory; and a running server is no obstacle."""
    file = Path.cwd() / "does-not-exist" / "x.db"
    done = dorkos("db", "backup", "does-not-exist/x.db", "--json")
    assert (done.code, done.json["code"]) == (2, "validation_failed")
    assert str(file.parent) in done.json["error"]


def test_a_backup_that_cannot_be_is_refused(home: Path) -> None:
    """Without a database, with a name that is taken, with no name at all."""
    assert _db(home, "backup", "--json").json["code"] == "not_found"
    assert not home.exists()
    _db(home, "migrate")
    taken = _db(home, "backup", str(home / "dork.db"), "--json")
    assert (taken.code, taken.json["code"]) == (2, "validation_failed")
    assert _db(home, "backup", "", "--json").json["code"] == "usage"
    assert _db(home, "backup", "~nobody-has-this-name/x", "--json").json["code"] == "usage"


def test_a_dry_run_says_what_would_happen(home: Path) -> None:
    """Row counts as JSON and in words; the directory is not even made."""
    found, told = _db(home, "migrate", "--dry-run", "--json").json, _db(home, "migrate", "--dry-run").out
    assert found["dryRun"] is True
    assert found["snapshot"] is None
    assert found["applied"][0]["id"] == "0000_initial"
    assert {"table": "agents", "before": None, "after": 0} in found["applied"][0]["rows"]
    assert "agents: a new table with 0 rows" in told
    assert "was not changed" in told
    assert not home.exists()
    _db(home, "migrate")
    assert "nothing to migrate" in _db(home, "migrate", "--dry-run").out


def test_a_dry_run_works_beside_a_server(dorkos: Dorkos) -> None:
    """The lock of the data directory is for who changes it."""
    assert dorkos("db", "migrate", "--dry-run", "--json").json["applied"] == []


def test_postgresql_is_told_its_own_tools(home: Path) -> None:
    """Exit code 2 and the tool's name; the password of the URL is not repeated."""
    with empty_postgres() as url:
        for words in (("backup",), ("migrate", "--dry-run")):
            done = _db(home, *words, "--database", url, "--json")
            assert (done.code, done.json["code"]) == (2, "usage")
            assert "pg_dump" in done.json["hint"]
            assert url not in done.out
