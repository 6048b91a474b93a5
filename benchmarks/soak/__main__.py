"""Soak a real server: an hour at a tenth of its peak, and a line through everything that must not grow.

    python -m benchmarks.soak --minutes 60 --out soak.md

Messages are published, claimed and acknowledged at a steady rate, schedules fire, streams are followed (some
slowly), folders searched, pages and numbers looked at. Days of retention are short, so that everything comes
to be taken away several times over. Exit code 1 if something grew beyond that, or clients saw faults.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.page import write_block
from benchmarks.soak.load import Load
from benchmarks.soak.plan import Plan
from benchmarks.soak.report import Report
from benchmarks.soak.sampling import Sample, Sampler
from benchmarks.soak.verdict import trends
from benchmarks.soak.world import World

# Counting rows takes longer than the other looks.
_ROWS_EVERY = 6
_PATIENCE_S = 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; exit code 1 if something grew or clients saw faults."""
    asked = _arguments(arguments)
    if asked.again is not None:
        report = Report.again(json.loads(asked.again.read_text(encoding="utf-8")))
    else:
        plan = Plan(asked.minutes, asked.rate, asked.over_http, asked.every, asked.due, asked.schedules)
        with tempfile.TemporaryDirectory(prefix="dorkos-soak-", dir=asked.folder) as folder:
            report = asyncio.run(soak(Path(folder).resolve(), plan))
    print(report.text())
    if asked.out is not None:
        asked.out.write_text(report.text(), encoding="utf-8")
        document = json.dumps(report.document(), indent=1)
        asked.out.with_suffix(".json").write_text(document + "\n", encoding="utf-8")
    if asked.write is not None:
        write_block(asked.write, "soak", report.text())
    for one in report.grown:
        print(f"grows: {one.name}", file=sys.stderr)
    return 1 if report.grown or report.faults else 0


async def soak(folder: Path, plan: Plan) -> Report:
    """Let a server in `folder` work and say what became of it. A signal ends it early, with its report."""
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    where = machine.description()
    world = World(folder, plan)
    with world.server:
        world.furnish()
        load = Load(world.server, plan.over_http, str(world.tree))
        load.start()
        await _everything_began(world, load)
        samples = [sample async for sample in _samples(world, load, plan, over)]
        runs = _runs(world)
        await load.stop()
    found = trends(samples, after_s=plan.settled_s, day_s=plan.day_s)
    return Report(where, plan, samples, found, runs, load.told.faults)


async def _everything_began(world: World, load: Load) -> None:
    """Until every kind of visit was made and a run has ended."""
    async with asyncio.timeout(_PATIENCE_S):
        await load.visited.wait()
        while not _runs(world):
            await asyncio.sleep(0.1)


async def _samples(world: World, load: Load, plan: Plan, over: asyncio.Event) -> AsyncIterator[Sample]:
    """Look again and again, and say what was seen."""
    sampler = Sampler(world, load)
    for number in range(1, plan.looks + 1):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(plan.look_s):
                await over.wait()
                return
        sample = sampler.take(rows=number % _ROWS_EVERY == 0)
        print(_progress(sample), flush=True)
        yield sample


def _progress(sample: Sample) -> str:
    shown = (
        "published",
        "memory",
        "open files",
        "threads",
        "WAL",
        "database",
        "publish p50",
        "publish p99",
        "event loop stall",
        "processor",
    )
    numbers = ", ".join(f"{name} {sample.values.get(name, 0):.1f}" for name in shown)
    return f"{sample.at_s:6.0f} s: {numbers}" + (f", rows {sum(sample.rows.values())}" if sample.rows else "")


def _runs(world: World) -> float:
    """How many ended, by the server's own count."""
    with world.server.client() as client:
        page = client.get("/metrics").text
    counted = [line for line in page.splitlines() if line.startswith("dorkos_runs_finished_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=60.0, help="how long (60)")
    add("--rate", type=float, default=400.0, help="messages a second (400)")
    add("--over-http", type=float, default=10.0, metavar="RATE", help="of them over HTTP (10)")
    add("--every", type=float, default=10.0, metavar="SECONDS", help="between two looks (10)")
    add("--due", type=int, default=10, metavar="SECONDS", help="period of each schedule (10)")
    add("--schedules", type=int, default=50, help="how many there are (50)")
    add("--out", type=Path, metavar="FILE", help="write the report there, and FILE with .json")
    add("--write", type=Path, metavar="PAGE", help="put it in its place on a page: docs/performance.md")
    add("--again", type=Path, metavar="FILE", help="measure nothing: judge what an earlier run wrote as JSON")
    add("--folder", type=Path, help="where the data lies meanwhile (the temporary directory)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
