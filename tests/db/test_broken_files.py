"""A database behind a link, and FIFOs, folders and links in circles where files belong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dorkos import storage
from dorkos.clock import ManualClock
from dorkos.db.backup import back_up_sqlite
from dorkos.db.engine import sqlite_driver
from dorkos.db.legacy.inplace import rehearse as rehearse_take_over
from dorkos.db.migrate import migrate_sqlite
from dorkos.db.probe import probe_sqlite
from dorkos.db.replace import finish_replacement
from dorkos.db.restore import prepared_restore
from dorkos.db.retention import CopyKind, sound_copies
from dorkos.db.staging import stage
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from dorkos.plain_file import read_file, write_file
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.cli.terminal import Done, call
from tests.db.legacy.adopt_kit import NOW, brought, copy_of, dump_of
from tests.db.legacy.test_inplace import RULES

# Ends as by kill -9: what it committed is in the log alone.
_KILLED = """
import asyncio, os, sys
from pathlib import Path
from dorkos.clock import ManualClock
from dorkos.db.schema.system import system_state
from dorkos.db.sqlite import SqliteDatabase
async def main():
    database = SqliteDatabase(Path(sys.argv[1]), clock=ManualClock())
    await database.open()
    await database.write(lambda tx: tx.execute(system_state.insert(), {"key": "k1", "value": "in the log"}))
    os._exit(0)
asyncio.run(main())
"""


def _linked(folder: Path) -> Path:
    """A data directory whose `dork.db` leads to another folder, with a row that is only in the log there."""
    home, disk = folder / "home", folder / "a dïsk"
    home.mkdir()
    disk.mkdir()
    create_sqlite_file(disk / "real.db")
    (home / "dork.db").symlink_to(disk / "real.db")
    subprocess.run([sys.executable, "-c", _KILLED, str(home / "dork.db")], check=True)
    assert (disk / "real.db-wal").stat().st_size
    assert not (home / "dork.db-wal").exists()
    return home


def _kept_values(path: Path) -> list[str]:
    with closing(sqlite_driver().connect(str(path))) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM system_state WHERE key = 'k1'")]


def _run(home: Path, *words: str) -> Done:
    return call(*words, "--json", environment={"DORK_HOME": str(home)})


def _is_held(place: Path | str) -> bool:
    """Whether the row that was only in the log is counted in a digest of the place."""
    words = ("--database", place) if isinstance(place, str) else ()
    home = place if isinstance(place, Path) else Path("/nowhere")
    tables = _run(home, "db", "digest", *words).json["tables"]
    return bool(tables["system_state"]["rows"] == 1)


def test_a_digest_and_an_export_through_a_link_hold_what_is_only_in_the_log(tmp_path: Path) -> None:
    """The log lies beside the file, not beside the link; without it, commits would be left out in silence."""
    home = _linked(tmp_path)
    assert _is_held(home)
    assert _run(home, "db", "verify").code == 0
    assert _run(home, "db", "export", str(tmp_path / "all.jsonl")).code == 0
    assert "in the log" in (tmp_path / "all.jsonl").read_text(encoding="utf-8")
    assert _run(home, "db", "migrate", "--dry-run").code == 0
    # No look merged the log, or left a trace beside the link.
    assert (tmp_path / "a dïsk" / "real.db-wal").stat().st_size
    assert not (home / "dork.db-wal").exists()


def test_a_transfer_through_a_link_brings_what_is_only_in_the_log(tmp_path: Path) -> None:
    """It would otherwise compare two databases that both lack the row, and report success."""
    home = _linked(tmp_path)
    with empty_postgres() as url:
        assert _run(home, "db", "transfer", url).code == 0
        assert _is_held(url)


def test_a_backup_that_is_a_link_is_restored_with_its_log(tmp_path: Path) -> None:
    """A backup is read with the log that lies beside the file itself."""
    home = _linked(tmp_path)
    folder = tmp_path / "staged"
    folder.mkdir()
    staged = stage(home / "dork.db", folder, clock=ManualClock(), say=lambda _: None)
    assert _kept_values(staged.path) == ["in the log"]


@pytest.mark.parametrize("readable", [True, False])
def test_a_restore_through_a_link_replaces_what_it_leads_to(tmp_path: Path, readable: bool) -> None:
    """The link stays a link; the old database is kept with what its log held."""
    home, clock = _linked(tmp_path), ManualClock()
    link, real, backups = home / "dork.db", tmp_path / "a dïsk" / "real.db", home / "backups"
    create_sqlite_file(tmp_path / "plain.db")
    backup = back_up_sqlite(
        tmp_path / "plain.db", backups=backups, to=tmp_path / "backup.db", now=clock.now()
    )
    if not readable:
        with real.open("r+b") as file:
            file.write(b"no database any more")
    finish_replacement(link)
    with prepared_restore(backup.path, link, backups=backups, clock=clock, say=lambda _: None) as ready:
        kept = ready.carry_out()

    assert kept is not None
    assert link.is_symlink()
    assert link.resolve() == real
    assert verify_sqlite(link) == []
    assert _kept_values(link) == []
    assert sorted(path.name for path in home.glob("dork.db*")) == ["dork.db"]
    if readable:
        assert _kept_values(kept) == ["in the log"]
    else:
        assert (kept / "real.db-wal").stat().st_size


def test_a_lineage_home_whose_database_is_a_link_is_taken_over_with_its_log(tmp_path: Path) -> None:
    """What the link leads to is replaced, and the link stays."""
    home = copy_of("home-wal", tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    for suffix in ("", "-wal", "-shm"):
        if (home / f"dork.db{suffix}").exists():
            (home / f"dork.db{suffix}").rename(disk / f"real.db{suffix}")
    assert (disk / "real.db-wal").stat().st_size
    (home / "dork.db").symlink_to(disk / "real.db")

    rehearse_take_over(home, clock=ManualClock(NOW), rules=RULES, say=lambda _: None)
    storage.migrate(Home(home), None, ManualClock(NOW), lambda _: None)

    assert (home / "dork.db").is_symlink()
    assert dump_of(home / "dork.db") == brought("home-wal").dump()
    assert sorted(path.name for path in disk.iterdir()) == ["real.db"]


def test_a_log_beside_a_link_that_nobody_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside the file itself, before SQLite leaves side files of the same mode."""
    home = _linked(tmp_path)
    log = tmp_path / "a dïsk" / "real.db-wal"

    def deny(path: Path, mode: int) -> bool:
        return path != log

    monkeypatch.setattr(os, "access", deny)
    with pytest.raises(DorkError) as refusal:
        migrate_sqlite(home / "dork.db", backups=home / "backups", clock=ManualClock())
    assert refusal.value.code is ErrorCode.DATABASE_READONLY
    assert str(log) in refusal.value.message


def _loop(path: Path) -> None:
    path.symlink_to(path)


_LOOKS = (("db", "verify"), ("doctor",))
_ODD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a FIFO": ("dork.db", os.mkfifo, "database_unreachable"),
    "a FIFO for a log": ("dork.db-wal", os.mkfifo, "database_unreachable"),
    "a folder for a log": ("dork.db-wal", os.mkdir, "database_unreachable"),
    "a folder for a journal": ("dork.db-journal", os.mkdir, "database_unreachable"),
    "a folder for an index": ("dork.db-shm", os.mkdir, "database_unreachable"),
    "a device": ("dork.db", lambda path: path.symlink_to("/dev/zero"), "database_unreachable"),
    "links in a circle": ("dork.db", _loop, "database_unreachable"),
    "a FIFO for settings": ("config.json", os.mkfifo, "invalid_setting"),
    "a FIFO for the token": ("token", os.mkfifo, "token_missing"),
    "a FIFO for a restore": ("restore.json", os.mkfifo, "restore_failed"),
}


# In a process of their own: SQLite, waiting for a FIFO, could not be stopped in this one. All in one, since
# a start of Python costs more than what is asked here; the last line on standard error tells what hangs.
_COMMANDS = """
import contextlib, io, json, sys
from dorkos.cli.main import main
for words in json.loads(sys.argv[1]):
    print(words, file=sys.stderr, flush=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    print(json.dumps([code, out.getvalue()]))
"""


def _ended(folder: Path, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """How each of the commands ended, and what it answered."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DORK")}
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
        env={**environment, "DORKOS_BOUNDARY": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    return [(code, out) for code, out in map(json.loads, done.stdout.splitlines())]


def test_what_is_no_file_is_refused_by_name_and_nobody_waits(tmp_path: Path) -> None:
    """Every command ends; a start refuses with a code that says where to look, and never as our own fault."""
    commands: list[tuple[str, ...]] = []
    for number, (name, make, _) in enumerate(_ODD.values()):
        home = tmp_path / str(number)
        home.mkdir()
        create_sqlite_file(home / "dork.db")
        if name == "dork.db":
            (home / name).unlink()
        make(home / name)
        asked = (*_LOOKS, ("up", "--port", "0"))
        commands += [("--home", str(home), *words, "--json") for words in asked]

    answers = iter(_ended(tmp_path, *commands))
    for case, (name, _, code) in _ODD.items():
        for words in _LOOKS:
            ended, out = next(answers)
            assert "internal_error" not in out, (case, words, out)
            assert "could not be examined" not in out, (case, words, out)
            assert ended != 70, (case, words, out)
        refusal = json.loads(next(answers)[1])
        assert refusal["code"] == code, (case, refusal)
        assert name in refusal["error"], (case, refusal)
        assert refusal["hint"], (case, refusal)


def test_fifos_that_only_tell_of_a_server_hold_nobody_up(tmp_path: Path) -> None:
    """Where the server is, who it is, and a backup's name: each is passed over for what it is not."""
    home = tmp_path / "home"
    (home / "backups").mkdir(parents=True)
    create_sqlite_file(home / "dork.db")
    os.mkfifo(home / "server.json")
    os.mkfifo(home / "lock.pid")
    os.mkfifo(home / "backups" / "daily-20260101T000000Z-0004_full_schema.db")

    commands = [("--home", str(home), *words) for words in (("status",), ("doctor",), ("db", "migrate"))]
    answers = _ended(tmp_path, *commands)
    assert [code for code, _ in answers if code == 70] == [], answers
    # What the start and the daily loop do, each with what it cannot use.
    with pytest.raises(OSError, match="a FIFO, not a file"):
        write_file(home / "server.json", "{}")
    with pytest.raises(OSError, match="a FIFO, not a file"):
        read_file(home / "server.json")
    assert list(sound_copies(home / "backups", CopyKind.DAILY, now=datetime(2026, 6, 1, tzinfo=UTC))) == []


def test_a_data_directory_of_links_in_a_circle_is_refused(tmp_path: Path) -> None:
    """It is no fault of ours, and nothing can be made there."""
    _loop(tmp_path / "home")
    for words in (("db", "status"), ("up",)):
        done = call("--home", str(tmp_path / "home"), *words, "--json", environment={})
        assert done.json["code"] == "home_unwritable", words


def _edited(path: Path, *statements: str) -> DorkError:
    """Why our database is refused after these statements."""
    create_sqlite_file(path)
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return _refusal(path)


def _refusal(path: Path) -> DorkError:
    with pytest.raises(DorkError) as refusal:
        probe_sqlite(path)
    assert refusal.value.hint
    return refusal.value


def test_only_a_lock_is_called_a_lock(tmp_path: Path) -> None:
    """`Close the program` is no advice for a column that is missing or a format that is too new."""
    path = tmp_path / "dork.db"
    drifted = _edited(path, "ALTER TABLE schema_ledger DROP COLUMN version")
    assert drifted.code is ErrorCode.DATABASE_DRIFT
    assert "version" in drifted.message

    create_sqlite_file(path)
    with path.open("r+b") as file:
        file.seek(44)  # The schema format, of which SQLite knows four.
        file.write((99).to_bytes(4, "big"))
    assert _refusal(path).code is ErrorCode.DATABASE_CORRUPT

    create_sqlite_file(path)
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (id)")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dorkos.db.probe.BUSY_TIMEOUT_MS", 50)
            assert _refusal(path).code is ErrorCode.DATABASE_BUSY


@pytest.mark.parametrize(
    "row", ["(NULL, 'x', 'now', '1', 1)", "('0001_x', x'00', 'now', '1', 1)", "('0001_x', 'x', 'now', 3, 1)"]
)
def test_a_ledger_of_other_values_is_refused(tmp_path: Path, row: str) -> None:
    """A table made by hand may hold anything under the right names."""
    refusal = _edited(
        tmp_path / "dork.db",
        "DROP TABLE schema_ledger",
        "CREATE TABLE schema_ledger (id, checksum, applied_at, version, duration_ms)",
        f"INSERT INTO schema_ledger VALUES {row}",
    )
    assert refusal.code is ErrorCode.DATABASE_CORRUPT
    assert "record of its migrations" in refusal.message


def test_a_log_of_another_database_is_named(tmp_path: Path) -> None:
    """The file is ours and sound; it is the log beside it that has to go."""
    create_sqlite_file(tmp_path / "dork.db")
    with closing(sqlite_driver().connect(str(tmp_path / "o.db"), isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE notes (text)")
        other.execute("INSERT INTO notes VALUES (hex(randomblob(4000)))")
        log = (tmp_path / "o.db-wal").read_bytes()
    (tmp_path / "dork.db-wal").write_bytes(log)

    refusal = _refusal(tmp_path / "dork.db")
    assert refusal.code is ErrorCode.DATABASE_FOREIGN
    assert str(tmp_path / "dork.db-wal") in refusal.message
    assert (tmp_path / "dork.db-wal").read_bytes() == log
