"""Rescue: what is ended, what is killed, and what is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from dorkos.clock import ManualClock, SystemClock
from dorkos.node import Node, process_started_at, record_start, record_stop
from dorkos.pulse.model import Claim, Outcome
from dorkos.pulse.processes import is_same_process, kill_orphan, server_is_gone
from dorkos.pulse.rescue import Rescue
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunReason, RunState
from tests.pulse.workshop import LEASE, Workshop, a_node, python, workshop


@pytest.fixture
async def shop(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse on SQLite, its loops standing still."""
    async with create_test_db(clock=clock) as db:
        yield workshop(db, clock, tmp_path)


@pytest.fixture
def orphan() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group, as a run's program does."""
    process = subprocess.Popen(python("import signal; signal.pause()"), start_new_session=True)
    with process:
        yield process
        process.kill()


def in_a_session(program: str) -> subprocess.Popen[bytes]:
    """A program that leads a group, with both pipes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(python(program), start_new_session=True, stdin=pipe, stdout=pipe)


@contextmanager
def carrying(run_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own that was started for this run."""
    given = {**os.environ, "DORKOS_RUN_ID": run_id}
    argv = python("import signal; signal.pause()")
    with subprocess.Popen(argv, start_new_session=True, env=given) as process:
        try:
            yield process
        finally:
            process.kill()


async def claimed(shop: Workshop, process: subprocess.Popen[bytes] | None = None) -> Claim:
    """A run held by the workshop's server, with the process that does its work."""
    await shop.queued("true")
    (claim,) = await shop.claimed()
    if process is not None:
        started_at = process_started_at(process.pid)
        assert await shop.store.record_process(claim, pid=process.pid, started_at=started_at)
    return claim


async def ended(shop: Workshop, claim: Claim) -> tuple[RunState, RunReason | None]:
    """Where the run stands."""
    run = await shop.store.get_run(claim.run.id)
    return run.status, run.reason


def rescuer(shop: Workshop, node: Node | None = None) -> Rescue:
    """Rescue on another server of the same machine."""
    return Rescue(shop.store, shop.pulse.runtimes, node=node or a_node(), lease_s=30)


async def test_a_live_lease_is_left_alone(shop: Workshop, clock: ManualClock) -> None:
    """Until the lease has expired, nobody else touches the run."""
    claim = await claimed(shop)
    clock.advance(LEASE - timedelta(milliseconds=1))
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.RUNNING, None)


async def test_an_orphan_is_killed(
    shop: Workshop, clock: ManualClock, orphan: subprocess.Popen[bytes]
) -> None:
    """The very process that was recorded is killed with its group; then the run is interrupted."""
    claim = await claimed(shop, orphan)
    clock.advance(LEASE)
    await rescuer(shop).work()
    assert orphan.wait(30) == -9
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)
    late = Outcome(RunState.COMPLETED)
    assert not await shop.store.finish_run(claim.run, claim.lease_token, late)


async def test_what_a_program_left_behind_in_its_group_is_killed(shop: Workshop, clock: ManualClock) -> None:
    """The program ended with its server's pipes; its child must not work on beside a second attempt."""
    program = (
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
        "sys.stdin.read()\n"
    )
    leader = in_a_session(program)
    assert leader.stdin is not None
    assert leader.stdout is not None
    claim = await claimed(shop, leader)
    child = int(leader.stdout.readline())
    leader.stdin.close()
    assert leader.wait(30) == 0
    leader.stdout.close()
    clock.advance(LEASE)
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_what_left_the_group_is_killed_as_well(shop: Workshop, clock: ManualClock) -> None:
    """It is found by the id of the run that it carries, though nothing was recorded; others are spared."""
    claim = await claimed(shop)
    with carrying(claim.run.id) as stray, carrying(claim.run.id + "X") as another:
        clock.advance(LEASE)
        await rescuer(shop).work()
        assert stray.wait(30) == -signal.SIGKILL
        assert another.poll() is None
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)


async def test_another_process_with_the_same_id_is_spared(
    shop: Workshop, clock: ManualClock, orphan: subprocess.Popen[bytes]
) -> None:
    """A process that started at another time is somebody else's: the run is over, the process lives."""
    claim = await claimed(shop)
    assert await shop.store.record_process(claim, pid=orphan.pid, started_at="12345.00")
    clock.advance(LEASE)
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)
    assert orphan.poll() is None


async def test_a_process_of_another_boot_is_over(
    shop: Workshop, clock: ManualClock, orphan: subprocess.Popen[bytes]
) -> None:
    """After the machine was restarted its process ids mean nothing: over, and nothing is killed."""
    claim = await claimed(shop, orphan)
    clock.advance(LEASE)
    await rescuer(shop, a_node(boot_id="a later boot")).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)
    assert orphan.poll() is None


async def test_another_machine_proves_nothing(
    shop: Workshop, clock: ManualClock, orphan: subprocess.Popen[bytes]
) -> None:
    """From another machine it cannot be told whether the program still runs: unconfirmed."""
    claim = await claimed(shop, orphan)
    clock.advance(LEASE)
    await rescuer(shop, a_node(host="another-host")).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)
    assert orphan.poll() is None


async def test_without_a_recorded_process_nothing_is_proved(shop: Workshop, clock: ManualClock) -> None:
    """A server that died between claim and start may have started the program: unconfirmed."""
    claim = await claimed(shop)
    clock.advance(LEASE)
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)


async def test_a_server_that_comes_back_in_time_keeps_its_run(
    shop: Workshop, clock: ManualClock, orphan: subprocess.Popen[bytes]
) -> None:
    """A lease renewed between looking and taking over is not taken, and the process lives."""
    claim = await claimed(shop, orphan)
    clock.advance(LEASE)
    (held,) = await shop.store.expired_runs(clock.now())
    await shop.store.renew_leases([claim.lease_token], lease=LEASE)
    await rescuer(shop)._rescue(held)
    assert await ended(shop, claim) == (RunState.RUNNING, None)
    assert orphan.poll() is None


async def test_two_rescuers_end_a_run_once(shop: Workshop, clock: ManualClock) -> None:
    """The second finds nothing left to do; one event."""
    await claimed(shop)
    clock.advance(LEASE)
    for _ in range(2):
        await rescuer(shop).work()
    assert len(await shop.events("pulse.run.finished")) == 1


async def test_runs_of_a_dead_server_do_not_wait_for_their_lease(
    shop: Workshop, orphan: subprocess.Popen[bytes]
) -> None:
    """A server of this machine and boot whose process is gone is dead: its runs are ended at the start."""
    claim = await claimed(shop, orphan)
    await shop.db.write(lambda tx: record_start(tx, shop.node))
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)
    assert orphan.wait(30) == -9


async def test_runs_of_a_living_server_wait_for_their_lease(
    clock: ManualClock, tmp_path: Path, orphan: subprocess.Popen[bytes]
) -> None:
    """A second server on the machine takes nothing from one that lives."""
    async with create_test_db(clock=SystemClock()) as db:
        # The orphan stands for the other server: its process runs.
        shop = workshop(db, clock, tmp_path, node=a_node(pid=orphan.pid))
        claim = await claimed(shop)
        await db.write(lambda tx: record_start(tx, shop.node))
        await rescuer(shop).work()
        assert await ended(shop, claim) == (RunState.RUNNING, None)


@pytest.mark.parametrize("changes", [{"host": "another-host"}, {"boot_id": "another boot"}])
async def test_servers_elsewhere_wait_for_their_lease(shop: Workshop, changes: dict[str, Any]) -> None:
    """On another machine or in another boot a missing process id proves nothing before the lease expires."""
    claim = await claimed(shop)
    await shop.db.write(lambda tx: record_start(tx, shop.node))
    await rescuer(shop, replace(a_node(), **changes)).work()
    assert await ended(shop, claim) == (RunState.RUNNING, None)


async def test_a_server_that_stopped_leaves_nothing(shop: Workshop, orphan: subprocess.Popen[bytes]) -> None:
    """A server that said goodbye holds nothing, even if its process id is in use."""
    shop.node = a_node(pid=orphan.pid)
    claim = await claimed(shop)
    await shop.db.write(lambda tx: record_start(tx, shop.node))
    await shop.db.write(lambda tx: record_stop(tx, shop.node))
    await rescuer(shop).work()
    assert await ended(shop, claim) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)


def test_a_server_is_gone_only_when_proved(orphan: subprocess.Popen[bytes]) -> None:
    """Gone: the id is free, is ours, or belongs to a process that began long after. Otherwise not."""
    now = SystemClock().now()
    assert server_is_gone(a_node().pid, now)
    assert server_is_gone(os.getpid(), now)
    assert server_is_gone(orphan.pid, now - timedelta(hours=1))
    assert not server_is_gone(orphan.pid, now)
    # The registration may have been written by a clock that is somewhat behind.
    assert not server_is_gone(orphan.pid, now - timedelta(seconds=60))


async def test_a_process_that_waits_to_be_reaped_is_over(orphan: subprocess.Popen[bytes]) -> None:
    """A dead process that nobody reaps is not waited for."""
    started_at = process_started_at(orphan.pid)
    assert started_at is not None
    assert is_same_process(orphan.pid, started_at)
    assert await kill_orphan(orphan.pid, started_at)
    assert not is_same_process(orphan.pid, started_at)
    assert orphan.wait(30) == -9
