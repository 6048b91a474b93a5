"""Messages that start runs, on both engines: in order, one at a time, settled when the run ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from functools import partial

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.telemetry import traceparent
from dorkos.vocabulary import DeliveryStatus, RunReason, RunState
from tests.relay.post_office import PostOffice, assert_counters_hold, post_office, stored


def meet(meeting: threading.Barrier) -> None:
    """Wait for the other side, which must not come: only a missing lock lets both in at once."""
    with contextlib.suppress(threading.BrokenBarrierError):
        meeting.wait(0.5)


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with three attempts a message."""
    return post_office(db, clock, max_attempts=3)


async def test_a_message_starts_a_run(office: PostOffice) -> None:
    """The run gets the text as prompt and the envelope as environment, and holds the delivery."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send("do it", to=agent.subject, reply_to="relay.human.ada")
    run = await office.start_run(agent)
    assert run is not None
    request = office.runs.queued[run.run_id or ""]

    assert request.agent_id == agent.agent_id
    assert (request.prompt, request.chain_id) == ("do it", receipt.message_id)
    assert request.context == {
        "TRACEPARENT": traceparent(receipt.chain_id, receipt.message_id),
        "DORKOS_MESSAGE_ID": receipt.message_id,
        "DORKOS_MESSAGE_SUBJECT": agent.subject,
        "DORKOS_MESSAGE_FROM": "relay.human.bob",
        "DORKOS_REPLY_TO": "relay.human.ada",
    }
    (delivery,) = (await office.relay.message(receipt.message_id)).deliveries
    assert (delivery.id, delivery.run_id) == (request.delivery_id, run.run_id)
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 1)


async def test_an_answer_goes_to_the_sender_unless_told_otherwise(office: PostOffice) -> None:
    """Without an answer address the run is given the sender's."""
    agent = await office.open_for_agent("worker")
    await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None

    assert office.runs.queued[run.run_id or ""].context["DORKOS_REPLY_TO"] == "relay.human.bob"


async def test_one_run_at_a_time_in_order(office: PostOffice) -> None:
    """The second message waits until the run of the first has ended."""
    agent = await office.open_for_agent("worker")
    sent = [(await office.send(str(number), to=agent.subject)).message_id for number in range(3)]
    handled = []
    for _ in sent:
        run = await office.start_run(agent)
        assert run is not None
        assert await office.start_run(agent) is None
        handled.append(office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"])
        await office.finish_run(run)

    assert handled == sent
    assert await office.start_run(agent) is None
    await assert_counters_hold(office.db)


async def test_two_servers_do_not_start_two_runs(office: PostOffice, clock: ManualClock) -> None:
    """Loops of several servers at once: still one run in the mailbox."""
    agent = await office.open_for_agent("worker")
    for number in range(5):
        await office.send(number, to=agent.subject)
    servers = [post_office(office.db, clock) for _ in range(6)]
    await asyncio.gather(*(server.relay.message_runs.work() for server in servers))

    assert sum(len(server.runs.queued) for server in servers) == 1


async def test_a_run_that_is_just_being_queued_counts(office: PostOffice, clock: ManualClock) -> None:
    """A second server that looks between the first one's claim and its commit must not find the next one."""
    agent = await office.open_for_agent("worker")
    for number in range(2):
        await office.send(number, to=agent.subject)
    meeting = threading.Barrier(2)
    servers = [post_office(office.db, clock) for _ in range(2)]
    for server in servers:
        server.runs.before_commit = partial(meet, meeting)
    await asyncio.gather(*(server.relay.message_runs.work() for server in servers))

    assert sum(len(server.runs.queued) for server in servers) == 1


async def test_a_mailbox_that_closes_while_its_run_ends_keeps_nothing_pending(office: PostOffice) -> None:
    """What a failed run gives back is seen by the closing, whichever of the two commits first."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    meeting = threading.Barrier(2)

    def end_run(tx: Transaction) -> None:
        assert run.run_id is not None
        office.relay.settle(
            tx,
            delivery_id=office.runs.queued[run.run_id].delivery_id,
            run_id=run.run_id,
            state=RunState.FAILED,
            reason=None,
        )
        meet(meeting)

    async def close() -> None:
        assert agent.agent_id is not None
        await office.db.write(partial(office.relay.close_mailbox, agent_id=agent.agent_id))
        await asyncio.to_thread(meet, meeting)

    await asyncio.gather(office.db.write(end_run), close())

    assert (await stored(office.db, receipt.message_id)).reasons == ["endpoint_removed"]
    await assert_counters_hold(office.db)


async def test_mailboxes_do_not_wait_for_each_other(office: PostOffice) -> None:
    """One run in each mailbox; an agent that cannot be run holds up nobody else."""
    broken, *others = [await office.open_for_agent(name) for name in ("broken", "one", "two")]
    office.runs.refusing.add(broken.agent_id or "")
    for agent in (broken, *others):
        await office.send(to=agent.subject)
    await office.relay.message_runs.work()

    assert {request.agent_id for request in office.runs.queued.values()} == {a.agent_id for a in others}
    (waiting,) = await office.relay.inbox(broken, broken.subject, status=None, before=None, limit=1)
    assert (waiting.run_id, waiting.attempts) == (None, 0)


@pytest.mark.parametrize(
    ("state", "reason", "status", "dead"),
    [
        (RunState.COMPLETED, None, DeliveryStatus.DELIVERED, []),
        (RunState.BLOCKED, RunReason.QUESTION, DeliveryStatus.DELIVERED, []),
        (RunState.FAILED, RunReason.EXIT_CODE, DeliveryStatus.PENDING, []),
        (RunState.TIMEOUT, RunReason.DEADLINE, DeliveryStatus.PENDING, []),
        (RunState.INTERRUPTED, RunReason.SHUTDOWN, DeliveryStatus.PENDING, []),
        (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED, DeliveryStatus.PENDING, []),
        (RunState.INTERRUPTED, RunReason.UNCONFIRMED, DeliveryStatus.FAILED, ["run_unconfirmed"]),
        (RunState.CANCELLED, RunReason.CANCEL_REQUESTED, DeliveryStatus.FAILED, ["rejected"]),
    ],
)
async def test_the_end_of_a_run_settles_its_message(
    office: PostOffice, state: RunState, reason: RunReason | None, status: DeliveryStatus, dead: list[str]
) -> None:
    """Completed delivers; what is not known or not wanted is a dead letter; the rest is tried again."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run, state, reason)

    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([status], dead)
    await assert_counters_hold(office.db)


async def test_a_failed_run_is_repeated_with_growing_delay(office: PostOffice, clock: ManualClock) -> None:
    """Five seconds, ten seconds, then a dead letter; later messages keep their place behind it."""
    agent = await office.open_for_agent("worker")
    bad = await office.send("bad", to=agent.subject)
    good = await office.send("good", to=agent.subject)
    for wait_s in (5, 10):
        run = await office.start_run(agent)
        assert run is not None
        await office.finish_run(run, RunState.FAILED, RunReason.EXIT_CODE)
        clock.advance(timedelta(seconds=wait_s, milliseconds=-1))
        assert await office.start_run(agent) is None
        clock.advance(timedelta(milliseconds=1))
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run, RunState.FAILED, RunReason.EXIT_CODE)

    assert (await stored(office.db, bad.message_id)).reasons == ["attempts_exhausted"]
    run = await office.start_run(agent)
    assert run is not None
    assert office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"] == good.message_id


async def test_a_run_settles_only_what_it_holds(office: PostOffice, clock: ManualClock) -> None:
    """A run that gave its message back, or settled it, changes nothing any more and raises nothing."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    first = await office.start_run(agent)
    assert first is not None
    await office.finish_run(first, RunState.FAILED, RunReason.EXIT_CODE)
    clock.advance(timedelta(seconds=5))
    second = await office.start_run(agent)
    assert second is not None
    await office.finish_run(first, RunState.COMPLETED)
    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.PENDING]
    await office.finish_run(second, RunState.COMPLETED)
    await office.finish_run(second, RunState.FAILED, RunReason.EXIT_CODE)

    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.DELIVERED]
    await assert_counters_hold(office.db)


async def test_a_message_held_by_a_run_does_not_expire(office: PostOffice, clock: ManualClock) -> None:
    """A run may take longer than the message was to wait; claims pass the message by."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject, expires_at=clock.now() + timedelta(seconds=1))
    run = await office.start_run(agent)
    assert run is not None
    clock.advance(timedelta(hours=1))
    await office.relay.expiry.work()

    assert (await office.relay.claim(agent, agent.subject, limit=1)).deliveries == ()
    await office.finish_run(run)
    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.DELIVERED]


async def test_an_expired_message_starts_no_run(office: PostOffice, clock: ManualClock) -> None:
    """It becomes a dead letter, and the message behind it starts the run."""
    agent = await office.open_for_agent("worker")
    late = await office.send("late", to=agent.subject, expires_at=clock.now() + timedelta(seconds=1))
    good = await office.send("good", to=agent.subject)
    clock.advance(timedelta(seconds=2))
    run = await office.start_run(agent)
    assert run is not None

    assert office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"] == good.message_id
    assert (await stored(office.db, late.message_id)).reasons == ["expired"]


async def test_what_somebody_claimed_by_hand_is_passed_by(office: PostOffice, clock: ManualClock) -> None:
    """A leased message starts no run while its lease lives, and one again after that."""
    agent = await office.open_for_agent("worker")
    claimed = await office.send("one", to=agent.subject)
    next_one = await office.send("two", to=agent.subject)
    await office.claim_one(agent, agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    assert office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"] == next_one.message_id
    await office.finish_run(run)
    clock.advance(timedelta(minutes=1))
    again = await office.start_run(agent)
    assert again is not None

    assert office.runs.queued[again.run_id or ""].context["DORKOS_MESSAGE_ID"] == claimed.message_id


async def test_a_mailbox_for_claims_starts_no_run(office: PostOffice) -> None:
    """An agent without a program to run keeps its messages until somebody claims them."""
    agent = await office.open_for_agent("reader", starts_runs=False)
    await office.send(to=agent.subject)

    assert await office.start_run(agent) is None
    assert office.runs.queued == {}


async def test_the_loop_starts_a_run_when_a_message_comes(office: PostOffice) -> None:
    """No polling needed: the event of the publish wakes the loop."""
    await office.feed.start()
    loop = office.relay.message_runs
    loop.interval_s = 3600
    loop.worked.enable()
    await office.relay.start()
    await loop.worked.wait()
    agent = await office.open_for_agent("worker")
    await office.send(to=agent.subject)
    while not office.runs.queued:
        await loop.worked.wait()
    await office.relay.stop()
    await office.feed.stop()


async def test_relay_switched_off_starts_no_runs_but_still_carries(db: Database, clock: ManualClock) -> None:
    """`relay.enabled` false holds runs; publishing and claiming go on."""
    office = post_office(db, clock, enabled=False)
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)

    assert await office.start_run(agent) is None
    assert (await office.claim_one(agent, agent.subject))[0] == receipt.message_id
