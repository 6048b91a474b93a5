"""Numbers that equal what is stored, on both engines."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_dead_letters, relay_index, relay_messages
from dorkos.db.schema.system import METRICS_KEY, system_state
from dorkos.identity.model import OPERATOR
from dorkos.relay.metrics import Totals, latency, traffic
from dorkos.relay.model import LetterFilter
from tests.conformance.test_relay_requests import answer, ask
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, post_office

SIDE = "relay.system.adapter.side"


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with Ada's mailbox, which has room for four; what was there is counted already."""
    office = post_office(db, clock, max_mailbox_size=4, retention_days=1, message_ttl_seconds=60)
    await office.open()
    await office.relay.metering.work()
    return office


async def settle(office: PostOffice, *, reject: bool = False) -> None:
    """Take one message of Ada's and end it."""
    message_id, token = await office.claim_one()
    if reject:
        await office.relay.nack(ADA, INBOX, message_id, token, delay=timedelta(), reject=True)
    else:
        await office.relay.ack(ADA, INBOX, message_id, token)


async def assert_equal_to_what_is_stored(office: PostOffice) -> Totals:
    """Each number is what a recount of the tables says; the totals."""

    def recount(connection: sa.Connection) -> dict[str, object]:
        def groups(column: sa.Column[str], *where: sa.ColumnElement[bool]) -> dict[str, int]:
            counted = sa.select(column, sa.func.count()).where(*where).group_by(column)
            return {str(row[0]): int(row[1]) for row in connection.execute(counted)}

        standing = relay_dead_letters.c.redriven_at.is_(None)
        return {
            "status": {"pending": 0, "delivered": 0, "failed": 0} | groups(relay_index.c.status),
            "reasons": groups(relay_dead_letters.c.reason, standing),
            "messages": sum(groups(relay_messages.c.subject).values()),
        }

    counted = (await office.relay.metrics()).totals
    assert {
        "status": {"pending": counted.pending, "delivered": counted.delivered, "failed": counted.failed},
        "reasons": {reason: count for reason, count in counted.reasons.items() if count},
        "messages": counted.messages,
    } == await office.db.read(recount)
    assert sum(counted.subjects.values()) == counted.messages
    return counted


async def test_every_kind_of_fate_is_counted(office: PostOffice, clock: ManualClock) -> None:
    """After each step the numbers are those of the tables, kept or not."""
    await office.open(SIDE)
    office.routes.mailboxes["relay.human.chat"] = [SIDE]
    await office.send()
    await assert_equal_to_what_is_stored(office)
    await settle(office)
    await assert_equal_to_what_is_stored(office)
    await office.relay.metering.work()
    await office.send()
    await settle(office, reject=True)
    await assert_equal_to_what_is_stored(office)
    await office.send(to="relay.human.nobody")
    await office.send(to="relay.human.chat")
    for _ in range(6):
        await office.send()
    await assert_equal_to_what_is_stored(office)
    await office.relay.metering.work()
    await office.relay.letters.redrive_all(OPERATOR, LetterFilter(), limit=10)
    await assert_equal_to_what_is_stored(office)
    clock.advance(timedelta(minutes=2))
    await office.relay.expiry.work()
    await assert_equal_to_what_is_stored(office)
    await office.relay.letters.purge_all(OPERATOR, LetterFilter(), limit=3)
    await office.relay.close(OPERATOR, INBOX)
    await office.relay.metering.work()
    counted = await assert_equal_to_what_is_stored(office)
    assert counted.messages > 0
    assert counted.dead_letters > 0


async def test_a_message_that_no_mailbox_of_several_took_is_one(office: PostOffice) -> None:
    """Two dead letters, one message; and one that the second took is one as well."""
    await office.open(SIDE)
    office.routes.mailboxes[INBOX] = [SIDE]
    for _ in range(4):
        await office.send()
    await office.send()
    message_id, token = await office.claim_one(OPERATOR, SIDE)
    await office.relay.ack(OPERATOR, SIDE, message_id, token)
    await office.send()
    counted = await assert_equal_to_what_is_stored(office)
    assert counted.messages == 6


async def test_requests_are_counted_together(office: PostOffice) -> None:
    """Each reply has an address of its own, which is of no interest."""
    for _ in range(2):
        receipt, _ = await ask(office)
        await answer(office, receipt.message_id)
    counted = await assert_equal_to_what_is_stored(office)
    assert counted.subjects == {INBOX: 2, "relay.system.reply.*": 2}


async def test_what_was_there_before_is_counted_once(office: PostOffice) -> None:
    """After an import, or when the fact was lost, all is counted anew."""
    await office.send()
    await settle(office)
    await office.relay.metering.work()
    await office.db.write(
        lambda tx: tx.execute(sa.delete(system_state).where(system_state.c.key == METRICS_KEY))
    )
    await office.send()
    await assert_equal_to_what_is_stored(office)
    await office.relay.metering.work()
    await office.send()
    await assert_equal_to_what_is_stored(office)


@pytest.mark.parametrize("spoiled", ["", "[]", "{}", '{"epoch": "another", "position": 1}'])
async def test_a_fact_that_cannot_be_trusted_is_made_anew(office: PostOffice, spoiled: str) -> None:
    """Numbers that are shown were measured."""
    await office.send()
    await office.relay.metering.work()
    fact = sa.update(system_state).where(system_state.c.key == METRICS_KEY)
    await office.db.write(lambda tx: tx.execute(fact.values(value=spoiled)))
    await assert_equal_to_what_is_stored(office)
    await office.relay.metering.work()
    await office.send()
    await assert_equal_to_what_is_stored(office)


async def test_two_servers_keep_one_count(office: PostOffice, clock: ManualClock, db: Database) -> None:
    """Whoever keeps it first; nothing is counted twice."""
    other = post_office(db, clock)
    await office.send()
    await office.relay.metering.work()
    await other.relay.metering.work()
    await office.send(caller=BOB)
    await other.relay.metering.work()
    await office.relay.metering.work()
    await assert_equal_to_what_is_stored(office)


async def test_traffic_is_told_by_ten_minutes_also_when_counted_anew(
    office: PostOffice, clock: ManualClock
) -> None:
    """What was sent, and what of it stopped; retention takes nothing of it away."""
    await office.send()
    await office.send(to="relay.human.nobody")
    clock.advance(timedelta(minutes=30))
    await office.send()
    kept = (await office.relay.metrics()).totals
    await office.db.write(
        lambda tx: tx.execute(sa.delete(system_state).where(system_state.c.key == METRICS_KEY))
    )
    anew = (await office.relay.metrics()).totals
    for counted in (kept, anew):
        told = traffic(counted, clock.now())
        assert [each.sent for each in told[-4:]] == [2, 0, 0, 1]
        assert [each.stopped for each in told[-4:]] == [1, 0, 0, 0]


async def test_retention_is_counted(office: PostOffice, clock: ManualClock) -> None:
    """What was taken away is not counted any more."""
    await office.send()
    await settle(office)
    clock.advance(timedelta(days=40))
    await office.relay.retention.work()
    await assert_equal_to_what_is_stored(office)


async def test_latencies_are_told_for_the_last_day(office: PostOffice, clock: ManualClock) -> None:
    """From publish to acknowledgement, a little too high at most."""
    for seconds in (1, 2, 10):
        await office.send()
        clock.advance(timedelta(seconds=seconds))
        await settle(office)
    await office.relay.metering.work()
    found = latency((await office.relay.metrics()).totals, clock.now())
    assert found.count == 3
    assert found.average_ms == pytest.approx(13_000 / 3)
    assert [found.p50_ms, found.p95_ms, found.p99_ms] == pytest.approx([2000, 10_000, 10_000], rel=0.05)
    assert found.p50_ms is not None
    assert found.p50_ms >= 2000
    await office.relay.metering.work()
    assert latency((await office.relay.metrics()).totals, clock.now()) == found
    clock.advance(timedelta(hours=25))
    assert latency((await office.relay.metrics()).totals, clock.now()).count == 0
