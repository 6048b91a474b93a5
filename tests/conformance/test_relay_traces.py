"""The hops of messages, and the waterfall that is made of them, on both engines."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.relay import relay_traces
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.relay.model import LetterFilter, Receipt
from dorkos.relay.request import RequestState
from dorkos.relay.waterfall import Hop, RunSpan, Waterfall
from dorkos.vocabulary import RunState, TraceStatus
from tests.conformance.test_relay_requests import question
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, post_office

SECOND = timedelta(seconds=1)


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with Ada's mailbox."""
    office = post_office(db, clock, max_attempts=2)
    await office.open()
    return office


async def hops(office: PostOffice, receipt: Receipt) -> list[sa.Row[tuple[object, ...]]]:
    """What is stored of a message's hops."""
    mine = sa.select(relay_traces).where(relay_traces.c.message_id == receipt.message_id)
    return list(await office.db.read(lambda connection: connection.execute(mine).all()))


def outline(found: Waterfall) -> list[tuple[int, str]]:
    """Depth and address, or `run`, of each step."""
    return [
        (step.depth, "run" if isinstance(step.span, RunSpan) else step.span.subject) for step in found.steps
    ]


async def test_a_hop_is_written_with_the_publish_and_settled_with_the_ack(
    office: PostOffice, clock: ManualClock
) -> None:
    """Sent, handed over and processed have their instants; the latency is from the publish to the ack."""
    receipt = await office.send()
    (sent,) = await hops(office, receipt)
    clock.advance(SECOND)
    message_id, token = await office.claim_one()
    clock.advance(2 * SECOND)
    await office.relay.ack(ADA, INBOX, message_id, token)
    (done,) = await hops(office, receipt)

    assert (sent.status, sent.delivered_at, sent.processed_at, sent.latency_us) == (
        TraceStatus.SENT,
        None,
        None,
        None,
    )
    assert done.status is TraceStatus.DELIVERED
    assert (done.delivered_at - done.sent_at, done.processed_at - done.sent_at) == (SECOND, 3 * SECOND)
    assert done.latency_us == 3_000_000
    assert (done.trace_id, done.sender, done.subject) == (receipt.chain_id, BOB.subject, INBOX)


async def test_what_stops_at_its_publish_leaves_a_hop_with_the_reason(office: PostOffice) -> None:
    """Nothing that was sent is missing from a trace."""
    receipt = await office.send(to="relay.human.nobody")
    (hop,) = await hops(office, receipt)
    assert (hop.status, hop.endpoint_id) == (TraceStatus.FAILED, None)
    assert hop.error_message == "There is no mailbox relay.human.nobody."


async def test_expiry_and_failure_are_told_apart(office: PostOffice, clock: ManualClock) -> None:
    """What ran out of time is a timeout, what was rejected a failure."""
    late = await office.send(expires_at=clock.now() + SECOND)
    rejected = await office.send()
    await office.relay.claim(ADA, INBOX, limit=1)
    clock.advance(timedelta(minutes=2))
    await office.relay.expiry.work()
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)

    assert [hop.status for hop in await hops(office, late)] == [TraceStatus.TIMEOUT]
    assert [hop.status for hop in await hops(office, rejected)] == [TraceStatus.FAILED]
    (hop,) = await hops(office, rejected)
    assert hop.delivered_at is not None
    assert hop.error_message == f"{ADA.subject} rejected it."


async def test_each_mailbox_has_its_hop(office: PostOffice) -> None:
    """A message that went to two has two."""
    await office.open("relay.system.adapter.x")
    office.routes.mailboxes[INBOX] = ["relay.system.adapter.x"]
    found = await office.relay.trace_of_message((await office.send()).message_id)
    assert [step.span.endpoint for step in found.steps if isinstance(step.span, Hop)] == [
        INBOX,
        "relay.system.adapter.x",
    ]


async def test_a_request_its_run_and_its_reply_are_one_waterfall(
    office: PostOffice, clock: ManualClock
) -> None:
    """Each under what caused it, with a helper asked on the way."""
    worker, helper = await office.open_for_agent("worker"), await office.open_for_agent("helper")
    receipt, _ = await office.relay.conversations.ask(
        BOB, question(to=worker.subject), within=timedelta(minutes=5)
    )
    clock.advance(SECOND)
    run = await office.start_run(worker)
    assert run is not None
    await store_run(office, run, receipt.chain_id)
    await office.send(to=helper.subject, caller=run)
    clock.advance(SECOND)
    await office.relay.conversations.reply(run, receipt.message_id, question("done"))
    await office.finish_run(run)
    found = await office.relay.conversations.wait(BOB, receipt.message_id, wait_ms=0)
    trace = await office.relay.trace_of_message(receipt.message_id)

    assert found.state is RequestState.REPLIED
    assert found.message.reply_to is not None
    assert outline(trace) == [
        (0, worker.subject),
        (1, "run"),
        (2, helper.subject),
        (2, found.message.reply_to),
    ]
    assert await office.relay.trace(receipt.chain_id) == trace
    first = trace.steps[0].span
    assert isinstance(first, Hop)
    assert first.run_id == run.run_id


async def store_run(office: PostOffice, run: Caller, chain_id: str) -> None:
    """The row that Pulse would have made of the run that Relay asked it for."""
    row = {
        "id": run.run_id,
        "agent_id": run.agent_id,
        "status": RunState.QUEUED,
        "trigger": "message",
        "prompt": "work",
        "chain_id": chain_id,
        "created_at": office.relay.now(),
    }
    await office.db.write(lambda tx: tx.execute(pulse_runs.insert(), row))


async def test_a_redriven_message_is_on_its_way_again(office: PostOffice) -> None:
    """Its hop begins anew; it is the same hop."""
    receipt = await office.send()
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    (letter,) = await office.relay.letters.newest_first(LetterFilter(), limit=10)
    await office.relay.letters.redrive(OPERATOR, letter.id)
    (hop,) = await hops(office, receipt)
    assert (hop.status, hop.error_message, hop.processed_at) == (TraceStatus.SENT, None, None)


async def test_what_is_not_traced_is_not_found(office: PostOffice) -> None:
    """By message and by chain."""
    for looked in (office.relay.trace_of_message("nothing"), office.relay.trace("nothing")):
        with pytest.raises(DorkError) as refusal:
            await looked
        assert refusal.value.code is ErrorCode.TRACE_NOT_FOUND
