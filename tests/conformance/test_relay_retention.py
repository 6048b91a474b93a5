"""How long what is settled stays, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos import fleet
from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import rate_limit_buckets
from dorkos.db.schema.relay import (
    relay_dead_letters,
    relay_endpoints,
    relay_index,
    relay_messages,
    relay_traces,
)
from dorkos.identity.model import OPERATOR
from dorkos.ids import UlidFactory, new_id
from dorkos.relay import removal, retention
from dorkos.relay.model import Envelope, LetterFilter
from dorkos.relay.redrive import redrive
from dorkos.relay.replies import address_of
from dorkos.vocabulary import FleetMode
from tests.conformance.test_relay_dead_letters import rows
from tests.conformance.test_relay_requests import answer, ask
from tests.relay.post_office import ADA, INBOX, PostOffice, assert_counters_hold, post_office

DAY = timedelta(days=1)


@pytest.fixture
async def office(db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> PostOffice:
    """Relay that keeps mail ten days, dead letters and traces twenty. Its ids tell the time of the clock."""
    factory = UlidFactory(lambda: int(clock.now().timestamp() * 1_000_000_000))
    monkeypatch.setattr("dorkos.ids._factory", factory)
    office = post_office(
        db,
        clock,
        retention_days=10,
        dead_letter_retention_days=20,
        trace_retention_days=20,
        message_ttl_seconds=100 * 86_400,
        max_attempts=1,
    )
    await office.open()
    return office


async def deliver(office: PostOffice, **fields: object) -> str:
    """A message that Ada acknowledged."""
    await office.send(**fields)  # type: ignore[arg-type]  # Named by the test.
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    return message_id


async def reject(office: PostOffice) -> None:
    """A message that Ada rejected."""
    await office.send()
    message_id, token = await office.claim_one()
    await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)


async def test_what_was_acknowledged_goes_when_its_time_is_over(
    office: PostOffice, clock: ManualClock
) -> None:
    """Counted from the acknowledgement. The message goes with its last delivery, the trace stays longer."""
    await deliver(office)
    clock.advance(10 * DAY)
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 1
    clock.advance(timedelta(milliseconds=1))
    await office.relay.retention.work()

    assert [await rows(office.db, table) for table in (relay_messages, relay_index, relay_traces)] == [
        0,
        0,
        1,
    ]
    await assert_counters_hold(office.db)


async def test_what_waits_is_never_taken(office: PostOffice, clock: ManualClock) -> None:
    """However old: only its sender's expiry ends it. And it can still be claimed."""
    await office.send()
    clock.advance(90 * DAY)
    await office.relay.retention.work()
    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 1, "acknowledged just now"


async def test_dead_letters_and_traces_have_times_of_their_own(
    office: PostOffice, clock: ManualClock
) -> None:
    """Longer than mail, by the settings."""
    await reject(office)
    clock.advance(15 * DAY)
    await office.relay.retention.work()
    assert await rows(office.db, relay_dead_letters) == 1
    clock.advance(6 * DAY)
    await office.relay.retention.work()
    tables = (relay_dead_letters, relay_index, relay_messages, relay_traces)
    assert [await rows(office.db, table) for table in tables] == [0, 0, 0, 0]


async def test_a_mailbox_may_keep_its_mail_longer_or_shorter(office: PostOffice, clock: ManualClock) -> None:
    """Its own time holds instead of the setting."""
    await deliver(office)
    statement = sa.update(relay_endpoints).values(retention_ms=int(30 * DAY / timedelta(milliseconds=1)))
    await office.db.write(lambda tx: tx.execute(statement))
    clock.advance(20 * DAY)
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 1
    clock.advance(11 * DAY)
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 0


async def test_nothing_is_taken_while_the_fleet_is_on_hold(office: PostOffice, clock: ManualClock) -> None:
    """What was just brought over stays until a person has looked."""
    await deliver(office)
    clock.advance(40 * DAY)
    await office.db.write(lambda tx: fleet.change(tx, FleetMode.HOLD, reason="a look", actor="x"))
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 1


async def test_a_hold_that_comes_in_the_middle_ends_the_pass(
    office: PostOffice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is found again and again, and would be looked for until the hold is lifted."""
    monkeypatch.setattr("dorkos.relay.removal.CHUNK", 1)
    for _ in range(3):
        await deliver(office)
    clock.advance(40 * DAY)
    take = removal.remove_delivered

    def once(tx: Transaction, ids: Sequence[str], **told: Any) -> None:
        take(tx, ids, **told)
        fleet.change(tx, FleetMode.HOLD, reason="a look", actor="x")

    monkeypatch.setattr("dorkos.relay.removal.remove_delivered", once)
    async with asyncio.timeout(30):
        await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 2


async def test_keys_are_given_free_after_a_day(office: PostOffice, clock: ManualClock) -> None:
    """The message stays, its key does not."""
    await deliver(office, key="k1")
    clock.advance(DAY)
    await office.relay.retention.work()
    keys = await office.db.read(
        lambda connection: connection.execute(
            sa.select(relay_messages.c.idempotency_key, relay_messages.c.body_hash)
        ).one()
    )
    assert tuple(keys) == (None, None)


async def test_mailboxes_of_replies_go_when_they_are_empty(office: PostOffice, clock: ManualClock) -> None:
    """Each request has one; they must not pile up."""
    receipt, _ = await ask(office)
    await answer(office, receipt.message_id)
    clock.advance(2 * DAY)
    await office.relay.expiry.work()
    clock.advance(30 * DAY)
    await office.relay.expiry.work()
    await office.relay.retention.work()
    clock.advance(30 * DAY)
    await office.relay.retention.work()
    left = await office.relay.endpoints(include_closed=True)
    assert [each.subject for each in left] == [INBOX]


async def test_counters_of_rates_go_when_no_window_reaches_them(
    office: PostOffice, clock: ManualClock
) -> None:
    """They are rows for every minute and pair."""
    await office.send()
    await office.relay.retention.work()
    assert await rows(office.db, rate_limit_buckets) == 2
    clock.advance(timedelta(minutes=63))
    await office.relay.retention.work()
    assert await rows(office.db, rate_limit_buckets) == 0


async def test_more_than_one_change_takes_are_all_taken(
    office: PostOffice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In short changes, until nothing is left."""
    monkeypatch.setattr("dorkos.relay.removal.CHUNK", 2)
    for _ in range(5):
        await deliver(office)
    clock.advance(11 * DAY)
    await office.relay.retention.work()
    assert await rows(office.db, relay_messages) == 0


def just_before(monkeypatch: pytest.MonkeyPatch, take: str, change: Callable[[Transaction], object]) -> None:
    """Let something happen between the look for what is to be taken and the change that takes it."""
    original = getattr(retention, take)

    def late(tx: Transaction, ids: Sequence[str]) -> None:
        change(tx)
        original(tx, ids)

    monkeypatch.setattr(retention, take, late)


async def test_a_reply_that_comes_too_late_is_not_taken_with_the_mailbox_it_was_for(
    office: PostOffice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a dead letter, and stays as long as others, though it came when the mailbox was just to go."""
    receipt, _ = await ask(office)
    clock.advance(2 * DAY)
    await office.relay.expiry.work()
    clock.advance(30 * DAY)
    reply = Envelope(id=new_id(), subject=address_of(receipt.message_id), payload='"late"')
    just_before(monkeypatch, "_take_mailboxes", lambda tx: office.relay.publish_in(tx, OPERATOR, reply))
    await office.relay.retention.work()
    letters = await office.relay.letters.newest_first(LetterFilter(), limit=10)
    assert [letter.message.id for letter in letters] == [reply.id]


async def test_the_hop_of_a_message_that_is_just_put_back_stays_with_it(
    db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits again, and what becomes of it is still to be written there."""
    factory = UlidFactory(lambda: int(clock.now().timestamp() * 1_000_000_000))
    monkeypatch.setattr("dorkos.ids._factory", factory)
    office = post_office(db, clock, trace_retention_days=5)
    await office.open()
    await reject(office)
    (letter,) = await office.relay.letters.newest_first(LetterFilter(), limit=10)
    clock.advance(6 * DAY)
    again = partial(
        redrive,
        letter_id=letter.id,
        caller=OPERATOR,
        settings=office.relay.settings,
        access=office.relay.access,
    )
    just_before(monkeypatch, "_take_hops", again)
    await office.relay.retention.work()
    assert await rows(db, relay_traces) == 1
