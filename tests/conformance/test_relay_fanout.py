"""One message for several mailboxes, and how full mailboxes are told, on both engines."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.system import events
from dorkos.identity.model import OPERATOR
from dorkos.relay.endpoints import MailboxLimits
from dorkos.relay.subjects import subject_hash
from dorkos.vocabulary import DeliveryStatus, PublishOutcome
from tests.relay.post_office import ADA, INBOX, PostOffice, assert_counters_hold, post_office, stored

SIDE = "relay.system.adapter.hook"


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with an adapter that listens to Ada's mail, its mailbox open."""
    return post_office(db, clock, max_mailbox_size=4, max_mailbox_bytes=1024, pressure_warning_at=0.5)


async def listen(office: PostOffice) -> None:
    """Let an adapter listen."""
    await office.open(SIDE)
    office.routes.mailboxes[INBOX] = [SIDE]


async def pressures(office: PostOffice) -> list[tuple[str, str]]:
    """What was told of mailboxes that fill up."""
    statement = sa.select(events.c.data).where(events.c.kind == "relay.endpoint.pressure")
    rows = await office.db.read(
        lambda connection: connection.execute(statement.order_by(events.c.position)).scalars().all()
    )
    return [(row["subject"], row["state"]) for row in rows]


async def test_each_recipient_has_its_delivery_and_its_outcome(office: PostOffice) -> None:
    """One message, two deliveries, each settled for itself."""
    await office.open()
    await listen(office)
    receipt = await office.send()
    message_id, token = await office.claim_one(OPERATOR, SIDE)
    await office.relay.ack(OPERATOR, SIDE, message_id, token)

    assert [each.subject for each in receipt.recipients] == [INBOX, SIDE]
    assert receipt.delivered_to == 2
    found = await office.relay.message(receipt.message_id)
    assert {each.endpoint_subject: each.status for each in found.deliveries} == {
        INBOX: DeliveryStatus.PENDING,
        SIDE: DeliveryStatus.DELIVERED,
    }
    rows = await stored(office.db, receipt.message_id)
    assert rows.events[:2] == ["relay.message.published", "relay.message.routed"]
    await assert_counters_hold(office.db)


async def test_where_an_adapter_listens_no_mailbox_is_needed(office: PostOffice) -> None:
    """A chat outside has an address, and no mailbox here."""
    await listen(office)
    receipt = await office.send()

    assert [(each.subject, each.outcome) for each in receipt.recipients] == [(SIDE, PublishOutcome.DELIVERED)]
    rows = await stored(office.db, receipt.message_id)
    assert (rows.reasons, rows.events) == ([], ["relay.message.published"])


async def test_one_recipient_that_takes_nothing_keeps_it_from_no_other(office: PostOffice) -> None:
    """The adapter's mailbox is full: a dead letter there, delivered here."""
    await office.open()
    await listen(office)
    for _ in range(4):
        await office.send(to=SIDE)
    receipt = await office.send()

    assert {each.subject: each.outcome for each in receipt.recipients} == {
        INBOX: PublishOutcome.DELIVERED,
        SIDE: PublishOutcome.BACKPRESSURE,
    }
    assert receipt.pressure == {subject_hash(INBOX): 0.25, subject_hash(SIDE): 1.0}
    assert (await stored(office.db, receipt.message_id)).reasons == ["backpressure"]


async def test_what_is_stopped_reaches_no_adapter(office: PostOffice) -> None:
    """All gates stand before the fan-out."""
    await office.open()
    await listen(office)
    receipt = await office.send(calls=0)

    assert receipt.delivered_to == 0
    assert (await stored(office.db, receipt.message_id)).statuses == []


async def test_a_mailbox_is_full_by_bytes_too(office: PostOffice) -> None:
    """What fits still goes in, and room comes back with an ack."""
    await office.open()
    assert (await office.send("x" * 700)).delivered_to == 1
    refused = await office.send("x" * 700)
    assert refused.recipients[0].outcome is PublishOutcome.BACKPRESSURE
    assert "702 of 1024 bytes wait in it, and this message has 702" in (refused.recipients[0].detail or "")
    assert (await office.send("x" * 100)).delivered_to == 1

    message_id, token = await office.claim_one()
    await office.relay.ack(ADA, INBOX, message_id, token)
    assert (await office.send("x" * 700)).delivered_to == 1
    await assert_counters_hold(office.db)


async def test_a_mailbox_may_have_limits_of_its_own(office: PostOffice) -> None:
    """They hold instead of the settings', in both directions."""
    await office.relay.open(OPERATOR, INBOX, description=None, limits=MailboxLimits(max_pending=1))
    assert (await office.send()).delivered_to == 1
    assert (await office.send()).recipients[0].outcome is PublishOutcome.BACKPRESSURE
    await office.relay.open(
        OPERATOR, SIDE, description=None, limits=MailboxLimits(max_pending=9, max_pending_bytes=4096)
    )
    assert [(await office.send("x" * 300, to=SIDE)).delivered_to for _ in range(6)] == [1] * 6


async def test_pressure_is_told_when_it_passes_the_threshold_and_when_full(office: PostOffice) -> None:
    """Once each, not with every message; and again after it fell below."""
    await office.open()
    for _ in range(5):
        await office.send()
    assert await pressures(office) == [(INBOX, "warning"), (INBOX, "critical")]

    for _ in range(3):
        message_id, token = await office.claim_one()
        await office.relay.ack(ADA, INBOX, message_id, token)
    await office.send()
    assert await pressures(office) == [(INBOX, "warning"), (INBOX, "critical"), (INBOX, "warning")]
