"""A clock that was ahead and was set right, on both engines."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.clock_watch import ClockWatch
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.pulse import clock_back as pulse_clock
from dorkos.relay import breaker, endpoints
from dorkos.relay import clock_back as relay_clock
from dorkos.relay.model import LetterFilter
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import RunState
from tests.relay.post_office import ADA, INBOX, PostOffice, post_office

HOUR = timedelta(hours=1)
LEASE_S = 60


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with one open mailbox; leases of a minute."""
    office = post_office(db, clock, lease_seconds=LEASE_S, max_attempts=3)
    await office.open()
    return office


def watch(db: Database, clock: ManualClock) -> ClockWatch:
    """That of a server which has just started."""
    repairs = (relay_clock.bring_forward, relay_clock.let_circuits_be_tried, pulse_clock.bring_forward)
    return ClockWatch(db, clock, repairs=repairs)


async def claimable(office: PostOffice) -> list[str]:
    """What a consumer gets now."""
    claim = await office.relay.claim(ADA, INBOX, limit=100)
    return [delivery.message.id for delivery in claim.deliveries]


async def queue(db: Database, clock: ManualClock, *, waits: timedelta) -> str:
    """A run that is stored now and is to wait a while."""
    run_id, now = new_id(), clock.now()
    row = {
        "id": run_id,
        "status": RunState.QUEUED,
        "prompt": "go",
        "chain_id": new_id(),
        "created_at": now,
        "available_at": now + waits,
    }
    await db.write(lambda tx: tx.execute(pulse_runs.insert(), row))
    return run_id


async def waits_for(db: Database, clock: ManualClock, run_id: str) -> timedelta | None:
    """How long from now the run may not start."""
    instant = sa.select(pulse_runs.c.available_at).where(pulse_runs.c.id == run_id)
    found = await db.read(lambda connection: connection.execute(instant).scalar_one())
    return None if found is None else found - clock.now()


async def test_what_was_stored_while_the_clock_was_ahead_does_not_wait_for_it(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """A message is due at once, a lease ends when it was to end, a run waits no longer than it was to."""
    loop = watch(db, clock)
    await loop.work()
    clock.advance(HOUR)
    await loop.work()
    held, waiting = await office.send(), await office.send()
    taken = await office.claim_one()
    at_once = await queue(db, clock, waits=timedelta(0))
    later = await queue(db, clock, waits=timedelta(minutes=5))

    clock.advance(-HOUR)
    assert await claimable(office) == []
    await loop.work()

    assert await claimable(office) == [waiting.message_id]
    assert await waits_for(db, clock, at_once) is None
    assert await waits_for(db, clock, later) == timedelta(minutes=5)
    clock.advance(timedelta(seconds=LEASE_S - 1))
    assert held.message_id not in await claimable(office)
    clock.advance(timedelta(seconds=1))
    assert held.message_id in await claimable(office)
    assert taken[0] == held.message_id


async def test_what_was_put_back_while_the_clock_was_ahead_does_not_wait_for_it(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """A dead letter is old, and so is its delivery; only when it is due comes from the wrong clock."""
    loop = watch(db, clock)
    await loop.work()
    await office.send()
    held = await office.claim_one()
    await office.relay.nack(ADA, INBOX, *held, delay=timedelta(), reject=True)
    (letter,) = await office.relay.letters.newest_first(LetterFilter(), limit=10)
    clock.advance(HOUR)
    await loop.work()
    await office.relay.letters.redrive(OPERATOR, letter.id)
    clock.advance(-HOUR)
    assert await claimable(office) == []
    await loop.work()
    assert await claimable(office) == [held[0]]


async def test_a_circuit_that_a_clock_ahead_has_opened_is_tried_when_it_was_set_right(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """The mailbox would take nothing for as long as the clock was wrong."""
    loop = watch(db, clock)
    clock.advance(HOUR)
    await loop.work()
    settings = RelaySettings.model_validate({"breakerFailures": 1})

    def fault(tx: Transaction) -> None:
        breaker.fault(tx, endpoints.get(tx, INBOX).id, "on purpose", settings, subject=INBOX)

    await db.write(fault)
    clock.advance(-HOUR)
    assert (await office.send()).delivered_to == 0
    await loop.work()
    assert (await office.send()).delivered_to == 1
    # One is tried; it opens again for its cooldown by the clock of now.
    assert (await office.send()).delivered_to == 0
    await loop.work()
    assert (await office.send()).delivered_to == 0


async def test_a_jump_back_while_no_server_ran_is_seen_at_the_start(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """The newest events are from the future then."""
    clock.advance(HOUR)
    sent = await office.send()
    clock.advance(-HOUR)
    await watch(db, clock).work()
    assert await claimable(office) == [sent.message_id]


async def test_more_than_one_change_repairs_them_all(
    office: PostOffice, db: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever still waits for an instant to come does not keep the repair from its end."""
    monkeypatch.setattr(relay_clock, "_CHUNK", 2)
    clock.advance(HOUR)
    sent = [(await office.send()).message_id for _ in range(5)]
    held = await office.claim_one()
    clock.advance(-HOUR)
    await watch(db, clock).work()
    assert await claimable(office) == [one for one in sent if one != held[0]]


async def test_what_was_put_off_by_the_clock_of_now_stays_put_off(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """A small correction, or a clock that goes forward, changes nothing."""
    loop = watch(db, clock)
    await office.send()
    held = await office.claim_one()
    await office.relay.nack(ADA, INBOX, *held, delay=timedelta(minutes=5), reject=False)
    await loop.work()
    clock.advance(timedelta(seconds=-1))
    await loop.work()
    assert await claimable(office) == []
    clock.advance(timedelta(minutes=4))
    await loop.work()
    assert await claimable(office) == []


async def test_what_an_earlier_clock_put_off_waits_its_time(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """Of what was stored before the clock was ahead, nothing is brought forward."""
    loop = watch(db, clock)
    await office.send()
    held = await office.claim_one()
    await office.relay.nack(ADA, INBOX, *held, delay=timedelta(hours=2), reject=False)
    await loop.work()
    clock.advance(HOUR)
    await loop.work()
    clock.advance(-HOUR)
    await loop.work()
    assert await claimable(office) == []
