"""Programs that do not end as they should: each ends in the right state within its limit, memory flat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dorkos.clock import SystemClock
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunReason, RunState
from tests.pulse.workshop import Workshop, python, working, workshop

# Long beside what any of these may take, short beside for ever.
WITHIN_S = 60
SILENT = "import signal\nprint('ready')\nwhile True: signal.pause()"
# It is never silent and never ends: often enough for any idle limit, and it leaves the processor to others.
CHATTY = "import threading\nwhile not threading.Event().wait(0.02): print('still here', flush=True)"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse at work on SQLite, with the machine's clock."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        yield shop


@contextmanager
def watched_memory() -> Iterator[list[int]]:
    """How many bytes this process holds, looked at again and again."""
    loop, process = asyncio.get_running_loop(), psutil.Process()
    seen = [process.memory_info().rss]
    watching = True

    def look() -> None:
        if watching:
            seen.append(process.memory_info().rss)
            loop.call_later(0.02, look)

    look()
    try:
        yield seen
    finally:
        watching = False


async def test_a_program_that_falls_silent_is_ended(shop: Workshop) -> None:
    """No output for the idle limit is timeout / idle, long before the deadline."""
    async with asyncio.timeout(WITHIN_S):
        run = await shop.finished(await shop.queued(*python(SILENT), idle_timeout_ms=1000))
    assert (run.status, run.reason) == (RunState.TIMEOUT, RunReason.IDLE)
    assert run.error == "The run printed nothing for 1000 ms."


async def test_a_program_that_never_prints_is_silent_from_the_start(shop: Workshop) -> None:
    """The limit counts from the start."""
    async with asyncio.timeout(WITHIN_S):
        run = await shop.finished(
            await shop.queued(*python("import signal; signal.pause()"), idle_timeout_ms=1000)
        )
    assert (run.status, run.reason) == (RunState.TIMEOUT, RunReason.IDLE)


async def test_a_program_that_prints_is_not_silent(shop: Workshop) -> None:
    """It is ended by its deadline, however small the idle limit is beside it."""
    async with asyncio.timeout(WITHIN_S):
        run = await shop.finished(await shop.queued(*python(CHATTY), idle_timeout_ms=5000, max_runtime=6000))
    assert (run.status, run.reason) == (RunState.TIMEOUT, RunReason.DEADLINE)


@pytest.mark.parametrize("piece", ["b'x' * 65536", "bytes(range(256)) * 256"], ids=["text", "not_utf8"])
async def test_two_hundred_megabytes_of_output(shop: Workshop, piece: str) -> None:
    """It completes, what is kept stays within its limit, and the server's memory does not grow with it."""
    program = f"import os\npiece = {piece}\nfor _ in range(3200):\n  rest = piece\n"
    program += "  while rest: rest = rest[os.write(1, rest):]"
    async with asyncio.timeout(4 * WITHIN_S):
        with watched_memory() as seen:
            run = await shop.finished(await shop.queued(*python(program)))
    assert run.status is RunState.COMPLETED
    assert max(seen) - seen[0] < 96 * 2**20
    assert len((await shop.text(run.id)).encode()) < 11 * 2**20
