"""Relay under each mode of the fleet, on both engines: what is taken, what is claimed, what starts a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import FleetService
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.relay.model import Envelope
from dorkos.vocabulary import DeliveryStatus, FleetMode, RunReason, RunState
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office, stored

HOLDING = (FleetMode.HOLD, FleetMode.STOP)
LONG_MS = 600_000


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> AsyncIterator[PostOffice]:
    """Relay with an open mailbox, on a feed that never polls by itself."""
    office = post_office(db, clock, max_attempts=3)
    await office.feed.start()
    await office.open()
    yield office
    await office.relay.stop()
    await office.feed.stop()


async def put(office: PostOffice, mode: FleetMode) -> None:
    """Set the mode, as a person does."""
    await FleetService(office.db).change(mode, reason=None, actor=INBOX)


async def started(office: PostOffice, agent: Caller) -> str | None:
    """The message that starts a run now, if one does."""
    run = await office.start_run(agent)
    return None if run is None else office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"]


async def refused(office: PostOffice, wait_ms: int = 0) -> DorkError:
    """The refusal of a claim."""
    with pytest.raises(DorkError) as refusal:
        await office.relay.claim(ADA, INBOX, limit=1, wait_ms=wait_ms)
    return refusal.value


@pytest.mark.parametrize("mode", HOLDING)
async def test_nothing_is_claimed_while_on_hold(office: PostOffice, mode: FleetMode) -> None:
    """An empty answer would be untrue, so it is a refusal that names the way out; no attempt is counted."""
    receipt = await office.send()
    await put(office, mode)
    refusal = await refused(office)
    assert refusal.code is ErrorCode.FLEET_ON_HOLD
    assert "dorkos fleet resume" in (refusal.hint or "")
    (delivery,) = (await office.relay.message(receipt.message_id)).deliveries
    assert (delivery.status, delivery.attempts, delivery.lease_token) == (DeliveryStatus.PENDING, 0, None)

    await put(office, FleetMode.RUNNING)
    assert (await office.claim_one())[0] == receipt.message_id


async def test_a_hold_of_one_server_binds_the_others(office: PostOffice, clock: ManualClock) -> None:
    """The mode is read in the transaction of the claim, wherever that is asked for."""
    await office.send()
    other = post_office(office.db, clock)
    await put(office, FleetMode.HOLD)
    assert (await refused(other)).code is ErrorCode.FLEET_ON_HOLD


async def test_a_mailbox_that_is_not_there_is_told_first(office: PostOffice) -> None:
    """Lifting the hold would not help."""
    await put(office, FleetMode.HOLD)
    other = Caller("relay.human.nobody", ADA.scopes)
    with pytest.raises(DorkError) as refusal:
        await office.relay.claim(other, other.subject, limit=1)
    assert refusal.value.code is ErrorCode.ENDPOINT_NOT_FOUND


async def test_a_long_poll_waits_for_the_end_of_a_hold(office: PostOffice) -> None:
    """It gets what waited as soon as the hold is lifted, without asking again."""
    receipt = await office.send()
    await put(office, FleetMode.HOLD)
    claim = asyncio.create_task(office.relay.claim(ADA, INBOX, limit=1, wait_ms=LONG_MS))
    await asyncio.wait([claim], timeout=0.05)
    await office.send()
    await asyncio.wait([claim], timeout=0.05)
    assert not claim.done()
    await put(office, FleetMode.RUNNING)
    async with asyncio.timeout(30):
        (delivery,) = (await claim).deliveries
    assert delivery.message.id == receipt.message_id


async def test_a_long_poll_that_the_hold_outlasts_says_so(office: PostOffice) -> None:
    """Not an empty answer, which would mean an empty mailbox."""
    await put(office, FleetMode.STOP)
    assert (await refused(office, wait_ms=1)).code is ErrorCode.FLEET_ON_HOLD


@pytest.mark.parametrize("mode", [FleetMode.DRAIN, FleetMode.HOLD, FleetMode.STOP])
async def test_messages_are_accepted_and_wait(office: PostOffice, mode: FleetMode) -> None:
    """The receipt says what is stored, as ever."""
    await put(office, mode)
    receipt = await office.send()
    assert receipt.delivered_to == 1
    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.PENDING]
    await assert_counters_hold(office.db)


@pytest.mark.parametrize("mode", HOLDING)
async def test_what_is_held_can_be_settled(office: PostOffice, mode: FleetMode) -> None:
    """Whoever claimed before may extend, give back and acknowledge."""
    first, second = [(await office.send(number)).message_id for number in range(2)]
    held = await office.claim_one(), await office.claim_one()
    await put(office, mode)
    await office.relay.extend(ADA, INBOX, *held[0])
    await office.relay.ack(ADA, INBOX, *held[0])
    await office.relay.nack(ADA, INBOX, *held[1], delay=timedelta(0), reject=False)
    assert (await stored(office.db, first)).statuses == [DeliveryStatus.DELIVERED]
    assert (await stored(office.db, second)).statuses == [DeliveryStatus.PENDING]


async def test_a_drain_lets_messages_be_claimed(office: PostOffice) -> None:
    """What waits in a mailbox was accepted: it is worked off, and so is what still comes in."""
    await office.send()
    await put(office, FleetMode.DRAIN)
    await office.claim_one()
    receipt = await office.send()
    assert (await office.claim_one())[0] == receipt.message_id


@pytest.mark.parametrize("mode", HOLDING)
async def test_no_message_starts_a_run_while_on_hold(office: PostOffice, mode: FleetMode) -> None:
    """They start in their order when the hold is lifted."""
    agent = await office.open_for_agent("worker")
    first = await office.send("one", to=agent.subject)
    await put(office, mode)
    await office.send("two", to=agent.subject)
    assert await started(office, agent) is None
    await put(office, FleetMode.RUNNING)
    assert await started(office, agent) == first.message_id


async def test_the_mode_is_read_in_the_transaction_of_the_start(
    office: PostOffice, clock: ManualClock
) -> None:
    """A loop that found work before the hold was set starts nothing after it."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    (delivery,) = (await office.relay.message(receipt.message_id)).deliveries
    clock.advance(timedelta(seconds=1))
    await put(office, FleetMode.HOLD)
    start = office.relay.message_runs.start_next
    assert not await office.db.write(lambda tx: start(tx, delivery.endpoint_id, "0" * 26))
    assert office.runs.queued == {}


async def test_a_drain_starts_what_was_accepted_and_what_runs_send(
    office: PostOffice, clock: ManualClock
) -> None:
    """Later messages of people wait, and do not stand in the way of those of runs."""
    agent, helper = await office.open_for_agent("worker"), await office.open_for_agent("helper")
    before = await office.send("before", to=agent.subject)
    clock.advance(timedelta(seconds=1))
    await put(office, FleetMode.DRAIN)
    clock.advance(timedelta(seconds=1))
    for_helper = await office.send("from a person", to=helper.subject)

    run = await office.start_run(agent)
    assert run is not None
    assert office.runs.queued[run.run_id or ""].context["DORKOS_MESSAGE_ID"] == before.message_id
    assert await started(office, helper) is None
    await office.scheduled_run(run)
    asked = await office.send("from a run", to=helper.subject, caller=run)
    answering = await office.start_run(helper)
    assert answering is not None
    assert office.runs.queued[answering.run_id or ""].context["DORKOS_MESSAGE_ID"] == asked.message_id

    await office.finish_run(answering)
    assert await started(office, helper) is None
    await put(office, FleetMode.RUNNING)
    assert await started(office, helper) == for_helper.message_id


async def test_the_message_of_a_stopped_run_is_given_back(office: PostOffice, clock: ManualClock) -> None:
    """It was the fleet that was stopped, not this message: afterwards it is tried again."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    await put(office, FleetMode.STOP)
    await office.finish_run(run, RunState.CANCELLED, RunReason.FLEET_STOPPED)
    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([DeliveryStatus.PENDING], [])
    await assert_counters_hold(office.db)

    clock.advance(timedelta(hours=1))
    await put(office, FleetMode.RUNNING)
    assert await started(office, agent) == receipt.message_id


async def test_lifting_a_hold_wakes_the_loop(office: PostOffice) -> None:
    """Messages that wait start runs at once, not an interval later."""
    loop = office.relay.message_runs
    loop.interval_s = 3600
    loop.worked.enable()
    agent = await office.open_for_agent("worker")
    await office.send(to=agent.subject)
    await put(office, FleetMode.HOLD)
    await office.relay.start()
    await loop.worked.wait()
    assert office.runs.queued == {}
    await put(office, FleetMode.RUNNING)
    while not office.runs.queued:
        await loop.worked.wait()


@pytest.mark.parametrize("mode", HOLDING)
async def test_nothing_expires_while_on_hold(office: PostOffice, clock: ManualClock, mode: FleetMode) -> None:
    """A person is to see first what came out of a restore; when the hold is lifted, expiry goes on."""
    receipt = await office.send(expires_at=clock.now() + timedelta(seconds=1))
    await put(office, mode)
    clock.advance(timedelta(days=30))
    await office.relay.expiry.work()
    (delivery,) = (await office.relay.message(receipt.message_id)).deliveries
    assert delivery.status is DeliveryStatus.PENDING

    await put(office, FleetMode.RUNNING)
    await office.relay.expiry.work()
    assert (await stored(office.db, receipt.message_id)).reasons == ["expired"]
    await assert_counters_hold(office.db)


async def test_mailboxes_of_replies_stay_open_while_on_hold(
    office: PostOffice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are: they are looked for once in a while, not without a pause until the hold ends."""
    monkeypatch.setattr("dorkos.relay.expiry._CLOSED_MAX", 1)
    for _ in range(2):
        question = Envelope(id=new_id(), subject=INBOX, payload='"?"')
        await office.relay.conversations.ask(BOB, question, within=timedelta(seconds=1))
    await put(office, FleetMode.HOLD)
    clock.advance(timedelta(minutes=1))
    async with asyncio.timeout(30):
        await office.relay.expiry.work()
    assert len(await office.relay.endpoints()) == 3

    await put(office, FleetMode.RUNNING)
    await office.relay.expiry.work()
    assert [each.subject for each in await office.relay.endpoints()] == [INBOX]
