"""Publishing the same thing twice under one key, on both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.relay.idempotency import KEY_LENGTH_MAX
from dorkos.vocabulary import PublishOutcome
from tests.conformance.test_relay_publish import messages_stored
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with room for two messages in a mailbox."""
    return post_office(db, clock, max_mailbox_size=2)


async def test_a_repetition_is_answered_with_the_first_receipt(office: PostOffice) -> None:
    """Nothing more is stored, whatever became of the first in the meantime."""
    await office.open()
    first = await office.send("go", key="k1")
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    again = await office.send("go", key="k1")

    assert again == replace(first, duplicate=True)
    assert not first.duplicate
    assert await messages_stored(office.db) == 1
    await assert_counters_hold(office.db)


async def test_a_refusal_is_repeated_as_well(office: PostOffice) -> None:
    """What became a dead letter at first is not delivered by saying it again."""
    first = await office.send("go", key="k1", to="relay.human.nobody")
    await office.open("relay.human.nobody")
    again = await office.send("go", key="k1", to="relay.human.nobody")

    assert first.recipients[0].outcome is PublishOutcome.NO_RECIPIENT
    assert again == replace(first, duplicate=True)


@pytest.mark.parametrize(
    "other",
    [{"payload": "stop"}, {"to": "relay.human.bob"}, {"reply_to": "relay.human.eve"}, {"max_hops": 1}],
)
async def test_another_message_under_the_same_key_is_refused(
    office: PostOffice, other: dict[str, object]
) -> None:
    """Anything that the sender says differently makes it another message."""
    await office.open()
    await office.send("go", key="k1")
    with pytest.raises(DorkError) as refusal:
        await office.send(**({"payload": "go", "key": "k1"} | other))  # type: ignore[arg-type]  # Named by the test.

    assert refusal.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert await messages_stored(office.db) == 1


async def test_a_key_belongs_to_its_sender(office: PostOffice) -> None:
    """Two senders may use the same word, and neither learns of the other's."""
    await office.open()
    first = await office.send("go", key="k1")
    other = await office.send("something else", key="k1", caller=OPERATOR)

    assert not other.duplicate
    assert other.message_id != first.message_id


async def test_a_key_holds_for_a_day(office: PostOffice, clock: ManualClock) -> None:
    """Up to the instant it is a repetition, after that a new message, and the old one loses the key."""
    await office.open()
    first = await office.send("go", key="k1")
    clock.advance(timedelta(hours=24, milliseconds=-1))
    assert (await office.send("go", key="k1")).message_id == first.message_id
    clock.advance(timedelta(milliseconds=1))
    later = await office.send("other", key="k1")

    assert later.message_id != first.message_id
    assert (await office.send("other", key="k1")).message_id == later.message_id


async def test_of_many_at_once_one_is_stored(office: PostOffice) -> None:
    """All of them get the same receipt, and one of them did it."""
    await office.open()
    receipts = await asyncio.gather(*(office.send("go", key="k1") for _ in range(12)))

    assert len({receipt.message_id for receipt in receipts}) == 1
    assert [receipt.duplicate for receipt in receipts].count(False) == 1
    assert await messages_stored(office.db) == 1
    await assert_counters_hold(office.db)


@pytest.mark.parametrize("key", ["", "x" * (KEY_LENGTH_MAX + 1), "line\nbreak"])
async def test_what_is_no_key_is_refused(office: PostOffice, key: str) -> None:
    """A key is something printable of a bounded length; what is none stores nothing."""
    await office.open()
    with pytest.raises(DorkError) as refusal:
        await office.send(key=key)

    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert await messages_stored(office.db) == 0


async def test_without_a_key_the_same_is_sent_twice(office: PostOffice) -> None:
    """Nobody guesses that two messages are one."""
    await office.open()
    await office.send("go")
    await office.send("go", caller=BOB)
    assert await messages_stored(office.db) == 2
