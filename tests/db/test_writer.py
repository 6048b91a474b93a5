"""The thread that writes goes on, whatever comes of a commit and of those who wait for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dorkos.db.batch import Job, Outcome
from dorkos.db.database import Transaction
from dorkos.db.writer import Writer


def nothing(_tx: Transaction) -> str:
    """A change that is never run, since no test here has a database."""
    return "not run"


async def test_a_commit_that_ends_in_no_known_way_is_told_and_the_next_one_is_made() -> None:
    """All of that commit hear of it; nobody waits for a thread that is gone."""
    ends = [SystemExit(), MemoryError()]

    def apply(batch: list[Job]) -> list[Outcome]:
        if ends:
            raise ends.pop()
        return [Outcome(value="stored") for _ in batch]

    writer = Writer(apply, lambda: None)
    writer.start()
    async with asyncio.timeout(30):
        for _ in range(2):
            with pytest.raises(RuntimeError, match="The commit ended with"):
                await writer.write(nothing)
        assert await writer.write(nothing) == "stored"
        await writer.stop()


async def test_a_change_whose_event_loop_is_gone_keeps_nobody_waiting() -> None:
    """It is stored all the same, and others of its commit are answered."""
    release = threading.Event()
    applied: list[int] = []

    def apply(batch: list[Job]) -> list[Outcome]:
        release.wait(30)
        applied.append(len(batch))
        return [Outcome(value="stored") for _ in batch]

    async def leave() -> None:
        await asyncio.wait([asyncio.ensure_future(writer.write(nothing))], timeout=0)

    writer = Writer(apply, lambda: None)
    writer.start()
    await asyncio.to_thread(lambda: asyncio.run(leave()))
    mine = asyncio.ensure_future(writer.write(nothing))
    await asyncio.wait([mine], timeout=0)
    release.set()
    async with asyncio.timeout(30):
        assert await mine == "stored"
        await writer.stop()
    assert sum(applied) == 2
