"""Loops start once, stop as often as one likes, and outlive a failing piece of work."""

from __future__ import annotations

import asyncio

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.lifecycle import Loop, Signal


class Counting(Loop):
    """Counts its work; fails on demand."""

    def __init__(self) -> None:
        """An interval so long that only waking makes it work again."""
        super().__init__("counting", interval_s=3600)
        self.count = 0
        self.fault: Exception | None = None

    async def work(self) -> float | None:
        """One piece of work."""
        self.count += 1
        if self.fault is not None:
            raise self.fault
        return None


async def test_a_woken_loop_works_again_before_its_interval() -> None:
    """Waking is enough; nobody waits an hour."""
    loop = Counting()
    loop.worked.enable()
    await loop.start()
    await loop.worked.wait()
    loop.wake()
    await loop.worked.wait()
    await loop.stop()

    assert loop.count == 2


async def test_a_failure_is_kept_for_readiness_and_cleared_by_the_next_success() -> None:
    """One bad piece of work neither ends the loop nor stays on its record."""
    loop = Counting()
    loop.worked.enable()
    loop.fault = ValueError("broken on purpose")
    await loop.start()
    await loop.worked.wait()
    while_broken = loop.failure

    loop.fault = None
    loop.wake()
    await loop.worked.wait()
    await loop.stop()

    assert while_broken == "ValueError; the log has the details"
    assert loop.failure is None


async def test_a_state_of_the_world_is_told_in_its_own_words() -> None:
    """A fault of ours may quote rows of the database; a refusal was written to be read."""
    loop = Counting()
    loop.worked.enable()
    loop.fault = DorkError(ErrorCode.DISK_FULL, "The disk is full.")
    await loop.start()
    await loop.worked.wait()
    await loop.stop()

    assert loop.failure == "The disk is full."


async def test_stopping_twice_and_before_the_start_is_harmless() -> None:
    """Shutdown paths may overlap."""
    await Counting().stop()
    loop = Counting()
    await loop.start()
    await asyncio.gather(loop.stop(), loop.stop())
    await loop.stop()


async def test_starting_twice_is_a_fault() -> None:
    """Two tasks of one loop would do everything twice."""
    loop = Counting()
    await loop.start()
    with pytest.raises(RuntimeError, match="started twice"):
        await loop.start()
    await loop.stop()


async def test_an_inert_signal_keeps_nothing() -> None:
    """In production nobody takes the values, so none may pile up."""
    signal: Signal[int] = Signal()
    signal.emit(1)
    signal.enable()
    signal.emit(2)

    assert await signal.wait() == 2
