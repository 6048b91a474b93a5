"""A restore that is killed: at every step the next opening finds the old database or the new one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dorkos.db.engine import sqlite_driver
from dorkos.db.replace import finish_replacement
from dorkos.db.schema.tables import metadata
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from tests.cli.terminal import call
from tests.db.conftest import Bench
from tests.db.restoring import back_up, leave_rows_in_the_log, mine, remember, restore

# Restores a file and ends itself, as a power cut would, after the step that is named. Prints the steps.
_PROGRAM = """if True:
    import os, signal, sys
    from pathlib import Path
    from dorkos.clock import SystemClock
    from dorkos.db.restore import prepared_restore

    database, file, fatal = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    def step(name):
        print(name, flush=True)
        if name == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    prepared = prepared_restore(
        file, database, backups=database.parent / "backups", clock=SystemClock(), say=step
    )
    with prepared as ready:
        step("prepared")
        ready.carry_out(checkpoint=step)
"""
READABLE = ("Checking the result", "prepared", "merged", "kept", "replaced")
UNREADABLE = (
    *("prepared", "intended", "moved dork.db", "moved dork.db-wal", "moved dork.db-shm"),
    *("moved", "installed", "replaced"),
)


def run_until(bench: Bench, file: Path, step: str) -> list[str]:
    """Restore in a process that is killed after `step`; the steps it came to."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(bench.path), str(file), step],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.splitlines()


def kept_files(bench: Bench) -> dict[str, bytes]:
    """What lies in the folders of replaced files, by name."""
    folders = [path for path in bench.backups.glob("replaced-*") if path.is_dir()]
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


@pytest.fixture
def saved(bench: Bench, tmp_path: Path) -> Path:
    """A backup, made before the row that only the log of the database holds."""
    bench.migrate(declared=metadata)
    remember(bench, "before")
    file = back_up(bench, tmp_path / "saved.db")
    leave_rows_in_the_log(bench, "since")
    bench.backups.mkdir(exist_ok=True)
    return file


@pytest.fixture
def damaged(bench: Bench, saved: Path) -> dict[str, bytes]:
    """The files of a database that cannot be read, with a log and its index beside it."""
    bench.path.write_bytes(b"damaged" * 1000)
    bench.path.with_name("dork.db-shm").write_bytes(b"index" * 1000)
    return {path.name: path.read_bytes() for path in bench.home.glob("dork.db*")}


def opened(bench: Bench) -> set[str]:
    """What the next command finds that opens the directory as a start does."""
    done = call("db", "migrate", "--json", environment={"DORK_HOME": str(bench.home)})
    assert done.code == 0, done.out
    assert done.json["applied"] == []
    assert verify_sqlite(bench.path) == []
    left = {path.name for path in bench.home.iterdir()}
    assert left <= {"dork.db", "dork.db-wal", "dork.db-shm", "backups", "lock"}
    return {key for (key,) in bench.rows("SELECT key FROM system_state WHERE value = 'x'")}


@pytest.mark.parametrize("step", READABLE)
def test_a_readable_database_is_replaced_in_one_step(bench: Bench, saved: Path, step: str) -> None:
    """Before it the old one is there with every row, after it the new one; and it can be done again."""
    steps = run_until(bench, saved, step)
    assert steps[-1] == step
    found = opened(bench)
    assert found == ({"before"} if step == "replaced" else {"before", "since"})
    if step in ("kept", "replaced"):
        (kept,) = bench.backups.glob("replaced-*.db")
        assert mine(kept) == {"before", "since"}
    restore(bench, saved)
    assert mine(bench.path) == {"before"}


@pytest.mark.parametrize("step", UNREADABLE)
def test_an_unreadable_database_is_moved_whole(
    bench: Bench, saved: Path, damaged: dict[str, bytes], step: str
) -> None:
    """Once it is begun, the next opening finishes it: no start ever makes a new database in between."""
    steps = run_until(bench, saved, step)
    assert steps[-1] == step
    if step == "prepared":
        done = call("db", "migrate", "--json", environment={"DORK_HOME": str(bench.home)})
        assert done.json["code"] == "database_corrupt"
        assert {path.name: path.read_bytes() for path in bench.home.glob("dork.db*")} == damaged
        assert not (bench.home / ".restoring").exists()
        return
    assert opened(bench) == {"before"}
    assert kept_files(bench) == damaged


def test_the_steps_that_are_killed_are_all_there_are(
    bench: Bench, saved: Path, damaged: dict[str, bytes], tmp_path: Path
) -> None:
    """The two lists above name every step that the program comes to."""
    assert tuple(run_until(bench, saved, "replaced"))[2:] == UNREADABLE
    opened(bench)
    assert tuple(run_until(bench, saved, "replaced"))[1:] == READABLE


def test_reading_commands_find_nothing_half(bench: Bench, saved: Path, damaged: dict[str, bytes]) -> None:
    """Without the lock they cannot finish it; none makes a database or calls a part of one whole."""
    run_until(bench, saved, "moved dork.db")
    before = bench.files()
    environment = {"DORK_HOME": str(bench.home)}
    assert call("db", "verify", environment=environment).code == 1
    for word in ("backup", "status"):
        done = call("db", word, "--json", environment=environment)
        assert (done.code, done.json["code"]) == (7, "restore_failed")
        assert "dorkos db migrate" in done.json["hint"]
    assert bench.files() == before


def test_whoever_forgets_to_finish_it_is_refused(
    bench: Bench, saved: Path, damaged: dict[str, bytes]
) -> None:
    """A migration on its own finds no database there: it would make an empty one, and call that done."""
    run_until(bench, saved, "moved dork.db")
    before = bench.files()
    with pytest.raises(DorkError) as refused:
        bench.migrate(declared=metadata)
    assert refused.value.code is ErrorCode.RESTORE_FAILED
    assert bench.files() == before


def test_a_file_that_appeared_meanwhile_replaces_nothing_that_was_kept(
    bench: Bench, saved: Path, damaged: dict[str, bytes]
) -> None:
    """Such as a database that an older version made in the empty directory: it is kept as well."""
    run_until(bench, saved, "moved dork.db")
    bench.path.write_bytes(b"newborn")
    finish_replacement(bench.path)
    assert mine(bench.path) == {"before"}
    assert kept_files(bench) == {**damaged, "dork.db~2": b"newborn"}


@pytest.mark.parametrize("text", ["", "not JSON", "[]", '{"kept": 1}'])
def test_an_intent_that_cannot_be_read_stops_the_start(bench: Bench, saved: Path, text: str) -> None:
    """Nothing is guessed, and nothing is made."""
    (bench.home / "restore.json").write_text(text, encoding="ascii")
    before = bench.files()
    done = call("db", "migrate", "--json", environment={"DORK_HOME": str(bench.home)})
    assert (done.code, done.json["code"]) == (7, "restore_failed")
    assert "restore.json" in done.json["error"] + done.json["hint"]
    assert {name: data for name, data in bench.files().items() if name != "lock"} == before


def test_an_intent_whose_new_database_is_gone_stops_the_start(bench: Bench, saved: Path) -> None:
    """With the old one moved away, a start would fill the directory with an empty database."""
    intent = {"kept": str(bench.backups / "replaced-x"), "staged": str(bench.home / ".restoring" / "dork.db")}
    (bench.home / "restore.json").write_text(json.dumps(intent), encoding="ascii")
    moved = {path: path.read_bytes() for path in bench.home.glob("dork.db*")}
    for path in moved:
        path.unlink()
    with pytest.raises(DorkError) as refused:
        finish_replacement(bench.path)
    assert refused.value.code is ErrorCode.RESTORE_FAILED
    assert not bench.path.exists()


def test_an_old_log_is_never_played_into_the_new_file(bench: Bench, saved: Path) -> None:
    """The danger is real: beside a copy that is merely put in place, the log of the old one is."""
    naive = bench.home / "naive.db"
    shutil.copy(saved, naive)
    shutil.copy(bench.path.with_name("dork.db-wal"), naive.with_name("naive.db-wal"))
    connection = sqlite_driver().connect(str(naive))
    rows = connection.execute("SELECT count(*) FROM system_state WHERE key = 'since'").fetchone()
    connection.close()
    assert rows == (1,)
    restore(bench, saved)
    assert mine(bench.path) == {"before"}
