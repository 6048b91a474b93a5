"""Putting a backup in the place of the database: what comes back, what is kept, what is refused."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from dorkos.clock import iso
from dorkos.db.engine import sqlite_driver
from dorkos.db.ledger import revisions
from dorkos.db.rehearse import rehearse
from dorkos.db.schema.system import tokens
from dorkos.db.schema.tables import metadata
from dorkos.db.sqlite import SqliteDatabase
from dorkos.db.staging import stage
from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import Cursor, EventFeed
from dorkos.identity import tokens as identity_tokens
from dorkos.identity.tokens import NewToken, new_secret
from dorkos.ids import new_id
from dorkos.node import process_started_at
from dorkos.pulse.rescue import Rescue
from dorkos.vocabulary import RunReason, RunState, Scope
from tests.db.conftest import Bench
from tests.db.restoring import (
    NEWER,
    back_up,
    damage_page,
    execute,
    foreign,
    leave_rows_in_the_log,
    lineage,
    mine,
    prepared,
    refusal,
    remember,
    restore,
)
from tests.db.room import largest_file
from tests.pulse.workshop import Workshop, a_node, python, workshop


def test_the_database_is_that_of_the_backup(filled: Bench) -> None:
    """What happened since is gone, every check passes, and nothing lies beside it."""
    file = back_up(filled)
    remember(filled, "since")
    restore(filled, file)
    assert mine(filled.path) == {"before"}
    assert verify_sqlite(filled.path) == []
    assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def test_the_backup_stays_as_it_is(filled: Bench, tmp_path: Path) -> None:
    """It is read from any folder, and its name may hold anything."""
    file = back_up(filled, tmp_path / "vor dem Umzug: 100 % #1?.db")
    before = file.read_bytes()
    restore(filled, file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.glob("*.db*")] == [file.name]


def test_what_is_replaced_is_kept_as_a_verified_copy(filled: Bench) -> None:
    """Also what was committed only to the log; and it can be restored in its turn."""
    file = back_up(filled)
    leave_rows_in_the_log(filled, "since")
    kept = restore(filled, file)
    assert kept is not None
    assert kept.parent == filled.backups
    assert kept.name == f"replaced-20260301T090000Z-{revisions()[-1].id}.db"
    assert mine(kept) == {"before", "since"}
    assert verify_sqlite(kept) == []
    restore(filled, kept)
    assert mine(filled.path) == {"before", "since"}


def test_two_in_one_second_keep_two(filled: Bench) -> None:
    """No name is taken twice, whatever the clock says."""
    file = back_up(filled)
    kept = {restore(filled, file) for _ in range(3)}
    assert len(kept) == 3
    assert all(path is not None and path.exists() for path in kept)


def test_it_begins_a_new_history(filled: Bench) -> None:
    """The epoch is new, so that old cursors are told; the last event tells of the restore."""
    file = back_up(filled)
    (before,) = filled.rows("SELECT value FROM system_state WHERE key = 'epoch'")
    restore(filled, file)
    (after,) = filled.rows("SELECT value FROM system_state WHERE key = 'epoch'")
    assert before != after
    (event,) = filled.rows("SELECT kind, entity_id FROM events ORDER BY position DESC LIMIT 1")
    assert event == ("system.database.restored", file.name)


def test_the_fleet_stands_on_hold(filled: Bench) -> None:
    """The reason names the backup."""
    file = back_up(filled)
    filled.clock.advance(timedelta(hours=1))
    restore(filled, file)
    ((text,),) = filled.rows("SELECT value FROM system_state WHERE key = 'fleet'")
    fleet = json.loads(text)
    assert fleet["mode"] == "hold"
    assert file.name in fleet["reason"]
    assert fleet["since"] == iso(filled.clock.now())


async def _workshop(bench: Bench, folder: Path) -> Workshop:
    database = SqliteDatabase(bench.path, clock=bench.clock)
    await database.open()
    return workshop(database, bench.clock, folder)


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, as a run's program does."""
    with subprocess.Popen(python("import signal; signal.pause()"), start_new_session=True) as process:
        yield process
        process.kill()


async def test_a_program_that_runs_for_another_directory_is_not_killed(
    filled: Bench, tmp_path: Path, program: subprocess.Popen[bytes]
) -> None:
    """Its backup, restored here, names exactly a living process: yet rescue leaves that alone.

    The run ends as interrupted and unconfirmed, so that nobody starts it again either.
    """
    shop = await _workshop(filled, tmp_path)
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    started_at = process_started_at(program.pid)
    assert await shop.store.record_process(claim, pid=program.pid, started_at=started_at)
    file = back_up(filled)
    await shop.db.close()

    restore(filled, file)
    filled.clock.advance(timedelta(hours=1))
    shop = await _workshop(filled, tmp_path)
    await Rescue(shop.store, shop.pulse.runtimes, node=a_node(), lease_s=30).work()
    run = await shop.store.get_run(run_id)
    await shop.db.close()
    assert (run.status, run.reason) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)
    assert program.poll() is None


async def test_credentials_of_runs_and_revoked_ones_are_not_valid_again(
    filled: Bench, tmp_path: Path
) -> None:
    """A run's token ends with its process, and what was taken back after the backup stays taken back."""
    shop = await _workshop(filled, tmp_path)
    await shop.queued("true")
    (claim,) = await shop.claimed()
    kept, taken_back = (
        NewToken(new_id(), new_secret(), f"relay.human.{name}", frozenset({Scope.OBSERVE}))
        for name in ("kept", "taken")
    )
    until = filled.clock.now() + timedelta(days=30)
    for token in (kept, taken_back):
        await shop.db.write(partial(identity_tokens.mint, token=token, expires_at=until))
    file = back_up(filled)
    revoke = tokens.update().where(tokens.c.id == taken_back.id).values(revoked_at=filled.clock.now())
    await shop.db.write(lambda tx: tx.execute(revoke).rowcount)
    await shop.db.close()

    restore(filled, file)
    shop = await _workshop(filled, tmp_path)
    now = filled.clock.now()
    known = {
        name: await shop.db.read(partial(identity_tokens.caller_of, secret=secret, now=now))
        for name, secret in (("run", claim.token.secret), ("kept", kept.secret), ("taken", taken_back.secret))
    }
    await shop.db.close()
    assert [name for name, caller in known.items() if caller is not None] == ["kept"]


async def test_an_old_cursor_is_refused(filled: Bench) -> None:
    """A program that follows events learns that its position is of another history."""
    file = back_up(filled)
    database = SqliteDatabase(filled.path, clock=filled.clock)
    await database.open()
    feed = EventFeed(database)
    await feed.start()
    old: Cursor = feed.head
    await feed.stop()
    await database.close()

    restore(filled, file)
    database = SqliteDatabase(filled.path, clock=filled.clock)
    await database.open()
    feed = EventFeed(database)
    await feed.start()
    with pytest.raises(DorkError) as refused:
        feed.start_of(old)
    await feed.stop()
    await database.close()
    assert refused.value.code is ErrorCode.INVALID_CURSOR


def test_an_older_backup_is_brought_up_to_date(filled: Bench, tmp_path: Path) -> None:
    """As any start would do it, with its rows, and before anything is replaced."""
    (tmp_path / "old").mkdir()
    old = Bench(tmp_path / "old", filled.clock)
    old.copy_revisions(4)
    old.migrate()
    remember(old, "old")
    file = back_up(old)
    restore(filled, file)
    assert mine(filled.path) == {"old"}
    assert verify_sqlite(filled.path) == []
    assert [path.name for path in filled.backups.iterdir()] == [
        f"replaced-20260301T090000Z-{revisions()[-1].id}.db"
    ]


def test_a_backup_with_a_log_beside_it_is_taken_whole(filled: Bench, tmp_path: Path) -> None:
    """As somebody copied it from a machine that lost power, both files; neither is changed."""
    leave_rows_in_the_log(filled, "in the log")
    file = tmp_path / "copy.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{filled.path}{suffix}", f"{file}{suffix}")
    before = {path: path.read_bytes() for path in tmp_path.glob("copy.db*")}
    restore(filled, file)
    assert mine(filled.path) == {"before", "in the log"}
    assert {path: path.read_bytes() for path in tmp_path.glob("copy.db*")} == before


def test_a_write_that_was_half_done_is_taken_back(filled: Bench, tmp_path: Path) -> None:
    """A rollback journal beside the backup belongs to it, and without it the backup is damaged."""
    file = back_up(filled, tmp_path / "copy.db")
    connection = sqlite_driver().connect(str(file), isolation_level=None)
    connection.execute("PRAGMA cache_spill = 1")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.execute(NEWER)
    connection.executemany(
        "INSERT INTO system_state VALUES (?, ?)", [(f"half {n}", "x" * 3000) for n in range(200)]
    )
    torn = tmp_path / "torn.db"
    for suffix in ("", "-journal"):
        shutil.copy(f"{file}{suffix}", f"{torn}{suffix}")
    connection.close()
    assert torn.read_bytes() != file.read_bytes()
    restore(filled, torn)
    assert mine(filled.path) == {"before"}
    assert filled.rows("SELECT count(*) FROM system_state WHERE key LIKE 'half%'") == [(0,)]


def test_a_backup_that_is_being_written_is_read_at_one_moment(filled: Bench, tmp_path: Path) -> None:
    """Such as the database of another data directory, whose server goes on."""
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other", filled.clock)
    other.migrate(declared=metadata)
    folder = tmp_path / "stage"
    folder.mkdir()
    with other.raw() as connection:
        numbers = itertools.count()

        def write() -> bool:
            number = next(numbers)
            if number < 50:
                connection.execute("BEGIN")
                for side in ("left", "right"):
                    connection.execute("INSERT INTO system_state VALUES (?, 'x')", (f"{side} {number:06}",))
                connection.execute("COMMIT")
            return False

        write()
        staged = stage(other.path, folder, clock=filled.clock, say=lambda _: None, halt=write)
    left, right = (
        {key[-6:] for key in mine(staged.path) if key.startswith(side)} for side in ("left", "right")
    )
    assert left == right
    assert len(left) >= 1


def test_a_backup_that_changes_under_the_reader_is_refused(filled: Bench, tmp_path: Path) -> None:
    """Half of it would be of one moment and half of another."""
    file = back_up(filled, tmp_path / "copy.db")
    folder = tmp_path / "stage"
    folder.mkdir()
    whole = file.read_bytes()

    def meddle() -> bool:
        file.write_bytes(whole + b"more")
        return False

    with pytest.raises(DorkError) as refused:
        stage(file, folder, clock=filled.clock, say=lambda _: None, halt=meddle)
    assert refused.value.code is ErrorCode.DATABASE_BUSY


def test_without_a_database_there_is_nothing_to_keep(filled: Bench) -> None:
    """Whether none is there, or an empty file, with empty side files or not."""
    file = back_up(filled)
    for decoys in ((), ("dork.db",), ("dork.db", "dork.db-wal", "dork.db-shm"), ("dork.db-wal",)):
        for path in filled.home.glob("dork.db*"):
            path.unlink()
        for name in decoys:
            (filled.home / name).touch()
        assert restore(filled, file) is None
        assert mine(filled.path) == {"before"}
        assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def _leave(bench: Bench, contents: dict[str, bytes]) -> None:
    bench.path.unlink()
    for suffix, content in contents.items():
        bench.path.with_name(f"{bench.path.name}{suffix}").write_bytes(content)


UNREADABLE: dict[str, Callable[[Bench], object]] = {
    "damaged pages": lambda bench: damage_page(bench.path),
    "text": lambda bench: bench.path.write_text("not a database at all\n" * 20),
    "truncated": lambda bench: os.truncate(bench.path, 40 * 4096),
    "other program": lambda bench: foreign(bench.path),
    "lineage": lambda bench: lineage("home-node-0004")(bench.path),
    "empty beside a log": lambda bench: _leave(bench, {"": b"", "-wal": b"log" * 1000}),
    "only a log": lambda bench: _leave(bench, {"-wal": b"log" * 1000}),
    "damaged, with side files": lambda bench: _leave(
        bench, {"": b"x" * 9000, "-wal": b"log" * 1000, "-shm": b"shm" * 1000, "-journal": b"back" * 1000}
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_kept_byte_for_byte(filled: Bench, tmp_path: Path, kind: str) -> None:
    """With everything that lies beside it, in a folder of its own; nothing stale lies beside the new one."""
    file = back_up(filled, tmp_path / "copy.db")
    UNREADABLE[kind](filled)
    before = {path.name: path.read_bytes() for path in filled.home.glob("dork.db*")}
    kept = restore(filled, file)
    assert kept is not None
    assert kept.is_dir()
    assert kept.name == "replaced-20260301T090000Z"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert mine(filled.path) == {"before"}
    assert verify_sqlite(filled.path) == []
    assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def test_a_newer_database_is_kept_and_an_older_backup_restored(filled: Bench) -> None:
    """The way back after an upgrade that went wrong."""
    file = back_up(filled)
    execute(filled.path, NEWER)
    kept = restore(filled, file)
    assert kept is not None
    assert kept.name == "replaced-20260301T090000Z-9999_far.db"
    assert verify_sqlite(filled.path) == []


def test_a_database_that_another_program_has_open_is_not_replaced(filled: Bench) -> None:
    """It would go on writing into a file that nobody sees any more."""
    file = back_up(filled)
    with filled.raw() as connection:
        connection.execute("INSERT INTO system_state VALUES ('since', 'x')")
        refused = refusal(filled, file)
        connection.execute("INSERT INTO system_state VALUES ('later', 'x')")
    assert refused.code is ErrorCode.DATABASE_BUSY
    assert mine(filled.path) == {"before", "since", "later"}
    assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def test_a_database_that_lies_elsewhere_stays_there(filled: Bench, tmp_path: Path) -> None:
    """Behind a link, such as to a larger disk: the link stays one, and the file behind it is replaced."""
    file = back_up(filled)
    elsewhere = tmp_path / "large disk"
    elsewhere.mkdir()
    shutil.move(filled.path, elsewhere / "state.db")
    filled.path.symlink_to(elsewhere / "state.db")
    remember(filled, "since")
    restore(filled, file)
    assert filled.path.is_symlink()
    assert mine(elsewhere / "state.db") == {"before"}
    assert [path.name for path in elsewhere.iterdir()] == ["state.db"]


def test_without_room_for_the_new_one_nothing_is_changed(filled: Bench) -> None:
    """The unfinished copy is gone, too."""
    file = back_up(filled)
    before = filled.files()
    with largest_file(file.stat().st_size // 2):
        refused = refusal(filled, file)
    assert refused.code is ErrorCode.RESTORE_FAILED
    assert filled.files() == before


def test_without_room_to_keep_the_old_one_it_is_not_replaced(filled: Bench) -> None:
    """Its rows are all there, and no half copy lies in the backups folder."""
    file = back_up(filled)
    for number in range(100):
        remember(filled, f"large {number}" + "x" * 5000)
    remember(filled, "since")
    with largest_file(file.stat().st_size + 100_000):
        refused = refusal(filled, file)
    assert refused.code is ErrorCode.RESTORE_FAILED
    assert "as it was" in refused.message
    assert {"before", "since"} < mine(filled.path)
    assert list(filled.backups.iterdir()) == [file]
    assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def test_what_it_would_replace_is_told_before(filled: Bench) -> None:
    """How much, and until when; of one that cannot be read, why."""
    file = back_up(filled)
    with prepared(filled, file) as ready:
        assert ready.replaced is not None
        assert ready.replaced.problem is None
        assert ready.replaced.rows > 5
        assert ready.staged.migration == revisions()[-1].id
    assert mine(filled.path) == {"before"}
    damage_page(filled.path)
    with prepared(filled, file) as ready:
        assert ready.replaced is not None
        assert ready.replaced.problem is not None
    assert sorted(path.name for path in filled.home.iterdir()) == ["backups", "dork.db"]


def test_the_lock_file_and_the_token_stay(filled: Bench) -> None:
    """Only the database is replaced."""
    for name in ("token", "lock", "config.json"):
        (filled.home / name).write_text(name, encoding="ascii")
    restore(filled, back_up(filled))
    for name in ("token", "lock", "config.json"):
        assert (filled.home / name).read_text(encoding="ascii") == name


def test_a_backup_whose_name_is_no_text_can_be_restored(filled: Bench) -> None:
    """Whatever bytes the name holds; where it is remembered U+FFFD stands for them."""
    file = back_up(filled, filled.home / os.fsdecode(b"odd\xff.db"))
    remember(filled, "since")
    restore(filled, file)
    assert mine(filled.path) == {"before"}
    with filled.raw() as connection:
        (name,) = connection.execute("SELECT entity_id FROM events ORDER BY position DESC").fetchone()
    assert name == "odd\ufffd.db"
    note = rehearse(file, scratch=filled.backups, clock=filled.clock, say=lambda _: None)
    assert (note.ok, note.file) == (True, "odd\ufffd.db")
