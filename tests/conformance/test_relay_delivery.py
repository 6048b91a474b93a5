"""Claim, ack, nack and extend, on both engines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.relay import delivery
from dorkos.relay.acks import Ack
from dorkos.relay.model import LetterFilter
from dorkos.vocabulary import DeliveryStatus
from tests.conformance.test_relay_together import at_once
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office, stored

NO_DELAY = timedelta(0)


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with one open mailbox; leases of a minute, three attempts."""
    office = post_office(db, clock, lease_seconds=60, max_attempts=3)
    await office.open()
    return office


async def give_back(office: PostOffice, held: tuple[str, str], delay: timedelta = NO_DELAY) -> DeliveryStatus:
    """Nack what was claimed."""
    return await office.relay.nack(ADA, INBOX, *held, delay=delay, reject=False)


def refused(code: ErrorCode) -> pytest.RaisesExc[DorkError]:
    """Expect this refusal."""
    return pytest.RaisesExc(DorkError, check=lambda fault: fault.code is code)


async def test_messages_are_claimed_in_the_order_they_were_accepted(office: PostOffice) -> None:
    """First in, first out, whatever the size of the claims."""
    sent = [(await office.send(number)).message_id for number in range(7)]
    claimed = []
    for limit in (1, 3, 100):
        claim = await office.relay.claim(ADA, INBOX, limit=limit)
        claimed += [each.message.id for each in claim.deliveries]

    assert claimed == sent


async def test_a_claimed_message_is_nobody_elses(office: PostOffice) -> None:
    """While the lease lives, another claim finds nothing, and the message still counts as pending."""
    receipt = await office.send()
    await office.claim_one()

    assert (await office.relay.claim(OPERATOR, INBOX, limit=1)).deliveries == ()
    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.PENDING]
    await assert_counters_hold(office.db)


async def test_many_consumers_never_hold_the_same_message(office: PostOffice) -> None:
    """Twelve claims at once of thirty messages: each message is held once."""
    sent = {(await office.send(number)).message_id for number in range(30)}
    claims = await asyncio.gather(*(office.relay.claim(ADA, INBOX, limit=4) for _ in range(12)))
    held = [each.message.id for claim in claims for each in claim.deliveries]
    while rest := (await office.relay.claim(ADA, INBOX, limit=4)).deliveries:
        held += [each.message.id for each in rest]

    assert len(held) == 30
    assert set(held) == sent


async def test_an_ack_delivers_for_good(office: PostOffice, clock: ManualClock) -> None:
    """After the ack nothing offers the message again, and the mailbox is counted down."""
    receipt = await office.send()
    held = await office.claim_one()
    await office.relay.ack(ADA, INBOX, *held)
    clock.advance(timedelta(hours=1))

    assert (await office.relay.claim(ADA, INBOX, limit=1)).deliveries == ()
    rows = await stored(office.db, receipt.message_id)
    assert rows.statuses == [DeliveryStatus.DELIVERED]
    assert rows.events == ["relay.message.published", "relay.delivery.claimed", "relay.delivery.acked"]
    assert (await office.relay.message(receipt.message_id)).status is DeliveryStatus.DELIVERED
    await assert_counters_hold(office.db)


async def test_a_second_ack_is_told_that_there_was_a_first(office: PostOffice) -> None:
    """Acking twice answers lease_lost, says why, and counts the mailbox down once."""
    await office.send()
    held = await office.claim_one()
    await office.relay.ack(ADA, INBOX, *held)
    with refused(ErrorCode.LEASE_LOST) as refusal:
        await office.relay.ack(ADA, INBOX, *held)

    assert "was acknowledged already" in refusal.value.message
    await assert_counters_hold(office.db)


async def test_acks_at_once_have_an_answer_each(office: PostOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one commit are settled together: the good ones, one that comes twice, and some that hold
    nothing; and the mailbox is counted down by those that were."""
    sent = [(await office.send(number)).message_id for number in range(5)]
    claim = await office.relay.claim(ADA, INBOX, limit=4)
    [token] = {each.lease_token for each in claim.deliveries}
    assert token is not None
    asked = [
        (INBOX, sent[0], token),
        (INBOX, sent[1], new_id()),
        (INBOX, sent[2], token),
        (INBOX, sent[0], token),
        ("relay.human.ada.nowhere", sent[3], token),
        (INBOX, sent[4], token),
        (INBOX, new_id(), token),
        (INBOX, sent[3], token),
    ]
    rounds: list[int] = []
    settle = Ack.together

    def counted(tx: Transaction, changes: Sequence[Ack]) -> list[DorkError | None]:
        rounds.append(len(changes))
        return settle(tx, changes)

    monkeypatch.setattr(Ack, "together", staticmethod(counted))
    answers = await at_once(office.db, [office.relay.ack(OPERATOR, *each) for each in asked])
    assert rounds == [len(asked)]
    assert [answer and answer.code for answer in answers] == [
        None,
        ErrorCode.LEASE_LOST,
        None,
        ErrorCode.LEASE_LOST,
        ErrorCode.ENDPOINT_NOT_FOUND,
        ErrorCode.LEASE_LOST,
        ErrorCode.DELIVERY_NOT_FOUND,
        None,
    ]
    assert "was acknowledged already" in answers[3].message
    assert [(await stored(office.db, each)).statuses for each in sent] == [
        [DeliveryStatus.DELIVERED],
        [DeliveryStatus.PENDING],
        [DeliveryStatus.DELIVERED],
        [DeliveryStatus.DELIVERED],
        [DeliveryStatus.PENDING],
    ]
    acked = (await stored(office.db, sent[0])).events
    assert acked.count("relay.delivery.acked") == 1
    await assert_counters_hold(office.db)


async def test_what_is_claimed_for_a_caller_that_has_gone_is_given_back(office: PostOffice) -> None:
    """The change was on its way when the caller went: nothing is held for nobody, and no attempt is lost."""
    sent = [(await office.send(number)).message_id for number in range(2)]
    release = threading.Event()
    first = asyncio.ensure_future(office.db.write(lambda tx: release.wait(30)))
    gone = asyncio.ensure_future(office.relay.claim(ADA, INBOX, limit=2))
    await asyncio.wait([first, gone], timeout=0)
    gone.cancel()
    await asyncio.wait([gone])
    release.set()
    await first
    await office.relay.stop()

    claim = await office.relay.claim(ADA, INBOX, limit=2)
    assert [(each.message.id, each.attempts) for each in claim.deliveries] == [(sent[0], 1), (sent[1], 1)]
    assert (await stored(office.db, sent[0])).events[1:] == [
        "relay.delivery.claimed",
        "relay.delivery.nacked",
        "relay.delivery.claimed",
    ]


async def test_an_expired_lease_is_claimed_again(office: PostOffice, clock: ManualClock) -> None:
    """A consumer that vanished loses the message to the next one; its late ack is refused."""
    await office.send()
    first = await office.claim_one()
    clock.advance(timedelta(seconds=59, milliseconds=999))
    assert (await office.relay.claim(ADA, INBOX, limit=1)).deliveries == ()
    clock.advance(timedelta(milliseconds=1))
    second = await office.claim_one()

    assert second[0] == first[0]
    for attempt in (
        office.relay.ack(ADA, INBOX, *first),
        give_back(office, first),
        office.relay.extend(ADA, INBOX, *first),
    ):
        with refused(ErrorCode.LEASE_LOST):
            await attempt
    await office.relay.ack(ADA, INBOX, *second)


async def test_an_expired_lease_that_nobody_took_over_may_still_ack(
    office: PostOffice, clock: ManualClock
) -> None:
    """Late but alone: the work was done, so it counts."""
    receipt = await office.send()
    held = await office.claim_one()
    clock.advance(timedelta(minutes=10))
    await office.relay.ack(ADA, INBOX, *held)

    assert (await stored(office.db, receipt.message_id)).statuses == [DeliveryStatus.DELIVERED]


async def test_extending_holds_a_message_longer(office: PostOffice, clock: ManualClock) -> None:
    """The new lease counts from now, and others wait for its end."""
    await office.send()
    held = await office.claim_one()
    clock.advance(timedelta(seconds=50))
    until = await office.relay.extend(ADA, INBOX, *held, lease_s=100)
    assert until == clock.now() + timedelta(seconds=100)
    clock.advance(timedelta(seconds=99))

    assert (await office.relay.claim(ADA, INBOX, limit=1)).deliveries == ()
    await office.relay.ack(ADA, INBOX, *held)


async def test_a_nack_offers_the_message_again_after_its_delay(
    office: PostOffice, clock: ManualClock
) -> None:
    """Not before the delay has passed; then it keeps its place before later messages."""
    first = (await office.send(1)).message_id
    second = (await office.send(2)).message_id
    assert await give_back(office, await office.claim_one(), timedelta(seconds=5)) is DeliveryStatus.PENDING

    passed_by = await office.claim_one()
    assert passed_by[0] == second
    await give_back(office, passed_by)
    clock.advance(timedelta(seconds=5))
    claim = await office.relay.claim(ADA, INBOX, limit=2)
    assert [each.message.id for each in claim.deliveries] == [first, second]
    assert [each.attempts for each in claim.deliveries] == [2, 2]


async def test_an_empty_claim_says_when_something_will_be_there(office: PostOffice) -> None:
    """Nothing waits, or something waits for its time: the waiter can tell."""
    assert (await office.relay.claim(ADA, INBOX, limit=1)).next_in_s is None
    await office.send()
    held = await office.claim_one()
    assert (await office.relay.claim(ADA, INBOX, limit=1)).next_in_s == 60
    await give_back(office, held, timedelta(seconds=7))
    assert (await office.relay.claim(ADA, INBOX, limit=1)).next_in_s == 7


async def test_a_message_that_is_always_given_back_ends_as_a_dead_letter(office: PostOffice) -> None:
    """After the last attempt a nack answers failed, and the message is out of the way."""
    receipt = await office.send("poison")
    assert await give_back(office, await office.claim_one()) is DeliveryStatus.PENDING
    assert await give_back(office, await office.claim_one()) is DeliveryStatus.PENDING
    assert await give_back(office, await office.claim_one()) is DeliveryStatus.FAILED

    assert (await office.relay.claim(ADA, INBOX, limit=1)).deliveries == ()
    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([DeliveryStatus.FAILED], ["attempts_exhausted"])
    await assert_counters_hold(office.db)


async def test_a_message_that_kills_its_consumers_ends_as_a_dead_letter(
    office: PostOffice, clock: ManualClock
) -> None:
    """Consumers that vanish without a nack use up the attempts, too, and the next message gets through."""
    poison = await office.send("poison")
    for _ in range(3):
        await office.claim_one()
        clock.advance(timedelta(minutes=1))
    good = await office.send("good")

    assert (await office.claim_one())[0] == good.message_id
    assert (await stored(office.db, poison.message_id)).reasons == ["attempts_exhausted"]
    await assert_counters_hold(office.db)


async def test_a_rejected_message_is_not_tried_again(office: PostOffice) -> None:
    """Reject is for good, with its own reason."""
    receipt = await office.send()
    held = await office.claim_one()
    assert await office.relay.nack(ADA, INBOX, *held, delay=NO_DELAY, reject=True) is DeliveryStatus.FAILED

    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([DeliveryStatus.FAILED], ["rejected"])
    assert rows.events[-1] == "relay.message.dead_lettered"
    with refused(ErrorCode.LEASE_LOST) as refusal:
        await office.relay.ack(ADA, INBOX, *held)
    assert "dead letter" in refusal.value.message
    await assert_counters_hold(office.db)


async def test_an_expired_message_is_never_claimed(office: PostOffice, clock: ManualClock) -> None:
    """It becomes a dead letter on the way, however many of them stand before a live one."""
    old = [
        (await office.send(number, expires_at=clock.now() + timedelta(seconds=1))).message_id
        for number in range(4)
    ]
    live = await office.send("live")
    clock.advance(timedelta(seconds=2))

    assert (await office.claim_one())[0] == live.message_id
    for message_id in old:
        assert (await stored(office.db, message_id)).reasons == ["expired"]
    await assert_counters_hold(office.db)


async def test_more_dead_letters_than_one_change_makes_do_not_hide_a_live_message(
    office: PostOffice, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change makes few dead letters; a claim and the sweep both go on until they are through."""
    monkeypatch.setattr(delivery, "STALE_MAX", 2)

    async def fill() -> str:
        for number in range(5):
            await office.send(number, expires_at=clock.now() + timedelta(seconds=1))
        return (await office.send("live")).message_id

    live = await fill()
    clock.advance(timedelta(seconds=2))
    assert (await office.claim_one())[0] == live

    await fill()
    clock.advance(timedelta(seconds=2))
    await office.relay.expiry.work()
    assert len(await office.relay.letters.newest_first(LetterFilter(), limit=100)) == 10
    await assert_counters_hold(office.db)


async def test_expiry_buries_what_nobody_holds(office: PostOffice, clock: ManualClock) -> None:
    """The sweep takes pending messages past their time, and leaves a live lease to its holder."""
    soon = clock.now() + timedelta(seconds=1)
    held = await office.send("held", expires_at=soon)
    lease = await office.claim_one()
    waiting = await office.send("waiting", expires_at=soon)
    lasting = await office.send("lasting")
    await office.relay.expiry.work()
    clock.advance(timedelta(seconds=2))
    await office.relay.expiry.work()

    assert (await stored(office.db, waiting.message_id)).reasons == ["expired"]
    assert (await stored(office.db, held.message_id)).reasons == []
    assert (await stored(office.db, lasting.message_id)).statuses == [DeliveryStatus.PENDING]
    await office.relay.ack(ADA, INBOX, *lease)
    await assert_counters_hold(office.db)


async def test_another_mailbox_is_out_of_bounds(office: PostOffice) -> None:
    """Nobody but its owner and the operator looks into, claims from or settles in a mailbox."""
    await office.send()
    held = await office.claim_one(OPERATOR)
    for attempt in (
        office.relay.inbox(BOB, INBOX, status=None, before=None, limit=1),
        office.relay.claim(BOB, INBOX, limit=1),
        office.relay.ack(BOB, INBOX, *held),
        office.relay.nack(BOB, INBOX, *held, delay=NO_DELAY, reject=False),
        office.relay.extend(BOB, INBOX, *held),
        office.relay.claim(BOB, "relay.human.not.there", limit=1),
    ):
        with refused(ErrorCode.FORBIDDEN):
            await attempt
    await office.relay.ack(ADA, INBOX, *held)


async def test_what_does_not_exist_is_said_to_be_missing(office: PostOffice) -> None:
    """An unknown mailbox and an unknown message are two refusals."""
    await office.send()
    _, token = await office.claim_one()
    with refused(ErrorCode.ENDPOINT_NOT_FOUND):
        await office.relay.claim(OPERATOR, "relay.human.nobody", limit=1)
    with refused(ErrorCode.ENDPOINT_NOT_FOUND):
        await office.relay.inbox(OPERATOR, "relay.human.nobody", status=None, before=None, limit=1)
    with refused(ErrorCode.DELIVERY_NOT_FOUND):
        await office.relay.ack(ADA, INBOX, "01M0000000000000000000000A", token)


async def test_a_wrong_token_holds_nothing(office: PostOffice) -> None:
    """A token that was never given out, or of another message, settles nothing."""
    await office.send(1)
    await office.send(2)
    one, two = await office.claim_one(), await office.claim_one()
    for token in ("", "nonsense", two[1]):
        with refused(ErrorCode.LEASE_LOST):
            await office.relay.ack(ADA, INBOX, one[0], token)
    await office.relay.ack(ADA, INBOX, *one)


async def test_looking_into_a_mailbox_consumes_nothing(office: PostOffice) -> None:
    """The inbox shows bodies, newest first and in pages, and leaves everything as it is."""
    sent = [(await office.send(number)).message_id for number in range(3)]
    first = await office.relay.inbox(ADA, INBOX, status=None, before=None, limit=2)
    rest = await office.relay.inbox(ADA, INBOX, status=None, before=first[-1].id, limit=2)

    assert [each.message.id for each in first + rest] == sent[::-1]
    assert [each.message.payload for each in first + rest] == ["2", "1", "0"]
    assert {each.attempts for each in first + rest} == {0}
    assert len((await office.relay.claim(ADA, INBOX, limit=100)).deliveries) == 3


async def test_messages_are_listed_by_where_they_stand(office: PostOffice) -> None:
    """Pending, delivered and failed each list their own; subject and sender narrow it; pages join up."""
    delivered, pending = await office.send(1), await office.send(2)
    await office.relay.ack(ADA, INBOX, *(await office.claim_one()))
    lost = await office.send(3, to="relay.human.nobody", caller=OPERATOR)

    async def listed(**filters: object) -> list[str]:
        found = await office.relay.messages(limit=10, **filters)  # type: ignore[arg-type]  # Named by the test.
        return [each.message.id for each in found]

    assert await listed() == [lost.message_id, pending.message_id, delivered.message_id]
    assert await listed(status=DeliveryStatus.PENDING) == [pending.message_id]
    assert await listed(status=DeliveryStatus.DELIVERED) == [delivered.message_id]
    assert await listed(status=DeliveryStatus.FAILED) == [lost.message_id]
    assert await listed(subject=INBOX) == [pending.message_id, delivered.message_id]
    assert await listed(sender=OPERATOR.subject) == [lost.message_id]
    assert await listed(before=pending.message_id) == [delivered.message_id]
