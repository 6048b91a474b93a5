"""Mailboxes, on both engines: opening, closing, and what becomes of their messages."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.vocabulary import DeliveryStatus, EndpointConsumer, RunState
from tests.relay.post_office import ADA, INBOX, PostOffice, assert_counters_hold, post_office, stored


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay without a mailbox."""
    return post_office(db, clock)


async def kinds(db: Database) -> list[str]:
    """The kinds of all events, in order."""
    statement = sa.select(events.c.kind).order_by(events.c.position)
    return await db.read(lambda connection: list(connection.execute(statement).scalars()))


def refused(code: ErrorCode) -> pytest.RaisesExc[DorkError]:
    """Expect this refusal."""
    return pytest.RaisesExc(DorkError, check=lambda fault: fault.code is code)


async def test_an_opened_mailbox_is_listed(office: PostOffice) -> None:
    """It has the lineage's hash, its description, nothing in it, and an event of its own."""
    opened = await office.relay.open(OPERATOR, "relay.system.console", description="for people")

    assert await office.relay.endpoints() == [opened]
    assert (opened.hash, opened.description) == ("8806c7805369", "for people")
    assert (opened.consumer, opened.pending_count) == (EndpointConsumer.CLAIM, 0)
    assert await kinds(office.db) == ["relay.endpoint.opened"]


async def test_a_mailbox_is_opened_once(office: PostOffice) -> None:
    """Of many who open the same subject at once, one succeeds and the others are told."""
    results = await asyncio.gather(*(office.open() for _ in range(5)), return_exceptions=True)

    faults = [result for result in results if isinstance(result, DorkError)]
    assert results.count(None) == 1
    assert [fault.code for fault in faults] == [ErrorCode.ENDPOINT_EXISTS] * 4
    assert len(await office.relay.endpoints()) == 1


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("relay.human.*", ErrorCode.WILDCARD_NOT_ALLOWED),
        ("relay..human", ErrorCode.INVALID_SUBJECT),
        ("relay.agent.default.somebody", ErrorCode.VALIDATION_FAILED),
    ],
)
async def test_what_is_no_address_for_a_mailbox_is_refused(
    office: PostOffice, subject: str, code: ErrorCode
) -> None:
    """Patterns, malformed subjects, and the addresses of agents."""
    with refused(code):
        await office.open(subject)
    assert await office.relay.endpoints() == []


async def test_closing_turns_what_waits_into_dead_letters(office: PostOffice) -> None:
    """Waiting and leased alike; who holds a lease learns it at the ack. History stays readable."""
    await office.open()
    leased, waiting = await office.send(1), await office.send(2)
    held = await office.claim_one()
    await office.relay.close(OPERATOR, INBOX)

    for receipt in (leased, waiting):
        rows = await stored(office.db, receipt.message_id)
        assert (rows.statuses, rows.reasons) == ([DeliveryStatus.FAILED], ["endpoint_removed"])
    with refused(ErrorCode.LEASE_LOST):
        await office.relay.ack(ADA, INBOX, *held)
    with refused(ErrorCode.ENDPOINT_NOT_FOUND):
        await office.relay.claim(ADA, INBOX, limit=1)
    assert len(await office.relay.inbox(ADA, INBOX, status=None, before=None, limit=10)) == 2
    await assert_counters_hold(office.db)


async def test_a_closed_mailbox_is_listed_only_on_request(office: PostOffice) -> None:
    """Old clients see open mailboxes only; closing twice is closing what is not there."""
    await office.open()
    await office.relay.close(OPERATOR, INBOX)

    assert await office.relay.endpoints() == []
    (closed,) = await office.relay.endpoints(include_closed=True)
    assert closed.closed_at is not None
    with refused(ErrorCode.ENDPOINT_NOT_FOUND):
        await office.relay.close(OPERATOR, INBOX)


async def test_a_mailbox_that_is_opened_again_goes_on_counting(office: PostOffice) -> None:
    """Same id, same history; positions are never given out twice."""
    await office.open()
    await office.send(1)
    await office.relay.close(OPERATOR, INBOX)
    await office.open()
    await office.send(2)

    inbox = await office.relay.inbox(ADA, INBOX, status=None, before=None, limit=10)
    assert [(delivery.position, delivery.status) for delivery in inbox] == [
        (2, DeliveryStatus.PENDING),
        (1, DeliveryStatus.FAILED),
    ]
    assert len(await office.relay.endpoints(include_closed=True)) == 1


async def test_an_agents_mailbox_follows_the_agent(office: PostOffice) -> None:
    """It is opened and closed with its agent, in that change, and by nobody else."""
    agent = await office.open_for_agent("worker")
    assert agent.agent_id is not None
    (endpoint,) = await office.relay.endpoints()
    assert (endpoint.agent_id, endpoint.consumer) == (agent.agent_id, EndpointConsumer.RUN)
    with refused(ErrorCode.VALIDATION_FAILED):
        await office.relay.close(OPERATOR, agent.subject)

    receipt = await office.send(to=agent.subject)
    await office.db.write(partial(office.relay.close_mailbox, agent_id=agent.agent_id))
    assert (await stored(office.db, receipt.message_id)).reasons == ["endpoint_removed"]
    assert await office.relay.endpoints() == []


async def test_opening_an_agents_mailbox_again_changes_only_its_consumer(office: PostOffice) -> None:
    """Registering an agent again is harmless, and switches its mailbox between claims and runs."""
    agent = await office.open_for_agent("worker", starts_runs=False)
    assert agent.agent_id is not None
    before = await kinds(office.db)
    await office.send(to=agent.subject)
    await office.db.write(
        partial(
            office.relay.open_mailbox,
            endpoint_id=new_id(),
            subject=agent.subject,
            agent_id=agent.agent_id,
            starts_runs=True,
        )
    )

    (endpoint,) = await office.relay.endpoints()
    assert (endpoint.consumer, endpoint.pending_count) == (EndpointConsumer.RUN, 1)
    await office.db.write(
        partial(
            office.relay.open_mailbox,
            endpoint_id=new_id(),
            subject=agent.subject,
            agent_id=agent.agent_id,
            starts_runs=None,
        )
    )
    (kept,) = await office.relay.endpoints()
    assert kept == endpoint, "without a word about it the consumer stays"
    assert [kind for kind in await kinds(office.db) if kind.startswith("relay.endpoint")] == before


@pytest.mark.parametrize(
    ("state", "status", "reasons"),
    [
        (RunState.COMPLETED, DeliveryStatus.DELIVERED, []),
        (RunState.FAILED, DeliveryStatus.FAILED, ["endpoint_removed"]),
    ],
)
async def test_what_a_run_holds_outlives_the_closing(
    office: PostOffice, state: RunState, status: DeliveryStatus, reasons: list[str]
) -> None:
    """Closing leaves it to the run; a run that fails cannot give it back to a closed mailbox."""
    agent = await office.open_for_agent("worker")
    receipt = await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    assert run.agent_id is not None
    await office.db.write(partial(office.relay.close_mailbox, agent_id=run.agent_id))
    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.PENDING]
    await office.finish_run(run, state)

    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([status], reasons)
    await assert_counters_hold(office.db)


async def test_closing_among_traffic_loses_nothing(office: PostOffice, clock: ManualClock) -> None:
    """Publishing, claiming and acking while mailboxes close: every message ends up delivered or failed."""
    await office.open()
    receipts = [await office.send(number) for number in range(20)]
    held = [await office.claim_one() for _ in range(10)]
    await asyncio.gather(
        *(office.relay.ack(ADA, INBOX, *each) for each in held[:5]),
        office.relay.close(OPERATOR, INBOX),
        *(office.send(number) for number in range(5)),
        *(office.relay.nack(ADA, INBOX, *each, delay=timedelta(0), reject=False) for each in held[5:]),
        return_exceptions=True,
    )

    statuses = {(await office.relay.message(receipt.message_id)).status for receipt in receipts}
    assert statuses <= {DeliveryStatus.DELIVERED, DeliveryStatus.FAILED}
    await assert_counters_hold(office.db)
