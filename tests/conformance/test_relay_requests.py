"""Requests and replies, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.payload import encode
from dorkos.relay.replies import address_of
from dorkos.relay.request import Request, RequestState
from dorkos.relay.rules import NewRule
from dorkos.vocabulary import DeliveryStatus, PublishOutcome, RuleAction, RunReason, RunState, Scope
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office, stored

EVE = Caller("relay.human.eve", frozenset({Scope.SEND, Scope.RECEIVE}))
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay, and Ada who can be asked."""
    office = post_office(db, clock, max_hops=4)
    await office.open()
    return office


def question(payload: object = "May I?", *, to: str = INBOX, **fields: object) -> Envelope:
    """Something to ask."""
    return Envelope(id=new_id(), subject=to, payload=encode(payload), **fields)  # type: ignore[arg-type]  # Named by the test.


async def ask(office: PostOffice, caller: Caller = BOB, **fields: object) -> tuple[Receipt, Request]:
    """Ask Ada, a minute at most."""
    return await office.relay.conversations.ask(caller, question(**fields), within=MINUTE)  # type: ignore[arg-type]  # As above.


async def answer(office: PostOffice, request_id: str, caller: Caller = ADA, say: object = "Yes.") -> Receipt:
    """Reply to a message that came."""
    return await office.relay.conversations.reply(caller, request_id, question(say))


async def look(office: PostOffice, request_id: str, caller: Caller = BOB) -> Request:
    """Where it stands, as the one who asked reads it."""
    return await office.relay.conversations.wait(caller, request_id, wait_ms=0)


async def test_the_reply_waits_in_storage_until_it_is_read(office: PostOffice, clock: ManualClock) -> None:
    """It can be read again, by another server as well, and reading it delivers it."""
    receipt, asked = await ask(office)
    assert asked.state is RequestState.PENDING
    assert asked.message.reply_to == address_of(receipt.message_id)
    assert asked.message.expires_at == clock.now() + MINUTE
    replied = await answer(office, receipt.message_id)

    restarted = post_office(office.db, clock)
    found = await look(restarted, receipt.message_id)
    assert found.state is RequestState.REPLIED
    assert found.reply is not None
    assert (found.reply.payload, found.reply.sender) == ('"Yes."', INBOX)
    assert found.reply.id == replied.message_id
    assert (await office.relay.message(replied.message_id)).status is DeliveryStatus.DELIVERED
    assert (await look(office, receipt.message_id)) == found
    await assert_counters_hold(office.db)


async def test_the_mailbox_of_the_reply_is_there_with_the_request(office: PostOffice) -> None:
    """Whoever is fast enough to answer at once finds it; nobody had to subscribe first."""
    receipt, _ = await ask(office)
    found = {each.subject: each for each in await office.relay.endpoints()}
    mailbox = found[address_of(receipt.message_id)]
    assert mailbox.max_pending == 1


async def test_a_waiting_caller_is_woken_by_the_reply(office: PostOffice) -> None:
    """Long before its time is over."""
    await office.feed.start()
    receipt, _ = await ask(office)
    waiting = asyncio.create_task(office.relay.conversations.wait(BOB, receipt.message_id, wait_ms=30_000))
    await answer(office, receipt.message_id)
    found = await waiting
    await office.feed.stop()
    assert found.state is RequestState.REPLIED


async def test_a_waiting_caller_is_told_that_there_will_be_no_reply(office: PostOffice) -> None:
    """A rejected request is known to be lost at once."""
    await office.feed.start()
    receipt, _ = await ask(office)
    waiting = asyncio.create_task(office.relay.conversations.wait(BOB, receipt.message_id, wait_ms=30_000))
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    found = await waiting
    await office.feed.stop()
    assert (found.state, found.detail) == (RequestState.FAILED, f"{INBOX} rejected it.")


async def test_what_was_not_delivered_is_not_waited_for(office: PostOffice) -> None:
    """No mailbox for a reply is opened, and the reason is there at once."""
    receipt, found = await ask(office, to="relay.human.nobody")
    assert (found.state, found.detail) == (RequestState.FAILED, "There is no mailbox relay.human.nobody.")
    assert address_of(receipt.message_id) not in {each.subject for each in await office.relay.endpoints()}


async def test_only_one_reply_is_taken(office: PostOffice) -> None:
    """The second is a dead letter that says why, before and after the first was read."""
    receipt, _ = await ask(office)
    await answer(office, receipt.message_id)
    second = await answer(office, receipt.message_id, say="No.")
    await look(office, receipt.message_id)
    third = await answer(office, receipt.message_id, say="Well.")

    assert second.recipients[0].detail == "The request has been answered already."
    assert second.recipients[0].outcome is PublishOutcome.NO_RECIPIENT
    assert third.delivered_to == 0
    found = await look(office, receipt.message_id)
    assert found.reply is not None
    assert found.reply.payload == '"Yes."'


async def test_after_the_deadline_nothing_counts(office: PostOffice, clock: ManualClock) -> None:
    """The instant itself is in time. Afterwards the request has expired, and says how far it had come."""
    receipt, _ = await ask(office)
    clock.advance(MINUTE)
    assert (await look(office, receipt.message_id)).state is RequestState.PENDING
    clock.advance(timedelta(milliseconds=1))
    found = await look(office, receipt.message_id)
    assert (found.state, found.detail) == (RequestState.EXPIRED, f"Nobody took it at {INBOX} in time.")
    late = await answer(office, receipt.message_id)

    assert late.delivered_to == 0
    await office.relay.expiry.work()
    subjects = {each.subject for each in await office.relay.endpoints()}
    assert subjects == {INBOX}
    assert (await look(office, receipt.message_id)).state is RequestState.EXPIRED


async def test_a_reply_that_came_in_time_stays_readable(office: PostOffice, clock: ManualClock) -> None:
    """Whoever looks late still finds it, though its mailbox was closed."""
    receipt, _ = await ask(office)
    await answer(office, receipt.message_id)
    clock.advance(timedelta(hours=1))
    await office.relay.expiry.work()
    await office.relay.expiry.work()
    found = await look(office, receipt.message_id)
    assert found.state is RequestState.REPLIED


async def test_a_run_answers_within_its_chain(office: PostOffice) -> None:
    """The reply is one hop further, and the run's end settles the request."""
    agent = await office.open_for_agent("worker")
    receipt, _ = await ask(office, to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    replied = await office.send("done", to=address_of(receipt.message_id), caller=run)
    await office.finish_run(run)

    reply = (await office.relay.message(replied.message_id)).message
    assert (reply.chain_id, reply.parent_id, reply.hop_count) == (
        receipt.chain_id,
        receipt.message_id,
        1,
    )


async def test_a_run_that_keeps_failing_fails_the_request(office: PostOffice) -> None:
    """When its attempts are used up, nobody waits on."""
    agent = await office.open_for_agent("worker")
    receipt, _ = await ask(office, to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    await office.finish_run(run, RunState.INTERRUPTED, RunReason.UNCONFIRMED)
    assert (await look(office, receipt.message_id)).state is RequestState.FAILED


async def test_a_reply_continues_the_chain_when_nothing_is_held_any_more(office: PostOffice) -> None:
    """Acknowledging first does not win a fresh budget."""
    receipt, _ = await ask(office)
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    by_reply = await answer(office, receipt.message_id)
    reply = (await office.relay.message(by_reply.message_id)).message
    assert (reply.chain_id, reply.hop_count) == (receipt.chain_id, 1)


async def test_a_request_needs_a_hop_for_its_reply(office: PostOffice) -> None:
    """Better refused at once than waited for in vain."""
    receipt, found = await ask(office, max_hops=1)
    assert found.state is RequestState.FAILED
    assert (await stored(office.db, receipt.message_id)).reasons == ["hops_exceeded"]


async def test_only_the_one_who_asked_may_look(office: PostOffice) -> None:
    """And the operator, who settles nothing by looking."""
    receipt, _ = await ask(office)
    replied = await answer(office, receipt.message_id)
    with pytest.raises(DorkError) as refusal:
        await look(office, receipt.message_id, EVE)
    assert refusal.value.code is ErrorCode.FORBIDDEN
    assert (await look(office, receipt.message_id, OPERATOR)).state is RequestState.REPLIED
    assert (await office.relay.message(replied.message_id)).status is DeliveryStatus.PENDING


async def test_only_who_got_a_message_may_reply_to_it(office: PostOffice) -> None:
    """Another cannot slip into a chain by naming its message."""
    receipt, _ = await ask(office)
    with pytest.raises(DorkError) as refusal:
        await answer(office, receipt.message_id, EVE)
    assert refusal.value.code is ErrorCode.MESSAGE_NOT_FOUND


async def test_a_reply_to_an_ordinary_message_goes_to_its_sender(office: PostOffice) -> None:
    """Or where the sender said."""
    await office.open(BOB.subject)
    await office.open("relay.human.desk")
    plain, desk = await office.send(), await office.send(reply_to="relay.human.desk")
    assert (await answer(office, plain.message_id)).recipients[0].subject == BOB.subject
    assert (await answer(office, desk.message_id)).recipients[0].subject == "relay.human.desk"


async def test_the_address_of_a_reply_leads_around_no_rule(office: PostOffice) -> None:
    """Who may not send to the one who asked may not send to where the reply is waited for, unless asked."""
    rule = NewRule(new_id(), "relay.human.*", BOB.subject, RuleAction.DENY, 500, None)
    await office.relay.access.add(OPERATOR, rule)
    receipt, _ = await ask(office)
    intruder = await office.send("me!", to=address_of(receipt.message_id), caller=EVE)
    asked = await answer(office, receipt.message_id)

    assert intruder.recipients[0].outcome is PublishOutcome.DENIED
    assert asked.delivered_to == 1


async def test_asking_again_under_the_same_key_is_one_request(office: PostOffice) -> None:
    """A client that lost its connection repeats itself and gets the reply to the first."""
    first, _ = await ask(office, key="k1")
    again, found = await ask(office, key="k1")
    assert again == replace(first, duplicate=True)
    assert found.message.id == first.message_id
    await answer(office, first.message_id)
    assert (await look(office, first.message_id)).state is RequestState.REPLIED


async def test_the_address_of_a_reply_cannot_be_opened_by_hand(office: PostOffice) -> None:
    """Nor awaited without a request."""
    with pytest.raises(DorkError) as refusal:
        await office.open(address_of(new_id()))
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    plain = await office.send()
    with pytest.raises(DorkError) as no_request:
        await look(office, plain.message_id)
    assert no_request.value.code is ErrorCode.MESSAGE_NOT_FOUND
