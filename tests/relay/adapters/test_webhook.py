"""Webhooks that go out, against a real HTTP server on loopback."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.fleet import change as change_fleet
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.adapters.signature import is_signed
from dorkos.relay.model import LetterFilter
from dorkos.relay.rules import NewRule
from dorkos.testing import create_test_db
from dorkos.vocabulary import (
    AdapterState,
    DeadLetterReason,
    DeliveryStatus,
    FleetMode,
    PublishOutcome,
    RuleAction,
)
from tests.relay.adapters.bench import SECRET, Bench, bench
from tests.relay.adapters.target import Target, target
from tests.relay.post_office import ADA, BOB, INBOX, stored

HOOK = "relay.webhook.hook"


@pytest.fixture
async def db(clock: ManualClock) -> AsyncIterator[Database]:
    """One engine: what is stored where is told by the conformance tests."""
    async with create_test_db("sqlite", clock=clock) as database:
        yield database


@pytest.fixture
async def there() -> AsyncIterator[Target]:
    """The other side."""
    async with target() as made:
        yield made


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """This side, its supervisor at work."""
    async with bench(db, clock, tmp_path) as made:
        await made.adapters.start()
        yield made


def outbound(url: str, **more: object) -> dict[str, object]:
    """Settings of a webhook that sends to loopback."""
    return {"outbound": {"url": url, "secret": SECRET, "allowPrivate": True, **more}}


async def settled(here: Bench, message_id: str) -> DeliveryStatus:
    """What became of a message, once its delivery is final."""

    async def look() -> DeliveryStatus | None:
        (status,) = (await stored(here.db, message_id)).statuses
        return None if status is DeliveryStatus.PENDING else status

    return await here.until(look)


async def test_a_message_arrives_signed_and_is_then_acknowledged(here: Bench, there: Target) -> None:
    """Its payload is the body; what names it goes in headers; the counts say what happened."""
    await here.add("hook", "webhook", outbound(there.url, headers={"X-Team": "blue"}))
    sent = await here.office.send({"say": "grüße 🙂"}, to=HOOK, caller=ADA)

    got = await there.next()
    assert json.loads(got.body) == {"say": "grüße 🙂"}
    signed = got.headers
    assert is_signed([SECRET], signed["x-timestamp"], signed["x-nonce"], got.body, signed["x-signature"])
    assert signed["idempotency-key"] == signed["x-dorkos-message"] == sent.message_id
    assert signed["x-team"] == "blue"
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED
    status = await here.status("hook")
    assert (status.state, status.outbound_count, status.error_count) == (AdapterState.CONNECTED, 1, 0)


async def test_a_target_that_fails_gets_the_message_again_later(
    here: Bench, there: Target, clock: ManualClock
) -> None:
    """It waits in the mailbox meanwhile, and the state says that something is wrong."""
    there.answers.extend(["503", "200"])
    await here.add("hook", "webhook", outbound(there.url))
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    first = await there.next()
    status = await here.until_state("hook", AdapterState.ERROR)
    assert "answered HTTP 503" in (status.last_error or "")
    assert (await stored(here.db, sent.message_id)).statuses == [DeliveryStatus.PENDING]

    clock.advance(timedelta(seconds=5))
    await here.office.send("two", to=HOOK, caller=ADA)  # Has the adapter look.
    again = await there.next()
    assert again.headers["idempotency-key"] == first.headers["idempotency-key"]
    assert again.headers["x-nonce"] != first.headers["x-nonce"]
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED
    await here.until_state("hook", AdapterState.CONNECTED)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("404", "answered HTTP 404"),
        ("302 Location: http://10.0.0.1/inside\r\n", "a redirect to http://10.0.0.1/inside"),
    ],
    ids=["refused", "redirected"],
)
async def test_what_the_target_will_never_take_is_a_dead_letter(
    here: Bench, there: Target, answer: str, says: str
) -> None:
    """A redirect as well: none is followed, wherever it leads."""
    there.answers.append(answer)
    await here.add("hook", "webhook", outbound(there.url))
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    (letter,) = await here.office.relay.letters.newest_first(LetterFilter(), limit=10)
    assert letter.reason is DeadLetterReason.ADAPTER_FAILED
    assert says in letter.detail
    assert there.count == 1


async def test_a_message_is_given_up_after_its_attempts(here: Bench, there: Target) -> None:
    """The dead letter says what the last attempt met."""
    there.answers.append("drop")
    await here.add("hook", "webhook", outbound(there.url, maxAttempts=1))
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    (letter,) = await here.office.relay.letters.newest_first(LetterFilter(), limit=10)
    assert letter.reason is DeadLetterReason.ADAPTER_FAILED
    assert "the connection broke" in letter.detail


async def test_a_target_that_hangs_is_given_up_in_time(here: Bench, there: Target) -> None:
    """The next message is sent meanwhile waiting no longer than the timeout."""
    there.answers.append("hang")
    await here.add("hook", "webhook", outbound(there.url, timeoutSeconds=1, maxAttempts=1))
    hung = await here.office.send("one", to=HOOK, caller=ADA)
    after = await here.office.send("two", to=HOOK, caller=ADA)
    assert await settled(here, hung.message_id) is DeliveryStatus.FAILED
    assert await settled(here, after.message_id) is DeliveryStatus.DELIVERED


async def test_refused_credentials_stop_the_adapter_and_keep_its_mail(here: Bench, there: Target) -> None:
    """It is not tried again until a person switches it on, and nothing becomes a dead letter for it."""
    there.answers.append("401")
    await here.add("hook", "webhook", outbound(there.url))
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    status = await here.until_state("hook", AdapterState.AUTH_FAILED)
    assert "401" in (status.last_error or "")
    await here.adapters.supervisor.work()
    assert there.count == 1
    assert (await stored(here.db, sent.message_id)).statuses == [DeliveryStatus.PENDING]

    await here.adapters.switch(OPERATOR, "hook", on=True)
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x", "http://localhost:9/x", "http://[::ffff:127.0.0.1]:9/x"]
)
async def test_private_addresses_are_refused_unless_allowed(here: Bench, url: str) -> None:
    """By the address that the name leads to; nothing is sent, and the state says why."""
    await here.add("hook", "webhook", {"outbound": {"url": url, "secret": SECRET}})
    status = await here.until_state("hook", AdapterState.ERROR)
    assert "no public address" in (status.last_error or "")


async def recipients(here: Bench, to: str, caller: Caller = ADA) -> dict[str, PublishOutcome]:
    """What became of a message at each of its recipients."""
    receipt = await here.office.send("one", to=to, caller=caller)
    return {each.subject: each.outcome for each in receipt.recipients}


async def test_what_listens_to_a_subject_is_named_by_the_settings(here: Bench, there: Target) -> None:
    """Without them, the inbound subject and all below; a mailbox of that name is not needed then."""
    both = {"inbound": {"subject": "relay.human.bob", "secret": SECRET}, **outbound(there.url)}
    await here.add("hook", "webhook", both)
    assert await recipients(here, "relay.human.bob") == {HOOK: PublishOutcome.DELIVERED}
    assert await recipients(here, "relay.human.bob.desk") == {HOOK: PublishOutcome.DELIVERED}
    await here.office.open("relay.human.bob")
    assert list(await recipients(here, "relay.human.bob")) == ["relay.human.bob", HOOK]

    await here.adapters.update(OPERATOR, "hook", {"outbound": {"subjects": ["relay.human.cat.>"]}})
    assert list(await recipients(here, "relay.human.bob")) == ["relay.human.bob"]
    assert await recipients(here, "relay.human.cat.x") == {HOOK: PublishOutcome.DELIVERED}
    await here.adapters.switch(OPERATOR, "hook", on=False)
    assert await recipients(here, "relay.human.cat.x") == {"relay.human.cat.x": PublishOutcome.NO_RECIPIENT}


async def test_what_came_in_by_an_adapter_does_not_go_out_by_it(here: Bench, there: Target) -> None:
    """No echo, although it listens to the subject that it publishes to."""
    both = {"inbound": {"subject": INBOX, "secret": SECRET}, **outbound(there.url)}
    adapter = await here.add("hook", "webhook", both)
    await here.office.open()
    assert list(await recipients(here, INBOX, adapter.caller)) == [INBOX]


async def test_the_rules_judge_the_way_to_an_adapter_by_every_name(here: Bench, there: Target) -> None:
    """Who may not send to it does not reach it through a subject that it listens to."""
    await here.add("hook", "webhook", outbound(there.url, subjects=[INBOX]))
    await here.office.open()
    agent = await here.office.open_for_agent("scout")
    rule = NewRule(new_id(), agent.subject, HOOK, RuleAction.DENY, 200)
    await here.office.relay.access.add(OPERATOR, rule)
    assert await recipients(here, INBOX, agent) == {
        INBOX: PublishOutcome.DELIVERED,
        HOOK: PublishOutcome.DENIED,
    }
    assert await recipients(here, HOOK, agent) == {HOOK: PublishOutcome.DENIED}
    assert there.count == 0


async def test_a_dead_target_opens_the_circuit_of_its_mailbox(
    here: Bench, there: Target, clock: ManualClock
) -> None:
    """As many faults in a row as the setting says; then the mailbox takes nothing for a while."""
    there.answers.extend(["500"] * 5)
    await here.add("hook", "webhook", outbound(there.url, maxAttempts=1))
    for _ in range(5):
        sent = await here.office.send("one", to=HOOK, caller=ADA)
        assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    assert await recipients(here, HOOK) == {HOOK: PublishOutcome.CIRCUIT_OPEN}
    clock.advance(timedelta(seconds=31))
    probe = await here.office.send("one", to=HOOK, caller=ADA)
    assert await settled(here, probe.message_id) is DeliveryStatus.DELIVERED
    assert await recipients(here, HOOK) == {HOOK: PublishOutcome.DELIVERED}


async def test_an_adapter_that_is_switched_off_keeps_its_mail(here: Bench, there: Target) -> None:
    """Switched on again, it sends what waited."""
    await here.add("hook", "webhook", outbound(there.url), on=False)
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    await here.adapters.supervisor.work()
    assert (await here.status("hook")).state is AdapterState.DISCONNECTED
    assert (await stored(here.db, sent.message_id)).statuses == [DeliveryStatus.PENDING]
    await here.adapters.switch(OPERATOR, "hook", on=True)
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED


async def test_on_hold_nothing_goes_out(here: Bench, there: Target) -> None:
    """No adapter runs; when the hold is lifted it sends what waited."""
    await here.add("hook", "webhook", outbound(there.url))
    await here.until_state("hook", AdapterState.CONNECTED)
    await here.db.write(lambda tx: change_fleet(tx, FleetMode.HOLD, reason=None, actor="ada"))
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    await here.adapters.supervisor.work()
    assert here.adapters.supervisor.running("hook") is None
    assert there.count == 0
    await here.db.write(lambda tx: change_fleet(tx, FleetMode.RUNNING, reason=None, actor="ada"))
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED


async def test_removing_an_adapter_makes_dead_letters_of_what_waits(here: Bench, there: Target) -> None:
    """Its mailbox takes nothing more."""
    await here.add("hook", "webhook", outbound(there.url), on=False)
    sent = await here.office.send("one", to=HOOK, caller=ADA)
    await here.adapters.remove(OPERATOR, "hook")
    assert (await stored(here.db, sent.message_id)).reasons == ["endpoint_removed"]
    assert (await here.office.send("two", to=HOOK, caller=ADA)).delivered_to == 0


async def test_no_publish_waits_for_a_target_that_hangs(here: Bench, there: Target) -> None:
    """Neither one to others, nor one to a subject that the adapter listens to, nor one to the adapter."""
    there.answers.extend(["hang"] * 10)
    await here.office.open()
    await here.add("hook", "webhook", outbound(there.url, subjects=[INBOX], timeoutSeconds=60))
    await here.office.send("first", to=HOOK, caller=ADA)
    await there.next()
    for _ in range(20):
        assert await recipients(here, INBOX, BOB) == {
            INBOX: PublishOutcome.DELIVERED,
            HOOK: PublishOutcome.DELIVERED,
        }
        assert await recipients(here, HOOK) == {HOOK: PublishOutcome.DELIVERED}
    # All of that happened while the one request was still under way.
    assert there.count == 1
