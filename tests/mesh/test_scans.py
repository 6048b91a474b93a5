"""Walks run beside the loop and cannot pile up."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.discovery import Ground, Limits, Walk
from dorkos.mesh.model import Candidate, Hints, Progress, SearchEnd, Truncation
from dorkos.mesh.scans import Scans
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime
from tests.mesh.fleet import make_project

NOWHERE = Ground(denied=(), registered=(), data_directory="/data", home="/home")


@dataclass
class Gate:
    """A strategy that waits in the second folder it sees, as a disk does that went away."""

    name: str = "gate"
    markers: frozenset[str] = frozenset({"CLAUDE.md"})
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)
    looked: int = 0

    def look(self, folder: Folder) -> Hints | None:
        self.looked += 1
        if self.looked > 1:
            self.reached.set()
            assert self.opened.wait(60)
        return Hints("x", AgentRuntime.OTHER)


def walk_of(gate: Gate, root: Path, *, seconds: float = 60) -> Walk:
    """A walk of the root and the two folders below it."""
    for folder in ("", "below", "below/deeper"):
        make_project(root / folder, claude="Words.")
    return Walk(
        [root],
        strategies=(gate,),
        ground=NOWHERE,
        limits=Limits(seconds=seconds),
        clock=ManualClock(),
    )


async def watched(scans: Scans, walk: Walk) -> tuple[list[Candidate], SearchEnd]:
    """What a scan of the walk gives: the candidates, and the end, behind which nothing comes."""
    found = [one async for one in scans.watch(walk)]
    assert isinstance(found[-1], SearchEnd)
    return [one for one in found if isinstance(one, Candidate)], found[-1]


async def reached(gate: Gate) -> None:
    """The walk waits at the gate."""
    assert await asyncio.to_thread(gate.reached.wait, 60)


async def test_the_loop_goes_on_during_a_walk(tmp_path: Path) -> None:
    """The walk hangs in its thread while the loop opens the gate for it."""
    gate = Gate()
    scan = asyncio.create_task(watched(Scans(), walk_of(gate, tmp_path)))

    await reached(gate)
    gate.opened.set()

    candidates, end = await scan
    assert len(candidates) == 3
    assert end == SearchEnd(Progress(directories=3, waiting=0, candidates=3, problems=0), None)


async def test_a_candidate_is_given_while_the_walk_goes_on(tmp_path: Path) -> None:
    """And then word of how far it is, since nothing else comes."""
    gate = Gate()
    findings = Scans().watch(walk_of(gate, tmp_path))

    # On a busy machine word of how far it is may come before anything was found.
    first = await anext(one async for one in findings if not isinstance(one, Progress))
    await reached(gate)
    then = await anext(findings)

    assert isinstance(first, Candidate)
    assert first.path == str(tmp_path)
    assert then == Progress(directories=2, waiting=0, candidates=1, problems=0)
    gate.opened.set()
    assert [type(one) async for one in findings if not isinstance(one, Progress)] == [
        Candidate,
        Candidate,
        SearchEnd,
    ]


async def test_a_walk_that_does_not_come_back_is_given_up(tmp_path: Path) -> None:
    """Its caller gets what was found, marked as cut off by time."""
    gate = Gate()
    gate.looked = 1  # It waits in the first folder already.
    walk = walk_of(gate, tmp_path, seconds=0.01)

    candidates, end = await watched(Scans(grace_s=0), walk)

    assert (candidates, end.truncated) == ([], Truncation.TIME)
    gate.opened.set()


async def test_cancelling_the_caller_ends_the_walk(tmp_path: Path) -> None:
    """A client that went away costs no further reading."""
    gate = Gate()
    scans, walk = Scans(), walk_of(gate, tmp_path)
    scan = asyncio.create_task(watched(scans, walk))
    await reached(gate)

    scan.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scan
    gate.opened.set()

    for thread in threading.enumerate():
        if thread.name == "dorkos-discovery":
            await asyncio.to_thread(thread.join, 60)
    assert walk.truncated is Truncation.CANCELLED


async def test_closing_what_is_watched_ends_the_walk(tmp_path: Path) -> None:
    """A stream that nobody reads any more costs no further reading either."""
    gate = Gate()
    walk = walk_of(gate, tmp_path)
    findings = Scans().watch(walk)
    await anext(findings)
    await reached(gate)

    await findings.aclose()
    gate.opened.set()

    for thread in threading.enumerate():
        if thread.name == "dorkos-discovery":
            await asyncio.to_thread(thread.join, 60)
    assert walk.truncated is Truncation.CANCELLED


async def test_stopping_ends_the_walks_at_work(tmp_path: Path) -> None:
    """A shutdown need not wait for a long one; its caller still gets an answer."""
    gate = Gate()
    scans = Scans()
    scan = asyncio.create_task(watched(scans, walk_of(gate, tmp_path)))
    await reached(gate)

    scans.stop()
    gate.opened.set()

    candidates, end = await scan
    assert (len(candidates), end.truncated) == (2, Truncation.CANCELLED)


async def test_no_more_than_two_walks_hang_at_once(tmp_path: Path) -> None:
    """A third is refused with a hint, instead of holding another thread."""
    scans, gates = Scans(), (Gate(), Gate())
    running = [asyncio.create_task(watched(scans, walk_of(gate, tmp_path))) for gate in gates]
    for gate in gates:
        await reached(gate)

    with pytest.raises(DorkError) as refusal:
        await watched(scans, walk_of(Gate(), tmp_path, seconds=0.01))
    assert refusal.value.code is ErrorCode.NOT_READY

    for gate in gates:
        gate.opened.set()
    for scan in running:
        assert len((await scan)[0]) == 3


async def test_a_fault_in_a_walk_comes_out_and_frees_its_place(tmp_path: Path) -> None:
    """No fault is swallowed by the thread it happened in."""

    class Broken(ManualClock):
        def monotonic(self) -> float:
            raise RuntimeError("no time")

    scans = Scans()
    for _ in range(3):
        walk = Walk([tmp_path], strategies=(), ground=NOWHERE, limits=Limits(), clock=Broken())
        with pytest.raises(RuntimeError, match="no time"):
            await watched(scans, walk)
