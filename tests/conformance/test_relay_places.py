"""Places in a mailbox that changes of one commit take and leave: as exact as if each were committed alone."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Change, Database, Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_breakers, relay_endpoints, relay_index
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.relay import breaker, endpoints
from dorkos.relay.endpoints import MailboxLimits
from dorkos.relay.model import Envelope, Receipt
from dorkos.setting_groups.relay import RelaySettings
from tests.conformance.test_relay_together import at_once
from tests.relay.post_office import ADA, INBOX, PostOffice, assert_counters_hold, post_office

OTHER = "relay.human.other"


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with nothing in its way but the room of a mailbox."""
    return post_office(db, clock)


def outcomes(answers: list[Any]) -> list[str]:
    """What became of each message, in the order of the changes."""
    return [str(each.recipients[0].outcome) for each in answers if isinstance(each, Receipt)]


def send(office: PostOffice, to: str = INBOX, *, size: int = 1) -> Coroutine[Any, Any, Receipt]:
    """A message whose payload has so many bytes as JSON."""
    return office.send("x" * (size - 2) if size > 1 else 1, to=to)


async def positions(db: Database, subject: str) -> tuple[list[int], int]:
    """Those of the deliveries of a mailbox as they were accepted, and the last that its row gave out."""
    e, i = relay_endpoints.c, relay_index.c
    given = sa.select(i.position).join_from(relay_index, relay_endpoints).where(e.subject == subject)
    last = sa.select(e.position).where(e.subject == subject)
    return await db.read(
        lambda c: (list(c.execute(given.order_by(i.id)).scalars()), c.execute(last).scalar_one())
    )


async def test_positions_follow_each_other_in_each_mailbox(db: Database, office: PostOffice) -> None:
    """However the messages for two mailboxes alternate, and over several commits."""
    for subject in (INBOX, OTHER):
        await office.open(subject)
    for _ in range(2):
        await at_once(db, [send(office, to) for to in (INBOX, OTHER, INBOX, INBOX, OTHER, INBOX)])
    assert await positions(db, INBOX) == ([1, 2, 3, 4, 5, 6, 7, 8], 8)
    assert await positions(db, OTHER) == ([1, 2, 3, 4], 4)
    await assert_counters_hold(db)


@pytest.mark.parametrize(
    ("limits", "sizes", "taken"),
    [
        (MailboxLimits(max_pending=3), [1, 1, 1, 1], 3),
        (MailboxLimits(max_pending_bytes=30), [10, 10, 10, 1], 3),
        # What does not fit leaves the room for what does.
        (MailboxLimits(max_pending_bytes=30), [10, 10, 11, 10], 3),
    ],
)
async def test_a_mailbox_takes_in_one_commit_what_it_has_room_for(
    db: Database, office: PostOffice, limits: MailboxLimits, sizes: list[int], taken: int
) -> None:
    """To the last message and to the last byte."""
    await office.relay.open(OPERATOR, INBOX, description=None, limits=limits)
    said = outcomes(await at_once(db, [send(office, size=size) for size in sizes]))
    assert sorted(said) == ["backpressure"] * (len(sizes) - taken) + ["delivered"] * taken
    await assert_counters_hold(db)


async def test_what_is_acknowledged_makes_room_in_the_same_commit(db: Database, office: PostOffice) -> None:
    """For as many as were acknowledged before, and no more."""
    await office.relay.open(OPERATOR, INBOX, description=None, limits=MailboxLimits(max_pending=2))
    await send(office)
    message_id, token = await office.claim_one()
    acked = office.relay.ack(ADA, INBOX, message_id, token)
    answers = await at_once(db, [send(office), send(office), acked, send(office), send(office)])
    assert outcomes(answers) == ["delivered", "backpressure", "delivered", "backpressure"]
    message_id, token = await office.claim_one()
    answers = await at_once(db, [office.relay.ack(ADA, INBOX, message_id, token), send(office), send(office)])
    assert outcomes(answers) == ["delivered", "backpressure"]
    await assert_counters_hold(db)


async def test_a_mailbox_that_is_closed_in_between_takes_nothing_more(
    db: Database, office: PostOffice
) -> None:
    """What it took before becomes a dead letter, and what comes after its opening is taken again."""
    await office.open()
    answers = await at_once(
        db,
        [
            send(office),
            send(office),
            office.relay.close(OPERATOR, INBOX),
            send(office),
            office.open(),
            send(office),
        ],
    )
    assert outcomes(answers) == ["delivered", "delivered", "no_recipient", "delivered"]
    await assert_counters_hold(db)


def fault(tx: Transaction) -> None:
    """Open the circuit, as a delivery that fails does."""
    settings = RelaySettings.model_validate({"breakerFailures": 1})
    breaker.fault(tx, endpoints.get(tx, INBOX).id, "on purpose", settings, subject=INBOX)


OPEN = Prepared(sa.insert(relay_breakers), "endpoint_id", "state", "failures", "updated_at")


def hot_fault(tx: Transaction) -> None:
    """The same by a hot statement, which does not come by itself after all that waits."""
    endpoint_id = endpoints.mailbox(tx, INBOX).id
    tx.run(OPEN, {"endpoint_id": endpoint_id, "state": "open", "failures": 1, "updated_at": tx.now()})


@pytest.mark.parametrize("fails", [fault, hot_fault])
async def test_a_circuit_that_opens_in_between_lets_nothing_more_in(
    db: Database, office: PostOffice, fails: Change[None]
) -> None:
    """Though the mailbox was open for the message before."""
    await office.open()
    answers = await at_once(db, [send(office), send(office), db.write(fails), send(office)])
    assert outcomes(answers) == ["delivered", "delivered", "circuit_open"]
    await assert_counters_hold(db)


async def test_a_mailbox_whose_time_ends_in_between_takes_nothing_more(
    db: Database, office: PostOffice, clock: ManualClock
) -> None:
    """The time of each change decides, not that of the first of the commit."""
    until = clock.now() + timedelta(seconds=10)
    await office.relay.open(OPERATOR, INBOX, description=None, expires_at=until)
    later = db.write(lambda tx: clock.advance(timedelta(seconds=11)))
    answers = await at_once(db, [send(office), send(office), later, send(office)])
    assert outcomes(answers) == ["delivered", "delivered", "no_recipient"]


async def test_a_change_that_fails_gives_back_its_place(db: Database, office: PostOffice) -> None:
    """Its neighbours have the positions as if it had never been there."""
    await office.open()

    async def broken() -> None:
        def change(tx: Transaction) -> None:
            office.relay.publish_in(tx, ADA, Envelope(id=new_id(), subject=INBOX, payload="1"))
            raise LookupError("on purpose")

        await db.write(change)

    answers = await at_once(db, [send(office), broken(), send(office)])
    assert isinstance(answers[1], LookupError)
    assert await positions(db, INBOX) == ([1, 2], 2)
    await assert_counters_hold(db)
