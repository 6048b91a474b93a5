"""How long a start takes, and what an idle server holds in memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from benchmarks.report import Row

_ROUNDS = 5
_READY = "DorkOS ready on "


def rows() -> list[Row]:
    """Start a server on a new data directory, then on the same again; the median of a few rounds."""
    first: list[float] = []
    again: list[float] = []
    memory: list[float] = []
    for _ in range(_ROUNDS):
        with TemporaryDirectory() as folder:
            home = Path(folder) / "data"
            first.append(_start(home)[0])
            seconds, megabytes = _start(home)
            again.append(seconds)
            memory.append(megabytes)
    return [
        Row.of("start to ready, new data directory", first, "s"),
        Row.of("start to ready, nothing pending", again, "s", 1.0),
        Row.of("memory when idle", memory, "MB", 120),
    ]


def _start(home: Path) -> tuple[float, float]:
    """Seconds from the command to the ready line, and the resident megabytes at that moment."""
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "dorkos", "--home", str(home), "up", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            if not any(line.startswith(_READY) for line in server.stdout):
                raise SystemExit("The server ended before it was ready; `dorkos up` says why.")
            seconds = time.perf_counter() - begun
            megabytes = psutil.Process(server.pid).memory_info().rss / 1_000_000
        finally:
            server.send_signal(signal.SIGTERM)
    return seconds, megabytes
