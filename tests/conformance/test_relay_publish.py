"""Publishing, on both engines: what the receipt says is what is stored."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_messages
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.identity.tokens import revoke_of_run
from dorkos.ids import new_id
from dorkos.relay import messages
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.subjects import subject_hash
from dorkos.vocabulary import DeliveryStatus, PublishOutcome
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office, stored


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with small limits."""
    return post_office(db, clock, max_mailbox_size=3, max_message_bytes=1024, max_hops=3)


async def messages_stored(db: Database) -> int:
    """How many messages there are."""
    statement = sa.select(sa.func.count()).select_from(relay_messages)
    return await db.read(lambda connection: int(connection.execute(statement).scalar_one()))


def outcome(receipt: Receipt) -> PublishOutcome:
    """The outcome at the one recipient."""
    (recipient,) = receipt.recipients
    return recipient.outcome


async def test_a_delivered_message_waits_in_its_mailbox(office: PostOffice) -> None:
    """Outcome delivered means: one pending delivery, no dead letter, one event, the counters moved."""
    await office.open()
    receipt = await office.send({"content": "ping"})

    assert outcome(receipt) is PublishOutcome.DELIVERED
    assert receipt.delivered_to == 1
    assert receipt.pressure == {subject_hash(INBOX): 1 / 3}
    rows = await stored(office.db, receipt.message_id)
    assert rows.statuses == [DeliveryStatus.PENDING]
    assert rows.reasons == []
    assert rows.events == ["relay.message.published"]
    await assert_counters_hold(office.db)


async def test_the_envelope_is_stored_as_it_was_sent(office: PostOffice) -> None:
    """Sender, answer address, payload text and times come back as they went in."""
    await office.open()
    payload = {"b": [1, 1.5, None, True], "a": "grüße ✓"}
    receipt = await office.send(payload, reply_to="relay.human.bob", claimed_sender=BOB.subject)
    message = (await office.relay.message(receipt.message_id)).message

    assert message.payload == '{"b":[1,1.5,null,true],"a":"grüße ✓"}'
    assert message.bytes == len(message.payload.encode())
    assert (message.sender, message.reply_to) == (BOB.subject, "relay.human.bob")
    assert (message.chain_id, message.parent_id, message.hop_count) == (message.id, None, 0)
    assert message.max_hops == 3
    assert message.expires_at == message.created_at + timedelta(seconds=3600)


async def test_no_payload_and_null_are_two_things(office: PostOffice) -> None:
    """A message without a payload is stored without one, and null is stored as null."""
    await office.open()
    null = await office.send(None)
    absent = await office.relay.publish(BOB, Envelope(id=new_id(), subject=INBOX))

    assert (await office.relay.message(null.message_id)).message.payload == "null"
    assert (await office.relay.message(absent.message_id)).message.payload is None
    assert (await office.relay.message(absent.message_id)).message.bytes == 0


async def test_a_subject_without_a_mailbox_makes_a_dead_letter(office: PostOffice) -> None:
    """Nobody there: the message is kept as a dead letter and the receipt says so."""
    receipt = await office.send(to="relay.human.nobody")

    assert outcome(receipt) is PublishOutcome.NO_RECIPIENT
    assert receipt.delivered_to == 0
    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([], ["no_recipient"])
    assert rows.events == ["relay.message.dead_lettered"]
    assert (await office.relay.message(receipt.message_id)).status is DeliveryStatus.FAILED


async def test_a_closed_mailbox_takes_nothing(office: PostOffice) -> None:
    """After closing, the same subject answers no_recipient."""
    await office.open()
    await office.relay.close(OPERATOR, INBOX)
    receipt = await office.send()

    assert outcome(receipt) is PublishOutcome.NO_RECIPIENT
    assert receipt.recipients[0].detail == f"The mailbox {INBOX} is closed."


async def test_a_full_mailbox_refuses_and_keeps_its_count(office: PostOffice) -> None:
    """The message beyond the limit is a dead letter; what waits is untouched and room comes back."""
    await office.open()
    for _ in range(3):
        assert outcome(await office.send()) is PublishOutcome.DELIVERED
    refused = await office.send()

    assert outcome(refused) is PublishOutcome.BACKPRESSURE
    assert refused.pressure == {subject_hash(INBOX): 1.0}
    rows = await stored(office.db, refused.message_id)
    assert (rows.statuses, rows.reasons) == ([], ["backpressure"])
    await assert_counters_hold(office.db)

    message_id, token = await office.claim_one()
    assert outcome(await office.send()) is PublishOutcome.BACKPRESSURE, "claimed is still pending"
    await office.relay.ack(ADA, INBOX, message_id, token)
    assert outcome(await office.send()) is PublishOutcome.DELIVERED


async def test_the_limit_holds_against_many_senders_at_once(office: PostOffice) -> None:
    """Of twenty concurrent publishes to a mailbox for three, three are accepted, each in its own place."""
    await office.open()
    receipts = await asyncio.gather(*(office.send(number) for number in range(20)))

    assert [outcome(receipt) for receipt in receipts].count(PublishOutcome.DELIVERED) == 3
    inbox = await office.relay.inbox(ADA, INBOX, status=None, before=None, limit=100)
    assert sorted(delivery.position for delivery in inbox) == [1, 2, 3]
    await assert_counters_hold(office.db)


@pytest.mark.parametrize("subject", ["relay.human.*", "relay.>", "*", ">"])
async def test_a_pattern_is_no_target(office: PostOffice, subject: str) -> None:
    """Publishing to a pattern is refused and nothing is stored."""
    await office.open()
    with pytest.raises(DorkError) as refusal:
        await office.send(to=subject)

    assert refusal.value.code is ErrorCode.WILDCARD_NOT_ALLOWED
    assert await messages_stored(office.db) == 0


@pytest.mark.parametrize("field", ["to", "reply_to"])
@pytest.mark.parametrize("address", ["", "relay..ada", "relay.human.a b", "r" * 513, "ä"])
async def test_an_address_must_follow_the_grammar(office: PostOffice, field: str, address: str) -> None:
    """A malformed subject or answer address is refused and nothing is stored."""
    with pytest.raises(DorkError) as refusal:
        await office.send(**{field: address})  # type: ignore[arg-type]  # One of two text fields.

    assert refusal.value.code is ErrorCode.INVALID_SUBJECT
    assert await messages_stored(office.db) == 0


async def test_nobody_speaks_for_somebody_else(office: PostOffice) -> None:
    """A claimed sender other than the caller is refused; the operator may speak as a human, and only so."""
    await office.open()
    for caller, claimed in ((BOB, ADA.subject), (BOB, "relay.system.pulse"), (OPERATOR, "relay.agent.x.y")):
        with pytest.raises(DorkError) as refusal:
            await office.send(caller=caller, claimed_sender=claimed)
        assert refusal.value.code is ErrorCode.SENDER_MISMATCH
    assert await messages_stored(office.db) == 0

    receipt = await office.send(caller=OPERATOR, claimed_sender="relay.human.console.7")
    assert (await office.relay.message(receipt.message_id)).message.sender == "relay.human.console.7"


async def test_a_claimed_sender_is_an_address_too(office: PostOffice) -> None:
    """Even the operator cannot stamp a sender that no answer could reach."""
    with pytest.raises(DorkError) as refusal:
        await office.send(caller=OPERATOR, claimed_sender="relay.human.>")

    assert refusal.value.code is ErrorCode.WILDCARD_NOT_ALLOWED


async def test_the_size_limit_counts_bytes_of_compact_json(office: PostOffice) -> None:
    """1024 bytes pass and 1025 do not, counted in UTF-8 with the quotation marks."""
    await office.open()
    assert outcome(await office.send("é" * 511)) is PublishOutcome.DELIVERED
    with pytest.raises(DorkError) as refusal:
        await office.send("é" * 511 + "x")

    assert refusal.value.code is ErrorCode.MESSAGE_TOO_LARGE
    assert await messages_stored(office.db) == 1


async def test_a_time_to_live_in_the_past_is_a_spent_budget(office: PostOffice, clock: ManualClock) -> None:
    """Expired when sent: a dead letter, outcome budget_exceeded; the instant itself is still in time."""
    await office.open()
    late = await office.send(expires_at=clock.now() - timedelta(milliseconds=1))
    in_time = await office.send(expires_at=clock.now())

    assert outcome(late) is PublishOutcome.BUDGET_EXCEEDED
    assert (await stored(office.db, late.message_id)).reasons == ["expired"]
    assert outcome(in_time) is PublishOutcome.DELIVERED


async def test_only_the_operator_raises_the_number_of_hops(office: PostOffice) -> None:
    """A sender may ask for fewer hops than the setting, not for more."""
    await office.open()
    allowed = {}
    for name, caller, hops in (("fewer", BOB, 2), ("more", BOB, 900), ("operator", OPERATOR, 900)):
        receipt = await office.send(caller=caller, max_hops=hops)
        allowed[name] = (await office.relay.message(receipt.message_id)).message.max_hops

    assert allowed == {"fewer": 2, "more": 3, "operator": 900}


async def test_what_a_run_sends_continues_the_chain_of_its_message(
    office: PostOffice, clock: ManualClock
) -> None:
    """Chain, one hop more, the same limits: the sender's own budget can only tighten them."""
    await office.open()
    agent = await office.open_for_agent("worker")
    first = await office.send(to=agent.subject, max_hops=2)
    run = await office.start_run(agent)
    assert run is not None
    answer = await office.send(caller=run, max_hops=1000, expires_at=clock.now() + timedelta(days=30))

    asked = (await office.relay.message(first.message_id)).message
    answered = (await office.relay.message(answer.message_id)).message
    assert (answered.chain_id, answered.parent_id) == (asked.id, asked.id)
    assert (answered.hop_count, answered.max_hops) == (1, 2)
    assert answered.expires_at == asked.expires_at
    assert answered.run_id == run.run_id


async def test_what_a_run_sends_while_it_holds_a_claim_continues_that_chain(office: PostOffice) -> None:
    """A loop that claims by hand gains no hops either; what is sent after the ack is work of its own."""
    await office.open()
    agent = await office.open_for_agent("reader", starts_runs=False)
    run = await office.scheduled_run(agent)
    await office.send(to=agent.subject, max_hops=2)
    message_id, token = await office.claim_one(run, agent.subject)
    answer = await office.send(caller=run)
    answered = (await office.relay.message(answer.message_id)).message
    assert (answered.parent_id, answered.hop_count, answered.max_hops) == (message_id, 1, 2)

    await office.relay.ack(run, agent.subject, message_id, token)
    fresh = (await office.relay.message((await office.send(caller=run)).message_id)).message
    assert (fresh.parent_id, fresh.hop_count, fresh.chain_id) == (None, 0, run.run_id)


async def test_of_several_held_messages_the_furthest_and_tightest_count(office: PostOffice) -> None:
    """Answering the younger of two chains must not gain a hop."""
    await office.open()
    writer = await office.open_for_agent("writer", starts_runs=False)
    agent = await office.open_for_agent("reader", starts_runs=False)
    run, other = await office.scheduled_run(agent), await office.scheduled_run(BOB)
    far = await office.send(to=writer.subject)
    await office.claim_one(writer, writer.subject)
    further = await office.send(caller=writer, to=agent.subject)
    await office.send(caller=other, to=agent.subject, max_hops=2)
    await office.relay.claim(run, agent.subject, limit=10)
    sent = (await office.relay.message((await office.send(caller=run)).message_id)).message

    assert (sent.chain_id, sent.parent_id) == (far.chain_id, further.message_id)
    assert (sent.hop_count, sent.max_hops) == (2, 2)


async def test_a_chain_ends_at_its_last_hop(office: PostOffice) -> None:
    """Two agents that answer each other are stopped after as many messages as the setting says."""
    left, right = await office.open_for_agent("left"), await office.open_for_agent("right")
    receipt = await office.send(to=left.subject)
    hops = 1
    speaker, listener = left, right
    while outcome(receipt) is PublishOutcome.DELIVERED:
        run = await office.start_run(speaker)
        assert run is not None
        receipt = await office.send(caller=run, to=listener.subject)
        await office.finish_run(run)
        hops += 1
        speaker, listener = listener, speaker

    assert hops == 3 + 1, "three messages and the one that was stopped"
    assert outcome(receipt) is PublishOutcome.BUDGET_EXCEEDED
    assert (await stored(office.db, receipt.message_id)).reasons == ["hops_exceeded"]


async def test_a_run_without_a_message_starts_a_chain_of_its_own(office: PostOffice) -> None:
    """A scheduled run's messages carry the run's id as their chain."""
    await office.open()
    run = await office.scheduled_run(BOB)
    one, two = await office.send(caller=run), await office.send(caller=run)

    assert (one.chain_id, two.chain_id) == (run.run_id, run.run_id)
    assert (await office.relay.message(one.message_id)).message.hop_count == 0


async def test_another_run_does_not_inherit(office: PostOffice) -> None:
    """Only the run that holds the delivery continues its chain, not any run of the same agent."""
    await office.open()
    agent = await office.open_for_agent("worker")
    await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    other = await office.scheduled_run(agent)
    receipt = await office.send(caller=other)

    assert receipt.chain_id == other.run_id


async def test_a_run_that_has_ended_sends_nothing_more(office: PostOffice, db: Database) -> None:
    """A request that was let in just before the end would otherwise begin a chain with a full budget."""
    await office.open()
    run = await office.scheduled_run(BOB)
    await db.write(partial(revoke_of_run, run_id=run.run_id or ""))
    with pytest.raises(DorkError) as refusal:
        await office.send(caller=run)

    assert refusal.value.code is ErrorCode.TOKEN_INVALID
    assert await messages_stored(db) == 0


async def test_a_run_that_has_ended_takes_nothing_more(office: PostOffice, db: Database) -> None:
    """Nor can it settle what it holds: the lease runs out, and somebody else gets the message."""
    agent = await office.open_for_agent("reader", starts_runs=False)
    run = await office.scheduled_run(agent)
    await office.send(to=agent.subject)
    await office.send(to=agent.subject)
    message_id, token = await office.claim_one(run, agent.subject)
    await db.write(partial(revoke_of_run, run_id=run.run_id or ""))

    with pytest.raises(DorkError) as claiming:
        await office.relay.claim(run, agent.subject, limit=1)
    with pytest.raises(DorkError) as acking:
        await office.relay.ack(run, agent.subject, message_id, token)
    assert {claiming.value.code, acking.value.code} == {ErrorCode.TOKEN_INVALID}
    (other,) = (await office.relay.claim(agent, agent.subject, limit=10)).deliveries
    assert other.attempts == 1


async def test_publishing_joins_the_callers_change(office: PostOffice, db: Database) -> None:
    """A publish inside a change that fails leaves nothing behind."""
    await office.open()

    class ChangedMindError(Exception):
        pass

    def change(tx: object) -> None:
        office.relay.publish_in(tx, BOB, Envelope(id=new_id(), subject=INBOX))  # type: ignore[arg-type]  # A transaction.
        raise ChangedMindError

    with pytest.raises(ChangedMindError):
        await db.write(change)

    assert await messages_stored(db) == 0
    await assert_counters_hold(db)


async def test_messages_are_read_one_by_one_as_they_are_together(office: PostOffice) -> None:
    """With all their deliveries, in the order that was asked for, and without those that are gone."""
    await office.open()
    office.routes.mailboxes[INBOX] = ["relay.human.other"]
    await office.open("relay.human.other")
    sent = [await office.send(), await office.send(to="relay.human.nobody"), await office.send()]
    await office.claim_one()
    ids = [sent[2].message_id, new_id(), sent[0].message_id, sent[1].message_id]
    found = await office.relay.messages_of(ids)
    assert found == await office.db.read(lambda connection: messages.of_ids(connection, ids))
    assert [(each.message.id, len(each.deliveries)) for each in found] == [
        (ids[0], 2),
        (ids[2], 2),
        (ids[3], 0),
    ]
