"""What is done to the servers while the clients work. Each ends with all servers up again.

Every one of them is a function of the world and of chance. Those of `ANYWHERE` suit any engine.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from dorkos.db.engine import Role, sqlite_engine
from dorkos.db.verify import verify_sqlite
from tests.crash.laboratory import server as bad_day
from tests.crash.laboratory.load import MAILBOXES
from tests.crash.laboratory.world import LEASE_S, PostgresWorld, SqliteWorld, World
from tests.server_process import ServerProcess

NOBODY = 65534

Disturbance = Callable[[World, random.Random], list[str]]
"""Returns the promises that it saw broken, in words."""


def _moment(chance: random.Random, most: float = 0.8) -> None:
    threading.Event().wait(chance.uniform(0.0, most))


def kill(world: World, chance: random.Random) -> list[str]:
    """End one server as a power cut would, and start it again."""
    victim = chance.choice(world.servers)
    _moment(chance)
    victim.kill()
    victim.start()
    return []


def pause(world: World, chance: random.Random) -> list[str]:
    """Let one server stand still for longer than its leases last, as a laptop that sleeps; then kill it."""
    victim = chance.choice(world.servers)
    os.kill(victim.pid, signal.SIGSTOP)
    threading.Event().wait(LEASE_S + 2)
    os.kill(victim.pid, signal.SIGCONT)
    return kill(world, chance)


def wrong_clock(world: World, chance: random.Random) -> list[str]:
    """Let the wall clock of one server jump, and jump back; kill it in between or not.

    By a minute and a half at most: what was decided ahead is not decided again, and schedules rest for that.
    """
    victim = chance.choice(world.servers)
    world.skew(victim, chance.uniform(-90, 90))
    _moment(chance, 2.0)
    if chance.random() < 0.5:
        victim.kill()
        victim.start()
    world.skew(victim, 0.0)
    return kill(world, chance)


def _on_sqlite(world: World) -> tuple[SqliteWorld, ServerProcess]:
    assert isinstance(world, SqliteWorld)
    return world, world.servers[0]


def full_disk(world: World, chance: random.Random) -> list[str]:
    """Leave a few pages, wait until the server says that its disk is full, and give it room again."""
    place, server = _on_sqlite(world)
    server.kill()
    with place.connected() as connection:
        pages = int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    server.start({bad_day.PAGES: str(pages + chance.randrange(4, 40))})
    with server.client() as client:
        body = {"subject": MAILBOXES[0], "payload": {"content": "x" * 50_000}}
        for _ in range(200):
            answer = client.post("/api/relay/messages", json=body)
            if answer.status_code >= 500:
                break
        else:
            return ["the disk was full and nobody was told"]
    faults = [] if answer.json().get("code") == "disk_full" else [f"a full disk was called {answer.text}"]
    return faults + kill(world, chance)


def read_only(world: World, chance: random.Random) -> list[str]:
    """Take away the right to write: the server must not start, and must not touch anything."""
    place, server = _on_sqlite(world)
    server.kill()
    home = server.home
    names = [home, *(path for path in home.rglob("*") if path.exists())]
    modes = {path: path.stat().st_mode for path in names}
    drops = os.geteuid() == 0
    for path in names:
        if drops:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(0o555 if path.is_dir() else 0o400)
    before = place.path.read_bytes()
    extra = {bad_day.USER: str(NOBODY)} if drops else {}
    done = subprocess.run(
        [sys.executable, "-m", bad_day.__name__, "up"],
        env={**server.environment, **extra},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    faults = []
    if done.returncode == 0 or "home_unwritable" not in done.stderr:
        faults.append(f"without the right to write it said: {done.returncode} {done.stdout} {done.stderr}")
    if place.path.read_bytes() != before:
        faults.append("without the right to write something was written")
    for path, mode in modes.items():
        if drops:
            os.chown(path, 0, 0)
        path.chmod(mode)
    server.start()
    return faults + kill(world, chance)


def torn_log(world: World, chance: random.Random) -> list[str]:
    """Cut the log of a copy where a crash may: what is left is sound, and a beginning of the whole."""
    place, server = _on_sqlite(world)
    _moment(chance)
    server.kill()
    faults = []
    for number in range(3):
        copy = place.folder / f"torn-{number}" / "dork.db"
        copy.parent.mkdir()
        shutil.copyfile(place.path, copy)
        log = Path(f"{place.path}-wal")
        if log.exists():
            left = chance.randint(checkpointed(place.path), log.stat().st_size)
            torn = Path(f"{copy}-wal")
            torn.write_bytes(log.read_bytes()[:left])
        faults += [f"with a torn log: {problem}" for problem in verify_sqlite(copy)]
        faults += _not_a_beginning(copy, place.path)
        shutil.rmtree(copy.parent)
    server.start()
    return faults


def checkpointed(path: Path) -> int:
    """How many bytes of its log were to be copied into the database already.

    They were synced before that, so no crash takes them away, and without them the database is torn indeed.
    The place stands in the index of the log, as "WAL-index File Format" of SQLite's documentation has it.
    """
    log = Path(f"{path}-wal").read_bytes()
    if not log:
        return 0
    (page,) = struct.unpack_from(">I", log, 8)
    (frames,) = struct.unpack_from("=I", Path(f"{path}-shm").read_bytes(), 128)
    return 32 + int(frames) * (24 + int(page)) if frames else 0


def _not_a_beginning(copy: Path, whole: Path) -> list[str]:
    """Events are numbered as they are committed, so a beginning of the history has the first of them."""
    positions = []
    for path in (copy, whole):
        engine = sqlite_engine(path, Role.READER)
        with engine.connect() as connection:
            positions.append(set(connection.execute(sa.text("SELECT position FROM events")).scalars()))
        engine.dispose()
    part, full = positions
    if part != {position for position in full if position <= max(part, default=0)}:
        return ["a torn log left events without those before them"]
    return []


def _on_postgres(world: World) -> PostgresWorld:
    assert isinstance(world, PostgresWorld)
    return world


def database_crash(world: World, chance: random.Random) -> list[str]:
    """The database goes down at once and recovers; the servers must come back by themselves."""
    _moment(chance)
    _on_postgres(world).crash_the_database()
    return kill(world, chance)


def cut_connections(world: World, chance: random.Random) -> list[str]:
    """Every connection of the servers is ended, as a fail-over does."""
    place = _on_postgres(world)
    _moment(chance)
    with place.connected() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    return kill(world, chance)


def paused_database(world: World, chance: random.Random) -> list[str]:
    """The database stands still for longer than a lease, with both servers at work on it."""
    place = _on_postgres(world)
    place.signal_the_database(signal.SIGSTOP)
    threading.Event().wait(LEASE_S + 2)
    place.signal_the_database(signal.SIGCONT)
    return kill(world, chance)


ANYWHERE: tuple[Disturbance, ...] = (pause, wrong_clock)
OF_ENGINE: dict[str, tuple[Disturbance, ...]] = {
    "sqlite": (full_disk, read_only, torn_log),
    "postgresql": (database_crash, cut_connections, paused_database),
}
