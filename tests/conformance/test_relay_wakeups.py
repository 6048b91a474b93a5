"""Long polls, on both engines: a wait ends when a message is there, and misses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest

from dorkos.clock import ManualClock, SystemClock
from dorkos.db.database import Change, Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.identity.token_list import TokenService
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.relay.model import Claim
from dorkos.testing import ENGINES, EngineName, create_test_db
from tests.relay.post_office import ADA, INBOX, PostOffice, post_office

T = TypeVar("T")

# Far beyond the patience of a test: a wait that is not woken fails it.
LONG_MS = 600_000


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> AsyncIterator[PostOffice]:
    """Relay with an open mailbox, on a feed that never polls by itself."""
    office = post_office(db, clock)
    await office.feed.start()
    await office.open()
    yield office
    await office.relay.stop()
    await office.feed.stop()


def waiting(office: PostOffice) -> asyncio.Task[Claim]:
    """A claim that waits for a message."""
    return asyncio.create_task(office.relay.claim(ADA, INBOX, limit=1, wait_ms=LONG_MS))


async def ids(claim: asyncio.Task[Claim]) -> list[str]:
    """What the claim got in the end."""
    async with asyncio.timeout(30):
        return [delivery.message.id for delivery in (await claim).deliveries]


async def test_a_message_that_is_there_ends_the_wait_at_once(office: PostOffice) -> None:
    """Waiting is for an empty mailbox."""
    receipt = await office.send()

    assert await ids(waiting(office)) == [receipt.message_id]


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_nothing_is_claimed_for_a_token_that_ended_meanwhile(
    office: PostOffice, clock: ManualClock, how: str
) -> None:
    """Whoever holds it gets nothing that came after its end, and the message waits on for its owner."""
    token = NewToken(new_id(), new_secret(), INBOX, ADA.scopes)
    await office.db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(hours=1)))
    holder = replace(ADA, token_id=token.id)
    claim = asyncio.create_task(office.relay.claim(holder, INBOX, limit=1, wait_ms=LONG_MS))
    # Changes are made in the order in which they are asked for, and the first look is one.
    await asyncio.wait([claim], timeout=0.01)
    if how == "revoked":
        await TokenService(office.db, clock).revoke(token.id, actor=INBOX)
    else:
        clock.advance(timedelta(hours=1))
    receipt = await office.send()

    with pytest.raises(DorkError) as refusal:
        await ids(claim)
    assert refusal.value.code is ErrorCode.TOKEN_INVALID
    assert await ids(waiting(office)) == [receipt.message_id]


async def test_a_publish_wakes_one_who_waits(office: PostOffice) -> None:
    """Others' messages do not end the wait; the mailbox's own does."""
    await office.open("relay.human.other")
    claim = waiting(office)
    await office.send(to="relay.human.other")
    await office.send(to="relay.human.nobody")
    await asyncio.wait([claim], timeout=0.05)
    assert not claim.done()
    receipt = await office.send()

    assert await ids(claim) == [receipt.message_id]


async def test_no_message_falls_between_look_and_wait(office: PostOffice) -> None:
    """Forty messages sent at any moment of forty waits: each wait gets one."""
    claims = []
    sent = []
    for number in range(40):
        claims.append(waiting(office))
        sent.append((await office.send(number)).message_id)
    got = [message_id for claim in claims for message_id in await ids(claim)]

    assert sorted(got) == sorted(sent)


async def test_a_message_sent_right_after_the_look_ends_the_wait(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is over before the wait begins, and counts all the same: waiting starts before looking."""
    write, sent = office.db.write, list[str]()
    office.feed.worked.enable()

    async def look_then_miss(change: Change[T]) -> T:
        found = await write(change)
        monkeypatch.undo()
        before = office.feed.head.position
        sent.append((await office.send()).message_id)
        while office.feed.head.position == before:
            await office.feed.worked.wait()
        return found

    monkeypatch.setattr(office.db, "write", look_then_miss)

    assert await ids(waiting(office)) == sent


async def test_a_nack_wakes_one_who_waits(office: PostOffice) -> None:
    """What was given back without delay goes to the next who asks."""
    await office.send()
    held = await office.claim_one()
    claim = waiting(office)
    await asyncio.wait([claim], timeout=0.05)
    assert not claim.done()
    await office.relay.nack(ADA, INBOX, *held, delay=timedelta(0), reject=False)

    assert await ids(claim) == [held[0]]


@pytest.mark.parametrize("engine", ENGINES)
async def test_the_end_of_a_lease_ends_the_wait(engine: EngineName) -> None:
    """No event tells of it, so the wait is no longer than the lease: here, one second of real time."""
    async with create_test_db(engine, clock=SystemClock()) as real_time:
        office = post_office(real_time, SystemClock(), lease_seconds=1)
        await office.feed.start()
        await office.open()
        receipt = await office.send()
        await office.claim_one()

        assert await ids(waiting(office)) == [receipt.message_id]
        await office.feed.stop()


async def test_a_wait_ends_empty_when_its_time_is_over(office: PostOffice) -> None:
    """Nothing came: that is an answer, not an error."""
    claim = await office.relay.claim(ADA, INBOX, limit=1, wait_ms=20)

    assert claim.deliveries == ()


async def test_closing_the_mailbox_ends_the_wait(office: PostOffice) -> None:
    """Who waits for a mailbox that is closed is told so."""
    claim = waiting(office)
    await asyncio.wait([claim], timeout=0.05)
    await office.relay.close(OPERATOR, INBOX)

    with pytest.raises(DorkError) as refusal:
        await ids(claim)
    assert refusal.value.code is ErrorCode.ENDPOINT_NOT_FOUND


@pytest.mark.parametrize("part", ["relay", "feed"])
async def test_a_stopping_server_lets_nobody_wait(office: PostOffice, part: str) -> None:
    """Stopping Relay, or the feed under it, ends every wait at once, and new ones do not begin."""
    claims = [waiting(office) for _ in range(3)]
    await asyncio.wait(claims, timeout=0.05)
    await (office.relay.stop() if part == "relay" else office.feed.stop())

    assert [await ids(claim) for claim in claims] == [[], [], []]
    assert await ids(waiting(office)) == []
