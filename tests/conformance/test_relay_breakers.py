"""Circuits of mailboxes, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.system import events
from dorkos.identity.model import OPERATOR, Caller
from dorkos.relay import breaker
from dorkos.relay.model import Breaker
from dorkos.vocabulary import BreakerState, PublishOutcome, RunReason, RunState
from tests.relay.post_office import ADA, INBOX, PostOffice, post_office, stored


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay whose circuits open at the second fault in a row, for 30 seconds."""
    return post_office(db, clock, breaker_failures=2, breaker_cooldown_seconds=30, max_attempts=50)


@pytest.fixture
async def agent(office: PostOffice) -> Caller:
    """An agent whose messages start runs."""
    return await office.open_for_agent("worker")


async def circuit(office: PostOffice, subject: str) -> Breaker:
    """The circuit of a mailbox."""
    found = {each.subject: each.id for each in await office.relay.endpoints()}
    return (await office.relay.circuits()).get(found[subject], breaker.CLOSED)


async def fault(office: PostOffice, agent: Caller, clock: ManualClock) -> None:
    """A run that could not be started."""
    clock.advance(timedelta(minutes=10))
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run, RunState.FAILED, RunReason.START_FAILED)


async def broken(office: PostOffice, agent: Caller, clock: ManualClock) -> None:
    """Open the circuit of the agent's mailbox."""
    await office.send(to=agent.subject, expires_at=clock.now() + timedelta(days=1))
    await fault(office, agent, clock)
    await fault(office, agent, clock)
    assert (await circuit(office, agent.subject)).state is BreakerState.OPEN


async def kinds(office: PostOffice) -> list[str]:
    """What was told of circuits."""
    statement = sa.select(events.c.kind).where(events.c.kind.like("relay.breaker.%"))
    return list(
        await office.db.read(
            lambda connection: connection.execute(statement.order_by(events.c.position)).scalars().all()
        )
    )


async def test_faults_in_a_row_open_the_circuit(
    office: PostOffice, agent: Caller, clock: ManualClock
) -> None:
    """It then takes nothing; the receipt and the dead letter say so, and nothing else is touched."""
    await broken(office, agent, clock)
    receipt = await office.send(to=agent.subject)

    assert receipt.recipients[0].outcome is PublishOutcome.CIRCUIT_OPEN
    assert "failed 2 times in a row" in (receipt.recipients[0].detail or "")
    assert (await stored(office.db, receipt.message_id)).reasons == ["circuit_open"]
    assert await kinds(office) == ["relay.breaker.opened"]


async def test_a_success_counts_anew(office: PostOffice, agent: Caller, clock: ManualClock) -> None:
    """Only faults in a row open it; a circuit that was never open does not say that it closed."""
    for _ in range(2):
        await office.send(to=agent.subject, expires_at=clock.now() + timedelta(days=1))
    await fault(office, agent, clock)
    clock.advance(timedelta(minutes=10))
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run)
    await fault(office, agent, clock)

    assert (await circuit(office, agent.subject)).state is BreakerState.CLOSED
    assert await kinds(office) == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [(RunState.FAILED, RunReason.EXIT_CODE), (RunState.TIMEOUT, RunReason.DEADLINE)],
)
async def test_what_a_run_makes_of_its_message_is_no_fault(
    office: PostOffice, agent: Caller, clock: ManualClock, state: RunState, reason: RunReason
) -> None:
    """The way to the agent works; what the agent says of the message is another matter."""
    await office.send(to=agent.subject, expires_at=clock.now() + timedelta(days=1))
    for _ in range(4):
        clock.advance(timedelta(minutes=10))
        run = await office.start_run(agent)
        assert run is not None
        await office.finish_run(run, state, reason)
    assert await circuit(office, agent.subject) == breaker.CLOSED


async def test_nacks_and_rejections_are_no_faults(office: PostOffice) -> None:
    """A consumer that does not want a message says nothing of its mailbox."""
    await office.open()
    for _ in range(4):
        await office.send()
        message_id, token = await office.claim_one()
        await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    assert await circuit(office, INBOX) == breaker.CLOSED


async def test_after_the_cooldown_one_message_of_many_is_tried(
    office: PostOffice, agent: Caller, clock: ManualClock
) -> None:
    """A single probe: what comes meanwhile is turned away."""
    await broken(office, agent, clock)
    clock.advance(timedelta(seconds=30))
    receipts = await asyncio.gather(*(office.send(to=agent.subject) for _ in range(8)))

    outcomes = [receipt.recipients[0].outcome for receipt in receipts]
    assert outcomes.count(PublishOutcome.DELIVERED) == 1
    assert outcomes.count(PublishOutcome.CIRCUIT_OPEN) == 7
    assert (await circuit(office, agent.subject)).state is BreakerState.HALF_OPEN
    assert await kinds(office) == ["relay.breaker.opened", "relay.breaker.probed"]


async def test_a_success_on_probation_closes_the_circuit(
    office: PostOffice, agent: Caller, clock: ManualClock
) -> None:
    """Everything passes again at once."""
    await broken(office, agent, clock)
    clock.advance(timedelta(seconds=30))
    await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run)

    assert (await circuit(office, agent.subject)).state is BreakerState.CLOSED
    assert (await office.send(to=agent.subject)).delivered_to == 1
    assert (await kinds(office))[-1] == "relay.breaker.closed"


async def test_a_fault_on_probation_opens_it_again(
    office: PostOffice, agent: Caller, clock: ManualClock
) -> None:
    """One is enough, and a whole cooldown passes before the next is tried."""
    await broken(office, agent, clock)
    clock.advance(timedelta(seconds=30))
    await office.send(to=agent.subject, expires_at=clock.now() + timedelta(days=1))
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run, RunState.FAILED, RunReason.START_FAILED)
    assert (await circuit(office, agent.subject)).state is BreakerState.OPEN
    clock.advance(timedelta(seconds=29))
    assert (await office.send(to=agent.subject)).delivered_to == 0
    clock.advance(timedelta(seconds=1))
    assert (await office.send(to=agent.subject)).delivered_to == 1


async def test_a_probe_that_nobody_hears_of_is_given_up(
    office: PostOffice, agent: Caller, clock: ManualClock
) -> None:
    """A circuit must not stand half open for ever."""
    await broken(office, agent, clock)
    clock.advance(timedelta(seconds=30))
    await office.send(to=agent.subject)
    clock.advance(timedelta(seconds=30))
    assert (await office.send(to=agent.subject)).delivered_to == 1


async def test_a_circuit_outlives_the_server(
    office: PostOffice, agent: Caller, clock: ManualClock, db: Database
) -> None:
    """It is stored, so a restart, or another server, does not begin to hammer again."""
    await broken(office, agent, clock)
    other = post_office(db, clock, breaker_failures=2)
    assert (await other.send(to=agent.subject)).recipients[0].outcome is PublishOutcome.CIRCUIT_OPEN


async def test_a_person_may_close_it(office: PostOffice, agent: Caller, clock: ManualClock) -> None:
    """Whoever has mended what failed need not wait."""
    await broken(office, agent, clock)
    await office.relay.close_circuit(OPERATOR, agent.subject)
    await office.relay.close_circuit(OPERATOR, agent.subject)

    assert (await office.send(to=agent.subject)).delivered_to == 1
    assert await kinds(office) == ["relay.breaker.opened", "relay.breaker.closed"]
