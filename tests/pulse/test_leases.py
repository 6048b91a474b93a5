"""Holding a lease by the monotonic clock, and what happens to a run whose server cannot renew it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from dorkos.clock import ManualClock, SystemClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.pulse.model import Claim
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunReason, RunState
from tests.pulse.workshop import LEASE, Workshop, a_node, python, working, workshop

FOREVER = "import signal\nprint('ready')\nwhile True: signal.pause()"


@pytest.fixture
async def db(clock: ManualClock) -> AsyncIterator[Database]:
    """SQLite, whose time is the manual clock's."""
    async with create_test_db(clock=clock) as database:
        yield database


async def test_without_a_renewal_the_program_is_killed_before_the_lease_ends(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """At nine tenths of the lease without a renewal the processes are killed, and no state is written."""
    shop = workshop(db, clock, tmp_path)
    shop.pulse.executor.finished.enable()
    await shop.feed.start()
    await shop.pulse.executor.start()
    run_id = await shop.queued(*python(FOREVER))
    await shop.printed(run_id, "ready")
    run = await shop.store.get_run(run_id)

    clock.advance(timedelta(seconds=27.5))
    assert await shop.pulse.executor.finished.wait() == run_id
    assert await shop.store.get_run(run_id) == run
    assert run.status is RunState.RUNNING
    assert run.lease_expires_at is not None
    assert clock.now() < run.lease_expires_at
    assert run.pid is not None
    assert not psutil.pid_exists(run.pid)
    await shop.pulse.stop()
    await shop.feed.stop()


async def test_a_renewal_moves_the_end(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With renewals a run outlives any number of leases."""
    monkeypatch.setattr("dorkos.pulse.execution._WATCH_S", 0)  # It looks whenever anything else happens.
    shop = workshop(db, clock, tmp_path)
    await shop.feed.start()
    await shop.pulse.executor.start()
    run_id = await shop.queued(*python("import sys\nprint('ready')\nsys.stdin.read()\n" + FOREVER))
    await shop.printed(run_id, "ready")
    for _ in range(5):
        clock.advance(timedelta(seconds=20))
        await shop.pulse.executor.heartbeat.work()
    assert run_id in shop.pulse.executor.active
    run = await shop.store.get_run(run_id)
    assert run.lease_expires_at == clock.now() + timedelta(seconds=30)
    await shop.pulse.stop()
    await shop.feed.stop()


async def test_a_run_whose_lease_was_taken_is_killed_and_not_ended_twice(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """The former holder notices by its heartbeat, kills the processes, and writes no state."""
    shop = workshop(db, clock, tmp_path)
    shop.pulse.executor.finished.enable()
    await shop.feed.start()
    await shop.pulse.executor.start()
    run_id = await shop.queued(*python(FOREVER))
    await shop.printed(run_id, "ready")
    run = await shop.store.get_run(run_id)
    assert run.lease_expires_at is not None
    (held,) = await shop.store.expired_runs(run.lease_expires_at)
    other = new_id()
    assert await shop.store.take_over(held, lease_token=other, node=a_node(), lease=LEASE)

    await shop.pulse.executor.heartbeat.work()
    assert await shop.pulse.executor.finished.wait() == run_id
    after = await shop.store.get_run(run_id)
    assert (after.status, after.lease_token) == (RunState.RUNNING, other)
    assert run.pid is not None
    assert not psutil.pid_exists(run.pid)
    await shop.pulse.stop()
    await shop.feed.stop()


async def test_a_claim_of_unknown_outcome_starts_nothing(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after COMMIT: the run is claimed in the database, but nothing runs it twice."""
    shop = workshop(db, clock, tmp_path)
    sign = tmp_path / "ran"
    run_id = await shop.queued(*python(f"open({str(sign)!r}, 'w')"))
    claim_runs = shop.store.claim_runs

    async def unknown(*arguments: Any, **named: Any) -> list[Claim]:
        await claim_runs(*arguments, **named)
        raise DorkError(ErrorCode.OUTCOME_UNKNOWN, "The connection broke during COMMIT.")

    monkeypatch.setattr(shop.store, "claim_runs", unknown)
    with pytest.raises(DorkError):
        await shop.pulse.executor.work()
    monkeypatch.undo()
    await shop.pulse.executor.work()
    assert shop.pulse.executor.active == {}
    assert (await shop.store.get_run(run_id)).status is RunState.RUNNING

    clock.advance(timedelta(seconds=30))
    await shop.pulse.rescue.work()
    assert (await shop.store.get_run(run_id)).status is RunState.INTERRUPTED
    assert not sign.exists()


@pytest.mark.parametrize("code", [ErrorCode.DATABASE_BUSY, ErrorCode.DISK_FULL, ErrorCode.OUTCOME_UNKNOWN])
async def test_a_passing_fault_loses_neither_output_nor_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ErrorCode
) -> None:
    """While the lease is held, what could not be stored is stored again; nothing is stored twice."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        for name in ("append_output", "finish_run"):
            _fail_once(shop, monkeypatch, name, code)
        run = await shop.finished(await shop.queued(*python("print('kept')")))
        assert run.status is RunState.COMPLETED
        assert await shop.text(run.id) == "kept\n"
        assert len(await shop.events("pulse.run.finished")) == 1


def _fail_once(shop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str, code: ErrorCode) -> None:
    real, failed = getattr(shop.store, name), False

    async def failing(*arguments: Any) -> bool:
        nonlocal failed
        if not failed:
            failed = True
            if code is ErrorCode.OUTCOME_UNKNOWN:  # It was stored after all.
                await real(*arguments)
            raise DorkError(code, "This will pass.")
        answer: bool = await real(*arguments)
        return answer

    monkeypatch.setattr(shop.store, name, failing)


async def test_a_run_cancelled_before_its_start_is_not_started(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Between the claim and the start of the program a cancel is enough."""
    shop = workshop(db, clock, tmp_path)
    shop.pulse.executor.finished.enable()
    sign = tmp_path / "ran"
    run_id = await shop.queued(*python(f"open({str(sign)!r}, 'w')"))
    await shop.pulse.executor.work()
    shop.pulse.executor.cancel(run_id)
    await shop.pulse.executor.finished.wait()
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.CANCEL_REQUESTED)
    assert not sign.exists()
