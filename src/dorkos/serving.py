"""A server on a data directory, from the lock to the last word."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dorkos.app import System, build
from dorkos.clock import Clock, SystemClock
from dorkos.exposure import check_exposure, is_loopback
from dorkos.home import Home
from dorkos.logs import logging_to, set_level
from dorkos.plain_file import write_file
from dorkos.settings import LoadedSettings, load_settings
from dorkos.storage import be_up_to_date, open_database


def run(home: Path, flags: Mapping[str, object], *, echo: Callable[[str], None]) -> int:
    """Run a server on the data directory `home` until SIGINT or SIGTERM; returns the exit code.

    `flags` are settings given by hand, by their dotted keys. `echo` gets each line meant for a person.
    Raises a refusal if the directory, the database or the port cannot be had; nothing has fired then.
    """
    place = Home(home)
    place.prepare()
    loaded = load_settings(place.config_path, environment=os.environ, flags=flags)
    check_exposure(loaded.values.server)
    _log_to_stderr(loaded.values.logging.level)
    place.lock()
    kept = loaded.values.logging
    try:
        with logging_to(place.log_path, max_bytes=kept.max_bytes, keep=kept.keep):
            clock = SystemClock()
            be_up_to_date(place, loaded.values.database.url, clock, echo)
            asyncio.run(_serve(place, loaded, clock, echo))
    finally:
        place.unlock()
    return 0


async def _serve(home: Home, loaded: LoadedSettings, clock: Clock, echo: Callable[[str], None]) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # A second signal sets an event that is set already: the stop goes on as it began.
        loop.add_signal_handler(number, stop_requested.set)
    database = open_database(home, loaded.values.database.url, clock)
    await database.open()
    try:
        system = build(home, loaded, database, clock)
        try:
            await system.start()
            await _be_ready(system)
            set_modules_aside()
            with _announced(home, system.http.url):
                echo(f"DorkOS ready on {system.http.url}")
                if not is_loopback(loaded.values.server.host):
                    echo("Other machines reach it, unencrypted: put a proxy that speaks TLS in front of it.")
                fleet = await system.fleet.fleet()
                if not fleet.fires:
                    mode = str(fleet).rstrip(".")
                    echo(f"{mode}. `dorkos fleet` shows what waits, `dorkos fleet resume` lets it go on.")
                await stop_requested.wait()
                echo("Stopping: runs that are at work are ended and marked")
        finally:
            await system.stop()
    finally:
        await database.close()
    echo("DorkOS stopped")


def set_modules_aside() -> None:
    """Take what was loaded until now out of the garbage collector's sight; it stays for the process's life.

    A full collection walks over all there is, and nothing else happens meanwhile: with the modules, a tenth
    of a second for the event loop, and for whoever waits for an answer.
    """
    gc.freeze()


async def _be_ready(system: System) -> None:
    """Raise what is not ready: the ready line is a promise."""
    for readiness in system.readiness:
        await readiness.check()


@contextlib.contextmanager
def _announced(home: Home, url: str) -> Iterator[None]:
    """Tell the command line where the server is. Information only: the lock decides who runs."""
    place = home.server_path
    with contextlib.suppress(OSError):
        write_file(place, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%H:%M:%S")
    set_level(level)
