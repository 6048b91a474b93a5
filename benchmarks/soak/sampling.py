"""What is looked at while the server is soaked."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import quantiles

import psutil

from benchmarks.soak.load import Load
from benchmarks.soak.world import World
from dorkos.db.engine import sqlite_driver

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything at one moment. What the load did is that since the sample before."""

    at_s: float
    values: dict[str, float]
    rows: dict[str, int] = field(default_factory=dict)
    """By table; only in some samples, since counting takes time."""


class Sampler:
    """Looks at the process, the files and the load."""

    def __init__(self, world: World, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        """From now on time counts."""
        self._world, self._load, self._clock = world, load, clock
        self._process = psutil.Process(world.server.pid)
        self._process.cpu_percent()
        self._begun = self._last = clock()
        self._read = 0

    def take(self, *, rows: bool) -> Sample:
        """Look. With `rows` the tables are counted."""
        now = self._clock()
        passed, self._last = now - self._last, now
        return Sample(
            at_s=now - self._begun,
            values=self._of_process() | self._of_files() | self._of_load(passed),
            rows=count_rows(self._world) if rows else {},
        )

    def _of_process(self) -> dict[str, float]:
        with self._process.oneshot():
            return {
                "memory": self._process.memory_info().rss / _MB,
                "open files": self._process.num_fds(),
                "threads": self._process.num_threads(),
                "processor": self._process.cpu_percent(),
                "machine load": os.getloadavg()[0],
            }

    def _of_files(self) -> dict[str, float]:
        path = self._world.database
        wal = path.with_name(path.name + "-wal")
        logs = self._world.home / "logs"
        return {
            "database": path.stat().st_size / _MB,
            "WAL": (wal.stat().st_size if wal.exists() else 0) / _MB,
            "logs": sum(file.stat().st_size for file in logs.glob("*")) / _MB,
        }

    def _of_load(self, passed: float) -> dict[str, float]:
        within = [json.loads(line) for line in self._told()]
        seen = self._load.told.take()
        counts = sum((Counter(one["counts"]) for one in within), seen.counts)
        found = {name: count / passed for name, count in counts.items()}
        found |= _cuts("publish", [ms for one in within for ms in one["publishMs"]])
        found |= _cuts("publish over HTTP", seen.publish_ms)
        seen.faults.update(fault for one in within[-1:] for fault in one["ended"])
        return found | ({"event loop stall": max(one["stall"] for one in within)} if within else {})

    def _told(self) -> Sequence[str]:
        """The lines that came since the last look."""
        with self._world.told.open(encoding="ascii") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        return whole.splitlines()


def _cuts(name: str, took_ms: Sequence[float]) -> dict[str, float]:
    if len(took_ms) < 2:
        return {}
    cuts = quantiles(took_ms, n=100)
    return {f"{name} p50": cuts[49], f"{name} p99": cuts[98]}


def count_rows(world: World) -> dict[str, int]:
    """How many rows each table of the database has."""
    connection = sqlite_driver().connect(f"file:{world.database}?mode=ro", uri=True)
    try:
        ask = connection.execute
        tables = [
            row[0]
            for row in ask(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
            )
        ]
        return {name: ask(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    finally:
        connection.close()
