"""`dorkos doctor`: from the data directory to the database, with and without a server, changing nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from dorkos import __version__
from dorkos.cli import doctor as command
from dorkos.cli import doctor_server
from dorkos.clock import SystemClock
from dorkos.db import filesystem
from dorkos.db.engine import sqlite_driver
from dorkos.db.migrate import migrate_postgres
from dorkos.home import Home
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess


def examine(home: Path, *words: str, **environment: str) -> Done:
    """Call the doctor on a data directory."""
    return call("doctor", *words, environment={"DORK_HOME": str(home), **environment})


def lines(done: Done) -> dict[str, Any]:
    """The findings by name; each that is not ok says what to do, and the exit code follows from them."""
    answer = done.json
    levels = [finding["level"] for finding in answer["findings"]]
    assert (answer["faults"], answer["warnings"]) == (levels.count("fault"), levels.count("warning"))
    assert answer["ok"] == (answer["faults"] == 0) == (done.code == 0)
    assert all((finding["level"] == "ok") == ("advice" not in finding) for finding in answer["findings"])
    return {finding["name"]: finding for finding in answer["findings"]}


def content(home: Path) -> dict[str, bytes]:
    """Every file but what SQLite shares between readers."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith("-shm")
    }


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory as a server leaves it, on a local disk with room."""
    home = tmp_path / "a hömé"
    home.mkdir(mode=0o700)
    create_sqlite_file(home / "dork.db")
    (home / "token").write_text("secret-of-the-operator\n", encoding="ascii")
    (home / "token").chmod(0o600)
    _mount(monkeypatch, tmp_path, "ext4")
    _free(10**12)(home, monkeypatch)
    return home


def _mount(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    """Let the kernel say that everything lies on a file system of this kind."""
    table = folder / "mountinfo"
    table.write_text(f"1 0 8:1 / / rw - {kind} /dev/sda1 rw\n", encoding="ascii")
    monkeypatch.setattr(filesystem, "MOUNT_TABLE", table)


def test_before_the_first_start_all_is_well_and_nothing_is_made(home: Path) -> None:
    """The directory is still not there afterwards."""
    found = lines(examine(home, "--json"))
    assert found["directory"]["level"] == found["database"]["level"] == "ok"
    assert not home.exists()


def test_a_directory_at_rest_is_examined_and_every_byte_kept(made: Path) -> None:
    """Read-only, without the lock."""
    before = content(made)
    done = examine(made)
    assert (done.code, done.err) == (0, "")
    assert "none is running" in done.out
    assert "secret-of-the-operator" not in done.out
    found = lines(examine(made, "--json"))
    assert {name for name, finding in found.items() if finding["level"] != "ok"} == {"backups"}
    assert {finding["group"] for finding in found.values()} == {
        *("Machine", "Data directory", "Server", "Runtimes", "Database"),
    }
    assert content(made) == before


def test_a_running_server_is_asked_and_not_disturbed(dorkos: Dorkos, server: ServerProcess) -> None:
    """It answers and is ready; its database is examined beside it, and it goes on."""
    found = lines(dorkos("doctor", "--json"))
    assert found["server"]["level"] == "ok"
    assert server.url in found["server"]["message"]
    assert found["server"]["facts"]["running"] is True
    assert found["integrity"]["level"] == found["schema"]["level"] == "ok"
    with server.client() as client:
        assert client.get("/api/ready").status_code == 200


def test_a_server_that_was_killed_left_a_trace_that_is_told(tmp_path: Path) -> None:
    """The next look sees that nobody holds the directory; its log is read, and stays as it is."""
    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        server.kill()
        before = content(server.home)
        found = lines(examine(server.home, "--json"))
        assert found["server"]["level"] == "warning"
        assert "killed" in found["server"]["message"]
        assert found["integrity"]["level"] == "ok"
        assert content(server.home) == before
        server.start()
        assert lines(examine(server.home, "--json"))["server"]["level"] == "ok"


def test_who_holds_the_directory_is_told(made: Path) -> None:
    """A server that starts names no address yet; one that does not answer is a fault, with its process."""
    holder = Home(made)
    assert not holder.is_locked()
    holder.lock()
    try:
        assert Home(made).is_locked()
        found = lines(examine(made, "--json"))["server"]
        assert (found["level"], found["facts"]["pid"]) == ("warning", os.getpid())
        holder.server_path.write_text('{"url": "http://127.0.0.1:9"}', encoding="utf-8")
        found = lines(examine(made, "--json"))["server"]
        assert found["level"] == "fault"
        assert str(os.getpid()) in found["message"]
        holder.server_path.write_text("[]", encoding="utf-8")
        assert lines(examine(made, "--json"))["server"]["level"] == "warning"
    finally:
        holder.unlock()
    holder.server_path.unlink()
    assert lines(examine(made, "--json"))["server"]["level"] == "ok"


def test_looking_at_the_lock_does_not_keep_a_start_away(made: Path) -> None:
    """Where no holder left a trace the lock is not even tried, and no file is made."""
    home = Home(made)
    home.lock()
    home.unlock()
    with mock.patch("fcntl.flock", side_effect=AssertionError("the lock was touched")):
        assert not home.is_locked()
    before = content(made)
    home.holder_path.write_text("1", encoding="ascii")
    home.lock_path.unlink(missing_ok=True)
    assert not home.is_locked()
    home.holder_path.unlink()
    before.pop("lock", None)
    assert content(made) == before


WELL = (200, {"status": "ok", "version": __version__})


@pytest.mark.parametrize(
    ("answers", "level", "told"),
    [
        ((WELL, (200, {"status": "ready"})), "ok", "ready"),
        (((200, {"status": "ok", "version": "0.0.1"}), (200, {})), "warning", "0.0.1"),
        (
            (WELL, (503, {"error": "Not ready: bus: it stands", "code": "not_ready"})),
            "fault",
            "bus: it stands",
        ),
        (((200, "hello"),), "fault", "no DorkOS server"),
        (((200, {"hello": 1}),), "fault", "no DorkOS server"),
    ],
)
def test_what_answers_at_the_address_is_judged(
    made: Path, scripted: ScriptedServer, answers: tuple[tuple[int, object], ...], level: str, told: str
) -> None:
    """Another version, one that is not ready, and something that is no server of ours."""
    holder = Home(made)
    holder.lock()
    try:
        holder.server_path.write_text(json.dumps({"url": scripted.url}), encoding="utf-8")
        for status, body in answers:
            scripted.answer(body, status)
        found = lines(examine(made, "--json"))["server"]
        assert (found["level"], told in found["message"]) == (level, True), found
    finally:
        holder.unlock()


def _mode(name: str, mode: int) -> Callable[[Path, pytest.MonkeyPatch], None]:
    return lambda home, _: (home / name).chmod(mode)


def _write(name: str, text: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def make(home: Path, _: pytest.MonkeyPatch) -> None:
        (home / name).write_text(text, encoding="utf-8")

    return make


def _kind(kind: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    return lambda home, monkeypatch: _mount(monkeypatch, home.parent, kind)


def _free(number: int) -> Callable[[Path, pytest.MonkeyPatch], None]:
    usage = SimpleNamespace(total=10**12, used=0, free=number)
    return lambda _, monkeypatch: monkeypatch.setattr("shutil.disk_usage", lambda _: usage)


def _another_user(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)


@pytest.mark.parametrize(
    ("disturb", "expected"),
    [
        (_mode(".", 0o755), ("directory", "warning", "0755")),
        (_another_user, ("directory", "warning", "4711")),
        (_mode("token", 0o644), ("token", "fault", "0644")),
        (_write("token", " \n"), ("token", "fault", "empty")),
        (_kind("nfs4"), ("disk", "fault", "network")),
        (_kind("overlay"), ("disk", "warning", "layered")),
        (_kind("9p"), ("disk", "warning", "layered")),
        (_kind("virtiofs"), ("disk", "warning", "layered")),
        (_kind("tmpfs"), ("disk", "warning", "in memory")),
        (_free(10**6), ("disk", "fault", "full")),
        (_free(10**8), ("disk", "warning", "would be well")),
        (_write("config.json", "{"), ("settings", "fault", "not JSON")),
        (_write("config.json", '{"scheduler": {"timezone": "Mars/X"}}'), ("time zone", "fault", "Mars/X")),
        (
            _write("config.json", '{"scheduler": {"timezone": "Asia/Tokyo"}}'),
            ("time zone", "ok", "Asia/Tokyo"),
        ),
        (_write("config.json", '{"database": {"url": "mysql://u:pw@h/n"}}'), ("database", "fault", "mysql")),
    ],
)
def test_each_trouble_around_the_database_has_its_line(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    disturb: Callable[[Path, pytest.MonkeyPatch], None],
    expected: tuple[str, str, str],
) -> None:
    """Rights, disk, settings, time zone; a password in a setting is not shown."""
    line, level, told = expected
    disturb(made, monkeypatch)
    before = content(made)
    done = examine(made, "--json")
    found = lines(done)
    assert (found[line]["level"], told in found[line]["message"]) == (level, True), found[line]
    assert "pw@" not in done.out
    assert content(made) == before


@pytest.mark.parametrize("name", ["config.toml", "config.json"])
def test_a_setting_that_holds_a_password_must_not_be_readable_by_others(made: Path, name: str) -> None:
    """The file is named, not its content."""
    with empty_postgres() as url:
        config = made / name
        text = {
            "config.toml": f'[database]\nurl = "{url}"\n',
            "config.json": json.dumps({"database": {"url": url}}),
        }
        config.write_text(text[name], encoding="utf-8")
        config.chmod(0o644)
        assert lines(examine(made, "--json"))["settings"]["level"] == "warning"
        config.chmod(0o600)
        assert lines(examine(made, "--json"))["settings"]["level"] == "ok"


def test_a_key_that_nothing_reads_is_told_with_what_was_meant(made: Path) -> None:
    """Else a mistyped setting looks as if it were in force."""
    (made / "config.toml").write_text("[server]\nprot = 1\n", encoding="utf-8")
    done = examine(made, "--json")
    assert lines(done)["settings"]["level"] == "warning"
    assert "server.prot" in lines(done)["settings"]["message"]
    assert "server.port" in lines(done)["settings"]["advice"]


def test_postgres_is_examined_in_place_of_the_file(home: Path) -> None:
    """By --database as with other commands; what concerns the file has no line."""
    with empty_postgres() as url:
        migrate_postgres(url, clock=SystemClock())
        found = lines(examine(home, "--json", "--database", url))
        assert "PostgreSQL" in found["database"]["message"]
        assert found["latency"]["level"] == found["schema"]["level"] == "ok"
        assert "integrity" not in found
    assert not home.exists()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE schema_ledger SET applied_at = 'x'",
        """INSERT INTO system_state VALUES ('fleet', '{"mode": "hold", "reason": null, "since": "x"}')""",
        "DELETE FROM system_state WHERE key = 'epoch'",
    ],
)
def test_values_that_cannot_be_read_hide_no_other_line(made: Path, damage: str) -> None:
    """Whatever stands there: the lines about the rest come, and no fault of ours."""
    with closing(sqlite_driver().connect(str(made / "dork.db"), isolation_level=None)) as connection:
        connection.execute(damage)
    done = examine(made, "--json")
    assert done.code in (0, 1)
    assert {"migrations", "schema", "fleet", "rehearsal", "backups"} <= lines(done).keys()


def test_faults_end_with_exit_code_1_and_are_summed_up(made: Path) -> None:
    """In words at the end, each with its arrow."""
    (made / "token").chmod(0o644)
    done = examine(made)
    assert done.code == 1
    assert "-> chmod 600" in done.out
    assert done.out.splitlines()[-1].startswith("1 fault and 1 warning")


def test_long_lines_are_broken_on_a_terminal_below_their_beginning(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its width, between words; in a pipe every finding is one line."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((72, 20)))
    with mock.patch("sys.stdout") as terminal:
        terminal.isatty.return_value = True
        wrapped = command._wrapped("word " * 40, 30)
    assert len(wrapped) > 1
    assert max(map(len, wrapped)) <= 42
    assert command._wrapped("word " * 40, 30) == ["word " * 40]
    done = examine(made)
    assert sum(line.startswith("  ok") for line in done.out.splitlines()) >= 14


def test_a_token_that_cannot_be_read_leaves_the_rest_to_be_asked(tmp_path: Path) -> None:
    """Then only what needs none is asked of the server."""
    assert doctor_server._token(tmp_path / "none") == ""
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    assert doctor_server._token(tmp_path / "bad") == ""


def test_the_doctor_needs_no_right_to_write(made: Path) -> None:
    """As an unprivileged user in a directory that nobody may write: a fault of the directory, no other."""
    program = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "import dorkos.db.doctor, dorkos.db.doctor_postgres, dorkos.pulse.zones, dorkos.testing\n"
        "import dorkos.cli.client, dorkos.cli.doctor_place, dorkos.cli.doctor_server\n"
        "import dorkos.runtimes.catalog\n"
        "from tests.cli.terminal import call\n"
        "home = Path(sys.argv[1])\n"
        "if os.geteuid() == 0:\n"
        "    for path in (home.parent, home, *home.iterdir()):\n"
        "        os.chown(path, 65534, 65534)\n"
        "    os.setgroups([])\n"
        "    os.setgid(65534)\n"
        "    os.setuid(65534)\n"
        "home.chmod(0o500)\n"
        "done = call('doctor', '--json', environment={'DORK_HOME': str(home)})\n"
        "home.chmod(0o700)\n"
        "print(done.out)\n"
    )
    with tempfile.TemporaryDirectory(prefix="dorkos-doctor-") as folder:
        Path(folder).chmod(0o755)
        home = Path(shutil.copytree(made, Path(folder) / "home"))
        done = subprocess.run(
            [sys.executable, "-c", program, str(home)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stderr
    found = {finding["name"]: finding["level"] for finding in json.loads(done.stdout)["findings"]}
    assert found["directory"] == "fault"
    assert found["integrity"] == found["migrations"] == found["token"] == "ok"
