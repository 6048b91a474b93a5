"""What adapters keep in the database, on both engines: who runs one, what it saw, and how it is doing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.relay.adapters import store
from dorkos.relay.adapters.mailbox_import import OldMail
from dorkos.relay.adapters.model import NotNow, Sent, Unknown
from dorkos.relay.adapters.outbox import LEASE, Outbox
from dorkos.relay.adapters.runner import AdapterRunner
from dorkos.setting_groups.relay import RelaySettings
from dorkos.testing import create_test_db
from dorkos.vocabulary import AdapterMarkKind, AdapterState, DeliveryStatus, RunState
from tests.relay.adapters.bench import SECRET, Bench, bench
from tests.relay.post_office import ADA, INBOX, assert_counters_hold, stored

HOOK = "relay.webhook.hook"
SETTINGS = {"outbound": {"url": "https://example.com", "secret": SECRET}}
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """An adapter that nobody runs."""
    async with bench(db, clock, tmp_path) as made:
        await made.add("hook", "webhook", SETTINGS)
        yield made


async def outbox(here: Bench, max_attempts: int = 3) -> Outbox:
    """The adapter's mailbox, as the adapter works through it."""
    adapter, _ = await here.adapters.get("hook")
    return Outbox(here.db, here.feed, adapter, RelaySettings(), max_attempts=max_attempts)


async def test_one_server_runs_an_adapter_until_its_lease_ends(here: Bench, clock: ManualClock) -> None:
    """Another takes over then; the one before learns it when it wants to renew."""

    async def take(owner: str) -> bool:
        return await here.db.write(lambda tx: store.take(tx, "hook", owner, MINUTE, alone=False))

    assert await take("a")
    assert await take("a")
    assert not await take("b")
    clock.advance(timedelta(seconds=40))
    assert await here.db.write(lambda tx: store.renew(tx, "a", ["hook"], MINUTE)) == {"hook"}
    clock.advance(timedelta(seconds=40))
    assert not await take("b")
    clock.advance(timedelta(seconds=30))
    assert await take("b")
    assert await here.db.write(lambda tx: store.renew(tx, "a", ["hook"], MINUTE)) == set()
    await here.db.write(lambda tx: store.set_state(tx, "hook", "a", AdapterState.ERROR, error="late"))
    await here.db.write(lambda tx: store.release(tx, "hook", "a"))
    status = await here.status("hook")
    assert (status.owner, status.error_count) == ("b", 0)
    await here.db.write(lambda tx: store.release(tx, "hook", "b"))
    assert await take("a")


async def test_a_server_that_is_alone_takes_over_at_once(here: Bench) -> None:
    """Whoever held it has ended: one file has one server."""
    assert await here.db.write(lambda tx: store.take(tx, "hook", "a", MINUTE, alone=True))
    assert await here.db.write(lambda tx: store.take(tx, "hook", "b", MINUTE, alone=True))


async def test_what_a_dead_server_was_sending_is_sent_by_the_next(here: Bench) -> None:
    """Without waiting for the lease of the message, once the adapter itself was taken over."""
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    first = await (await outbox(here)).next()
    adapter, _ = await here.adapters.get("hook")
    await here.db.write(lambda tx: store.give_back(tx, adapter))
    again = await (await outbox(here)).next()
    assert (again.id, again.message.id, again.attempts) == (first.id, sent.message_id, 2)
    # The one that was thought dead has nothing to say any more.
    await (await outbox(here)).settle(first, Unknown("?"))
    assert (await stored(here.db, sent.message_id)).statuses == [DeliveryStatus.PENDING]
    await (await outbox(here)).put_back(first)
    assert (await stored(here.db, sent.message_id)).events.count("relay.delivery.nacked") == 0
    await (await outbox(here)).settle(again, Sent())
    assert (await stored(here.db, sent.message_id)).statuses == [DeliveryStatus.DELIVERED]
    await assert_counters_hold(here.db)


async def test_attempts_come_later_each_time_and_end(here: Bench, clock: ManualClock) -> None:
    """5 seconds, then 10; then a dead letter that says what the last attempt met."""
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    box = await outbox(here)
    for wait_s in (5, 10):
        held = await box.next()
        await box.settle(held, NotNow("no answer", fault=False))
        clock.advance(timedelta(seconds=wait_s) - timedelta(milliseconds=1))
        claim = await here.office.relay.claim(OPERATOR, HOOK, limit=1)
        assert claim.deliveries == ()
        clock.advance(timedelta(milliseconds=1))
    await box.settle(await box.next(), NotNow("no answer", fault=False))
    rows = await stored(here.db, sent.message_id)
    assert (rows.statuses, rows.reasons) == ([DeliveryStatus.FAILED], ["adapter_failed"])
    assert (await here.status("hook")).error_count == 3
    await assert_counters_hold(here.db)


async def test_a_message_that_nobody_settles_is_sent_again(here: Bench, clock: ManualClock) -> None:
    """When the lease ends, as everywhere."""
    await here.office.send("one", to=HOOK, caller=ADA)
    first = await (await outbox(here)).next()
    clock.advance(LEASE + timedelta(seconds=1))
    assert (await (await outbox(here)).next()).id == first.id


async def test_a_mark_is_made_once_and_forgotten_after_days(here: Bench, clock: ManualClock) -> None:
    """A nonce, the number of a message, or a delivery that was begun to be sent."""

    async def mark(name: str) -> bool:
        return await here.db.write(lambda tx: store.mark(tx, "hook", AdapterMarkKind.RECEIVED, name))

    assert [await mark("n1"), await mark("n1"), await mark("n2")] == [True, False, True]
    await here.db.write(lambda tx: store.unmark(tx, "hook", "n2"))
    assert await mark("n2")
    clock.advance(store.MARKS_KEPT - timedelta(seconds=1))
    assert await here.db.write(store.forget_marks) == 0
    clock.advance(timedelta(seconds=2))
    assert await here.db.write(lambda tx: store.forget_marks(tx, limit=1)) == 1
    assert await here.db.write(store.forget_marks) == 1
    assert await mark("n1")


async def test_two_servers_run_an_adapter_once(clock: ManualClock, tmp_path: Path) -> None:
    """The second takes over when the first stops in good order. (One file has one server.)"""
    async with (
        create_test_db("postgresql", clock=clock) as db,
        bench(db, clock, tmp_path) as one,
        bench(db, clock, tmp_path, owner="another-node") as other,
    ):
        await one.add("hook", "webhook", SETTINGS)
        await one.adapters.supervisor.work()
        await other.adapters.supervisor.work()
        assert one.adapters.supervisor.running("hook") is not None
        assert other.adapters.supervisor.running("hook") is None
        await one.adapters.stop()
        await other.adapters.supervisor.work()
        assert other.adapters.supervisor.running("hook") is not None


async def test_an_adapter_that_ended_by_a_fault_is_started_anew(
    here: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it was: one that stands still without a word would be the worst."""

    async def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr(AdapterRunner, "_tell", broken)
        await here.adapters.supervisor.work()
        first = here.adapters.supervisor.running("hook")
        assert first is not None
        task = first._task
        assert task is not None
        await asyncio.wait({task})
    await here.adapters.supervisor.work()
    second = here.adapters.supervisor.running("hook")
    assert second is not None
    assert second is not first


@pytest.mark.parametrize("kind", ["agent", "claude-code"])
async def test_messages_start_no_runs_while_that_adapter_is_off(here: Bench, kind: str) -> None:
    """By our name and by the lineage's; without any such adapter they do."""
    agent = await here.office.open_for_agent("worker")
    await here.add("runs", kind, {"maxConcurrent": 3}, on=False)
    await here.office.send("work", to=agent.subject)
    assert await here.office.start_run(agent) is None
    await here.adapters.switch(OPERATOR, "runs", on=True)
    await here.adapters.supervisor.work()
    await here.until_state("runs", AdapterState.CONNECTED)
    run = await here.office.start_run(agent)
    assert run is not None
    await here.office.finish_run(run, RunState.COMPLETED)
    await here.adapters.remove(OPERATOR, "runs")
    await here.office.send("work", to=agent.subject)
    assert await here.office.start_run(agent) is not None


async def test_what_is_brought_over_from_files_does_not_go_out_again(here: Bench) -> None:
    """It went out where it came from; an adapter that listens to the mailbox gets what is new."""
    await here.office.open()
    await here.adapters.update(OPERATOR, "hook", {"outbound": {"subjects": [INBOX]}})
    mail = [
        OldMail(name=f"{status}.json", status=status, payload='"old"', created_at="2025-12-01T10:00:00Z")
        for status in DeliveryStatus
    ]
    report = await here.adapters.mailboxes.bring(INBOX, mail)
    assert (report.imported, report.present, report.refused) == (3, 0, ())
    assert (await here.adapters.mailboxes.bring(INBOX, mail)).present == 3
    waiting = {each.subject: each.pending_count for each in await here.office.relay.endpoints()}
    assert waiting == {INBOX: 1, HOOK: 0}
    new = await here.office.send("new", caller=ADA)
    assert [each.subject for each in new.recipients] == [INBOX, HOOK]
    await assert_counters_hold(here.db)


async def test_the_mailbox_of_an_adapter_is_closed_with_it(here: Bench) -> None:
    """Not by hand: the adapter would stand without one."""
    with pytest.raises(DorkError) as refused:
        await here.office.relay.close(OPERATOR, HOOK)
    assert refused.value.code is ErrorCode.VALIDATION_FAILED
    await here.adapters.remove(OPERATOR, "hook")
    assert await here.office.relay.endpoints() == []
