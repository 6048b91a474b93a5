"""Databases of all sizes side by side, and every operation on each in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from benchmarks.growth.fill import Stored
from benchmarks.growth.fit import Curve
from benchmarks.growth.operations import OPERATIONS, PIECES
from tests.server_process import ServerProcess

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_MEGABYTE = 1_000_000


def curves(sizes: Sequence[int] = SIZES, *, rounds: int = 15) -> list[Curve]:
    """The median cost of each operation; then the file, and the memory and start of a server on it."""
    with TemporaryDirectory(prefix="dorkos-growth-") as folder:
        root = Path(folder).resolve()
        found = asyncio.run(measured(root, sizes, rounds))
        files = {size: _file(root, size) / _MEGABYTE for size in sizes}
        servers = {size: _server(root, size) for size in sizes}
    return [
        *found,
        Curve("database file", "MB", files),
        Curve("memory of an idle server", "MB", {size: memory for size, (memory, _) in servers.items()}),
        Curve("start to ready", "s", {size: seconds for size, (_, seconds) in servers.items()}),
    ]


async def measured(root: Path, sizes: Sequence[int], rounds: int) -> list[Curve]:
    """In each round each size has its turn, so that all meet the same machine. The first two are warm-ups."""
    async with AsyncExitStack() as stack:
        places = []
        for size in sizes:
            stored = Stored(size)
            (root / str(size)).mkdir()
            await stored.open(root / str(size))
            stack.push_async_callback(stored.close)
            places.append(stored)
        found = []
        for name, operation in OPERATIONS.items():
            took: dict[int, list[float]] = {size: [] for size in sizes}
            for _ in range(rounds + 2):
                for stored in places:
                    begun = time.perf_counter()
                    await operation(stored)
                    took[stored.count].append((time.perf_counter() - begun) * 1000 / PIECES.get(name, 1))
            found.append(Curve(name, "ms", {size: median(values[2:]) for size, values in took.items()}))
        return found


def _file(root: Path, size: int) -> int:
    return (root / str(size) / "dork.db").stat().st_size


def _server(root: Path, size: int) -> tuple[float, float]:
    """Resident megabytes, and seconds to ready. The second time: the first makes up for what did not run."""
    home = root / str(size)
    server = ServerProcess(home, boundary=root, environment={"DORKOS_BACKUP_EVERY_HOURS": "0"})
    with server:
        pass
    begun = time.perf_counter()
    with server:
        seconds = time.perf_counter() - begun
        return psutil.Process(server.pid).memory_info().rss / _MEGABYTE, seconds
