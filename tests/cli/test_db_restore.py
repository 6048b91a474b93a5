"""`dorkos db restore` and `dorkos db rehearse`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dorkos.db.verify import verify_sqlite
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess


def _db(home: Path, *words: str, **environment: str) -> Done:
    return call("db", *words, environment={"DORK_HOME": str(home), **environment})


def _files(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


@pytest.fixture
def backup(home: Path) -> Path:
    """A backup of a new database."""
    assert _db(home, "migrate").code == 0
    return Path(_db(home, "backup", "--json").json["file"])


def test_it_says_what_came_back_and_where_the_old_one_is(home: Path, backup: Path) -> None:
    """And that nothing starts before a person says so."""
    done = _db(home, "restore", str(backup), "--yes", "--json")
    assert done.code == 0, done.out
    answer = done.json
    assert answer["restored"]
    assert Path(answer["kept"]).parent == home / "backups"
    assert verify_sqlite(Path(answer["kept"])) == []
    assert answer["file"] == str(backup)
    assert answer["rows"] > 0
    assert answer["migrated"] == []
    assert answer["waiting"] == {"runs": 0, "messages": 0}
    assert answer["replaces"]["problem"] is None
    as_text = _db(home, "restore", str(backup), "--yes").out
    assert "replaced-" in as_text
    assert "dorkos fleet resume" in as_text
    assert _db(home, "verify", "--json").json["ok"]


def test_without_a_terminal_and_without_yes_it_is_refused(home: Path, backup: Path) -> None:
    """A script that forgot it must not be taken for somebody who agreed."""
    before = _files(home)
    done = _db(home, "restore", str(backup), "--json")
    assert (done.code, done.json["code"]) == (2, "usage")
    assert "--yes" in done.json["hint"]
    assert _files(home) == before


def _on_a_terminal(home: Path, backup: Path, answer: str) -> tuple[int, str]:
    """Call it as a person does; its exit code and all that the terminal shows."""
    ours, theirs = pty.openpty()
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DORK")},
        "DORK_HOME": str(home),
        "COLUMNS": "200",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "dorkos", "db", "restore", str(backup)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux tells the end of a terminal so.
                break
            if not piece:
                break
            shown += piece
            if b"[y/N]" in shown and answer:
                os.write(ours, answer.encode())
                answer = ""
        process.wait(timeout=60)
    os.close(ours)
    return process.returncode, shown.decode()


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_on_a_terminal_it_asks(home: Path, backup: Path, answer: str, code: int) -> None:
    """It shows what is there and what would be; whatever is no yes changes nothing."""
    before = _files(home)
    ended, shown = _on_a_terminal(home, backup, answer)
    assert ended == code
    assert "now:" in shown
    assert "then:" in shown
    assert str(backup) in shown
    if code:
        assert "Nothing was changed" in shown
        after = _files(home)
        after.pop(str(home / "lock"), None)
        before.pop(str(home / "lock"), None)
        assert after == before
    else:
        assert "replaced-" in shown


def test_a_running_server_keeps_its_database(home: Path, backup: Path, tmp_path: Path) -> None:
    """It is refused as long as one holds the directory; rehearsing is not."""
    with ServerProcess(home, boundary=tmp_path) as server:
        refused = _db(home, "restore", str(backup), "--yes", "--json")
        rehearsed = _db(home, "rehearse", "--json")
        with server.client() as client:
            assert client.get("/api/ready").status_code == 200
    assert (refused.code, refused.json["code"]) == (6, "home_locked")
    assert "would be lost" in refused.json["hint"]
    assert rehearsed.json["ok"]
    assert not rehearsed.json["recorded"]
    assert not list((home / "backups").glob("replaced-*"))


def test_two_at_once_are_one_after_the_other(home: Path, backup: Path) -> None:
    """Of processes that restore together each succeeds or is refused, and the database is sound."""
    command = [sys.executable, "-m", "dorkos", "db", "restore", str(backup), "--yes"]
    environment = {**os.environ, "DORK_HOME": str(home)}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    codes = []
    for process in processes:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert set(codes) <= {0, 6}
    assert 0 in codes
    assert len(list((home / "backups").glob("replaced-*"))) == codes.count(0)
    assert verify_sqlite(home / "dork.db") == []
    assert not (home / ".restoring").exists()


@pytest.mark.parametrize("words", [("restore", "FILE", "--yes"), ("rehearse",)])
def test_postgresql_is_restored_by_its_own_tools(home: Path, backup: Path, words: tuple[str, ...]) -> None:
    """Whether it is named by hand or by the settings; the advice names the tool."""
    given = [str(backup) if word == "FILE" else word for word in words]
    url = "postgresql://ada@localhost/dorkos"
    for done in (
        _db(home, *given, "--json", "--database", url),
        _db(home, *given, "--json", DORKOS_DATABASE_URL=url),
    ):
        assert (done.code, done.json["code"]) == (2, "usage")
        assert "pg_" in done.json["hint"]


def test_a_slip_in_the_name_makes_no_directory(home: Path, tmp_path: Path) -> None:
    """Nor does an empty argument."""
    for words in (("restore", str(tmp_path / "none.db"), "--yes"), ("restore", "", "--yes"), ("rehearse",)):
        assert _db(home, *words, "--json").code in (2, 3)
    assert not home.exists()


def test_it_fills_a_new_directory(home: Path, backup: Path, tmp_path: Path) -> None:
    """As after the loss of a disk: the backup is all there is."""
    new = tmp_path / "neu é"
    done = _db(new, "restore", str(backup), "--yes", "--json")
    assert done.code == 0, done.out
    assert done.json["kept"] is None
    assert done.json["replaces"] is None
    with ServerProcess(new, boundary=tmp_path) as server, server.client() as client:
        assert client.get("/api/ready").status_code == 200


def test_a_rehearsal_says_whether_it_went_well(home: Path, backup: Path) -> None:
    """By words, by its exit code, and in the database, which remembers the last one."""
    good = _db(home, "rehearse", "--json")
    assert (good.code, good.json["ok"], good.json["recorded"]) == (0, True, True)
    assert good.json["file"] == str(backup)
    assert "can be restored" in _db(home, "rehearse").out
    bad = home / "bad.db"
    bad.write_bytes(backup.read_bytes()[:100_000])
    done = _db(home, "rehearse", str(bad), "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    assert str(bad) in done.json["problem"]
    assert "cannot be restored" in _db(home, "rehearse", str(bad)).out


def test_the_newest_backup_is_rehearsed_unless_one_is_named(home: Path) -> None:
    """Without any there is nothing to rehearse."""
    _db(home, "migrate")
    done = _db(home, "rehearse", "--json")
    assert (done.code, done.json["code"]) == (3, "not_found")
