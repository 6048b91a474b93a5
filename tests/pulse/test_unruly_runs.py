"""Programs that do what programs must not: each run ends in the right state, within its limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from dorkos.clock import SystemClock
from dorkos.pulse.execution import Cause
from dorkos.pulse.model import Run
from dorkos.testing import create_test_db
from dorkos.vocabulary import OutputStream, RunReason, RunState
from tests.pulse.workshop import Workshop, python, working, workshop

MEGABYTE = 1024 * 1024
# It asks to be told when the deadline has come, and says then that all is well.
SMUG = """
import signal, sys, threading
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready")
threading.Event().wait()
"""
# It hears nothing, and has children that hear nothing either.
CROWD = """
import os, signal, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.write(1, b"%d\\n" % os.getpid())
        threading.Event().wait()
os.write(1, b"ready\\n")
threading.Event().wait()
"""
FLOOD = """
import os, sys
line = b"all work and no play \\xff\\xfe makes \\xc3\\xbc dull \\xf0\\x9f\\x98\\x80\\n" * 2000
left = {count} * 1024 * 1024
while left > 0:
    left -= sys.stdout.buffer.write(line)
sys.stdout.buffer.write(b"the end\\n")
"""


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workshop]:
    """A Pulse at work that waits half a second between asking and killing."""
    monkeypatch.setattr("dorkos.pulse.execution.GRACE_S", 0.5)
    clock = SystemClock()
    async with (
        create_test_db(clock=clock) as db,
        working(
            workshop(db, clock, tmp_path, max_output_bytes=MEGABYTE, redact_patterns=["sk-live-*"])
        ) as shop,
    ):
        yield shop


async def at_the_deadline(shop: Workshop, program: str, cause: Cause = Cause.DEADLINE) -> Run:
    """The run of a program that has said that it is ready when its time is over."""
    run_id = await shop.queued(*python(program))
    await shop.printed(run_id, "ready")
    shop.pulse.executor.active[run_id].end(cause)
    return await shop.finished(run_id)


async def test_to_end_well_after_the_deadline_is_too_late(shop: Workshop) -> None:
    """The exit code is told, and the run has timed out all the same."""
    run = await at_the_deadline(shop, SMUG)
    assert (run.status, run.reason, run.exit_code) == (RunState.TIMEOUT, RunReason.DEADLINE, 0)
    assert "took longer than its limit" in (run.error or "")


@pytest.mark.parametrize("cause", [Cause.DEADLINE, Cause.IDLE, Cause.CANCEL])
async def test_whoever_hears_nothing_is_killed_with_all_its_children(shop: Workshop, cause: Cause) -> None:
    """At either limit, and when it is cancelled: nothing of it is left when the run has ended."""
    run = await at_the_deadline(shop, CROWD, cause)
    state = RunState.CANCELLED if cause is Cause.CANCEL else RunState.TIMEOUT
    assert (run.status, run.exit_code) == (state, None)
    children = [int(word) for word in (run.output or "").split() if word.isdigit()]
    assert len(children) == 3
    for child in children:
        await asyncio.to_thread(_until_gone, child)


@pytest.mark.timeout(300)
async def test_two_hundred_megabytes_leave_the_memory_as_it_was(shop: Workshop) -> None:
    """What is kept is bounded, the end of it is shown, and bytes that are no text are told as such."""
    itself = psutil.Process()
    warm = await shop.finished(await shop.queued(*python(FLOOD.format(count=4))))
    assert warm.status is RunState.COMPLETED
    before = itself.memory_info().rss
    run_id, peak = await shop.queued(*python(FLOOD.format(count=200))), before
    running = asyncio.ensure_future(shop.finished(run_id, within_s=280))
    while not running.done():
        await asyncio.wait([running], timeout=0.05)
        peak = max(peak, itself.memory_info().rss)
    run = running.result()
    assert (run.status, run.exit_code) == (RunState.COMPLETED, 0)
    assert (run.output or "").endswith("makes ü dull \U0001f600\nthe end\n")
    assert "\ufffd\ufffd makes" in (run.output or "")
    kept = await shop.store.read_output(run.id, after=0, limit=500)
    assert sum(len(chunk.text.encode()) for chunk in kept.chunks) < MEGABYTE + 1000
    assert kept.chunks[-1].stream is OutputStream.SYSTEM
    assert peak - before < 40 * MEGABYTE, f"{(peak - before) / MEGABYTE:.0f} MB more"


def _until_gone(pid: int) -> None:
    """Return once it does nothing any more: what was killed is over a moment later, on a busy machine a while
    later. Then it may still wait for somebody to take note of it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(timeout=30)
