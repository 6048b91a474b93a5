"""Dead letters, put back and taken away, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_index, relay_messages
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.model import DeadLetter, LetterFilter
from dorkos.relay.redrive import Redriven
from dorkos.relay.rules import NewRule
from dorkos.vocabulary import DeadLetterReason, DeliveryStatus, PublishOutcome, RuleAction
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office, stored

EVERY = LetterFilter()


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with Ada's mailbox, which has room for three."""
    office = post_office(db, clock, max_mailbox_size=3, max_attempts=2, message_ttl_seconds=600)
    await office.open()
    return office


async def letters(office: PostOffice, which: LetterFilter = EVERY) -> list[DeadLetter]:
    """Those that stand, newest first."""
    return await office.relay.letters.newest_first(which, limit=100)


async def reject(office: PostOffice) -> DeadLetter:
    """Send a message that Ada rejects."""
    await office.send("work")
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    return (await letters(office))[0]


async def rows(db: Database, table: sa.Table) -> int:
    """How many rows a table has."""
    statement = sa.select(sa.func.count()).select_from(table)
    return await db.read(lambda connection: int(connection.execute(statement).scalar_one()))


async def test_a_redriven_message_is_the_same_message(office: PostOffice, clock: ManualClock) -> None:
    """Same id and payload, last in line, all attempts before it, a fresh expiry; it can be acknowledged."""
    letter = await reject(office)
    other = await office.send("later")
    clock.advance(timedelta(hours=1))
    await office.send("fresh")
    done = await office.relay.letters.redrive(OPERATOR, letter.id)
    taken = (await office.relay.claim(ADA, INBOX, limit=10)).deliveries
    await office.relay.ack(ADA, INBOX, taken[-1].message.id, taken[-1].lease_token or "")

    assert done.outcome is PublishOutcome.DELIVERED
    assert other.message_id not in [each.message.id for each in taken], "it had expired"
    assert taken[-1].message.id == letter.message.id
    assert (taken[-1].attempts, taken[-1].message.payload) == (1, '"work"')
    assert taken[-1].expires_at == clock.now() + timedelta(seconds=600)
    assert (await stored(office.db, letter.message.id)).statuses == [DeliveryStatus.DELIVERED]
    assert letter.id not in {each.id for each in await letters(office)}
    await assert_counters_hold(office.db)


async def test_what_stops_again_counts_how_often_it_was_put_back(office: PostOffice) -> None:
    """Each stop is a dead letter of its own; the earlier ones stay as history."""
    letter = await reject(office)
    for _ in range(2):
        await office.relay.letters.redrive(OPERATOR, letter.id)
        message_id, token = await office.claim_one()
        await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
        (letter,) = await letters(office)
    history = await letters(office, LetterFilter(redriven=True))

    assert letter.redrive_count == 2
    assert [each.redrive_count for each in history] == [2, 2, 1]
    assert [each.redriven_by for each in history] == [None, OPERATOR.subject, OPERATOR.subject]


async def test_what_never_reached_a_mailbox_can_be_put_into_one(office: PostOffice) -> None:
    """Once somebody opened it."""
    receipt = await office.send(to="relay.human.new")
    (letter,) = await letters(office)
    still = await office.relay.letters.redrive(OPERATOR, letter.id)
    await office.open("relay.human.new")
    done = await office.relay.letters.redrive(OPERATOR, letter.id)

    assert still.outcome is PublishOutcome.NO_RECIPIENT
    assert done.outcome is PublishOutcome.DELIVERED
    assert (await office.claim_one(OPERATOR, "relay.human.new"))[0] == receipt.message_id
    await assert_counters_hold(office.db)


async def test_a_full_mailbox_takes_no_dead_letter_back(office: PostOffice) -> None:
    """It stays one, and nothing changes."""
    letter = await reject(office)
    for _ in range(3):
        await office.send()
    done = await office.relay.letters.redrive(OPERATOR, letter.id)
    assert done.outcome is PublishOutcome.BACKPRESSURE
    assert (await letters(office))[0].redrive_count == 0
    await assert_counters_hold(office.db)


async def test_the_rules_of_now_decide_about_a_redrive(office: PostOffice) -> None:
    """A denied message does not get around its denial, also when the denial came later."""
    letter = await reject(office)
    rule = NewRule(new_id(), BOB.subject, INBOX, RuleAction.DENY, 500, None)
    await office.relay.access.add(OPERATOR, rule)
    assert (await office.relay.letters.redrive(OPERATOR, letter.id)).outcome is PublishOutcome.DENIED


async def test_a_redrive_happens_once(office: PostOffice) -> None:
    """Ten people press the button: one delivery, and the counters hold."""
    letter = await reject(office)
    done = await asyncio.gather(*(office.relay.letters.redrive(OPERATOR, letter.id) for _ in range(10)))
    assert {each.outcome for each in done} == {PublishOutcome.DELIVERED}
    assert len((await office.relay.claim(ADA, INBOX, limit=10)).deliveries) == 1
    await assert_counters_hold(office.db)


async def test_redriving_by_filter_takes_the_oldest_that_agree(
    office: PostOffice, clock: ManualClock
) -> None:
    """Reason, age and number; what does not agree stays."""
    old = await reject(office)
    clock.advance(timedelta(minutes=5))
    young = await reject(office)
    await office.send(to="relay.human.nobody")
    which = LetterFilter(reason=DeadLetterReason.REJECTED, older_than=clock.now() - timedelta(minutes=1))
    done = await office.relay.letters.redrive_all(OPERATOR, which, limit=10)

    assert [each.letter.id for each in done] == [old.id]
    assert [each.reason for each in await letters(office)] == ["no_recipient", "rejected"]
    one = await office.relay.letters.redrive_all(OPERATOR, EVERY, limit=1)
    assert [each.letter.id for each in one] == [young.id]


async def test_one_that_is_taken_away_meanwhile_does_not_stop_the_others(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is put back in a change of its own, and in between somebody may purge the next."""
    first, second, third = [await reject(office) for _ in range(3)]
    again = office.relay.letters.redrive

    async def slowly(caller: Caller, letter_id: str) -> Redriven:
        if letter_id == first.id:
            await office.relay.letters.purge(OPERATOR, second.id)
        return await again(caller, letter_id)

    monkeypatch.setattr(office.relay.letters, "redrive", slowly)
    done = await office.relay.letters.redrive_all(OPERATOR, EVERY, limit=10)
    assert [each.letter.id for each in done] == [first.id, third.id]
    assert await letters(office) == []


async def test_lists_take_every_part_of_a_filter(office: PostOffice) -> None:
    """Subject, sender, chain and reason, each for itself."""
    letter = await reject(office)
    other = await office.send(to="relay.human.nobody", caller=ADA)
    for which in (
        LetterFilter(subject=INBOX),
        LetterFilter(sender=BOB.subject),
        LetterFilter(chain_id=letter.message.chain_id),
        LetterFilter(reason=DeadLetterReason.REJECTED),
    ):
        assert [each.id for each in await letters(office, which)] == [letter.id]
    assert [each.message.id for each in await letters(office, LetterFilter(sender=INBOX))] == [
        other.message_id
    ]


async def test_a_purged_dead_letter_takes_its_message_along(office: PostOffice) -> None:
    """Nothing is left but the trace; what else is known of a message keeps it."""
    letter = await reject(office)
    await office.open("relay.human.side")
    office.routes.mailboxes["relay.human.none"] = ["relay.human.side"]
    await office.relay.close(OPERATOR, "relay.human.side")
    removed = await office.relay.letters.purge(OPERATOR, letter.id)

    assert (removed.letters, removed.messages, removed.failed) == (1, 1, 1)
    assert await rows(office.db, relay_messages) == 0
    assert await rows(office.db, relay_index) == 0
    await office.relay.trace_of_message(letter.message.id)
    with pytest.raises(DorkError) as refusal:
        await office.relay.letters.purge(OPERATOR, letter.id)
    assert refusal.value.code is ErrorCode.DEAD_LETTER_NOT_FOUND


async def test_purging_by_filter_leaves_what_waits_and_what_does_not_agree(office: PostOffice) -> None:
    """A message that was put back is not taken from its reader."""
    letter = await reject(office)
    await office.relay.letters.redrive(OPERATOR, letter.id)
    await office.send(to="relay.human.nobody")
    assert await office.relay.letters.purge_all(OPERATOR, EVERY, limit=100) == 1
    assert (await office.claim_one())[0] == letter.message.id
