"""Webhooks that come in: who is let in, once, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.relay.adapters.signature import sign
from dorkos.relay.adapters.webhook_inbound import SignedRequest
from dorkos.relay.model import Receipt
from dorkos.relay.rules import NewRule
from dorkos.vocabulary import RuleAction
from tests.relay.adapters.bench import SECRET, Bench, bench
from tests.relay.post_office import INBOX, stored

OTHER = "another-secret-of-theirs"


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """A webhook that listens, on each engine, with a mailbox behind it."""
    async with bench(db, clock, tmp_path) as made:
        await made.office.open(INBOX)
        await made.add("in", "webhook", {"inbound": {"subject": INBOX, "secret": SECRET}})
        yield made


def request(
    clock: ManualClock,
    body: bytes = b'{"build": "green"}',
    *,
    nonce: str = "nonce-0001",
    secret: str = SECRET,
    late_s: int = 0,
    **changed: str,
) -> SignedRequest:
    """A request that is signed as it should be, or as the test says."""
    timestamp = str(int(clock.now().timestamp()) - late_s)
    headers = {
        "x-timestamp": timestamp,
        "x-nonce": nonce,
        "x-signature": sign(secret, timestamp, nonce, body),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return SignedRequest(headers, body)


async def refusal(here: Bench, asked: SignedRequest, adapter_id: str = "in") -> DorkError:
    """Why a request is not let in."""
    with pytest.raises(DorkError) as refused:
        await here.adapters.webhooks.accept(adapter_id, asked)
    return refused.value


async def test_a_signed_request_becomes_a_message_of_the_adapter(here: Bench, clock: ManualClock) -> None:
    """Stamped with the adapter's own subject, its body among the data, as in the lineage."""
    receipt = await here.adapters.webhooks.accept("in", request(clock))
    assert receipt.delivered_to == 1
    found = (await here.office.relay.message(receipt.message_id)).message
    assert (found.subject, found.sender) == (INBOX, "relay.webhook.in")
    assert json.loads(found.payload or "") == {
        "type": "webhook",
        "data": {"build": "green"},
        "metadata": {"platform": "webhook", "adapterId": "in", "nonce": "nonce-0001"},
        "responseContext": {"platform": "webhook"},
    }
    assert (await here.status("in")).inbound_count == 1


async def test_a_replay_is_refused_also_by_another_server(here: Bench, clock: ManualClock) -> None:
    """The nonce is stored with the message."""
    await here.adapters.webhooks.accept("in", request(clock))
    refused = await refusal(here, request(clock))
    assert (refused.code, refused.message) == (ErrorCode.SIGNATURE_INVALID, "Nonce already seen (replay)")
    async with bench(here.db, clock, Path("/srv/mail")) as other:
        assert (await refusal(other, request(clock))).message == "Nonce already seen (replay)"
    assert (await here.status("in")).inbound_count == 1


async def test_a_request_that_failed_may_come_again(here: Bench, clock: ManualClock) -> None:
    """Its nonce counts only with a message that is stored."""
    asked = request(clock, b"{", nonce="nonce-again")
    assert (await refusal(here, asked)).code is ErrorCode.INVALID_JSON
    assert (await here.adapters.webhooks.accept("in", request(clock, nonce="nonce-again"))).delivered_to == 1


async def test_what_is_not_signed_in_all_its_parts_is_refused(here: Bench, clock: ManualClock) -> None:
    """The nonce is signed as well: a captured request does not pass with a fresh one."""
    wrong = [{"x_nonce": nonce} for nonce in ("nonce-0002", "", "a.b.c.d.e", "x" * 129)]
    wrong += [{"x_signature": signature} for signature in ("0" * 64, "", "ü")]
    for changed in (*wrong, {"secret": OTHER}):
        refused = await refusal(here, request(clock, **changed))  # type: ignore[arg-type]  # Named by the test.
        assert (refused.code, refused.http_status) == (ErrorCode.SIGNATURE_INVALID, 401)
    assert (await here.status("in")).inbound_count == 0


async def test_the_body_is_signed(here: Bench, clock: ManualClock) -> None:
    """Byte for byte."""
    asked = request(clock)
    refused = await refusal(here, SignedRequest(asked.headers, asked.body + b" "))
    assert refused.message == "Invalid signature"


@pytest.mark.parametrize("late_s", [301, -301])
async def test_a_request_of_another_time_is_refused(here: Bench, clock: ManualClock, late_s: int) -> None:
    """Five minutes either way pass."""
    refused = await refusal(here, request(clock, late_s=late_s))
    assert refused.message == "Timestamp expired or invalid"
    near = late_s - 1 if late_s > 0 else late_s + 1
    assert (await here.adapters.webhooks.accept("in", request(clock, late_s=near))).delivered_to == 1


async def test_a_timestamp_is_plain_seconds(here: Bench, clock: ManualClock) -> None:
    """Nothing else is read as a number."""
    for timestamp in ("", "now", "-5", "1e9", "9" * 40, "١٢٣"):
        refused = await refusal(here, request(clock, x_timestamp=timestamp))
        assert refused.message == "Timestamp expired or invalid"


async def test_the_secret_before_holds_for_a_day(here: Bench, clock: ManualClock) -> None:
    """Long enough to change it at the other side; then only the new one is taken."""
    settings = {"inbound": {"secret": OTHER, "previousSecret": SECRET}}
    await here.adapters.update(OPERATOR, "in", settings)
    assert (await here.adapters.webhooks.accept("in", request(clock))).delivered_to == 1
    with_new = request(clock, secret=OTHER, nonce="nonce-0002")
    assert (await here.adapters.webhooks.accept("in", with_new)).delivered_to == 1
    clock.advance(timedelta(hours=24, seconds=1))
    assert (await refusal(here, request(clock, nonce="nonce-0003"))).message == "Invalid signature"


async def test_only_a_webhook_that_listens_and_is_on_takes_requests(here: Bench, clock: ManualClock) -> None:
    """The words are the lineage's."""
    await here.add("out", "webhook", {"outbound": {"url": "https://example.com", "secret": SECRET}})
    for adapter_id in ("none", "out"):
        refused = await refusal(here, request(clock), adapter_id)
        assert (refused.http_status, refused.message) == (404, "Webhook adapter not found")
    await here.adapters.switch(OPERATOR, "in", on=False)
    refused = await refusal(here, request(clock))
    assert (refused.http_status, refused.message) == (404, "Adapter not running")


async def test_what_reaches_nobody_is_a_dead_letter_and_says_so(here: Bench, clock: ManualClock) -> None:
    """The receipt equals what is stored."""
    await here.office.relay.close(OPERATOR, INBOX)
    receipt: Receipt = await here.adapters.webhooks.accept("in", request(clock))
    assert receipt.delivered_to == 0
    assert (await stored(here.db, receipt.message_id)).reasons == ["no_recipient"]


async def test_a_repetition_by_key_is_one_message(here: Bench, clock: ManualClock) -> None:
    """With another nonce, as a sender signs each attempt anew."""
    keyed = [request(clock, nonce=nonce, idempotency_key="build-7") for nonce in ("nonce-01", "nonce-02")]
    first, second = [await here.adapters.webhooks.accept("in", each) for each in keyed]
    assert second.duplicate
    assert second.message_id == first.message_id


async def test_a_message_that_comes_back_gains_no_hop(here: Bench, clock: ManualClock) -> None:
    """Two webhooks that are pointed at each other end as every loop does."""
    origin = await here.office.send("round", to=INBOX)
    asked = request(clock, x_dorkos_message=origin.message_id)
    receipt = await here.adapters.webhooks.accept("in", asked)
    found = (await here.office.relay.message(receipt.message_id)).message
    assert (found.parent_id, found.hop_count) == (origin.message_id, 1)
    assert receipt.delivered_to == 0
    assert "come through" in (receipt.recipients[0].detail or "")


async def test_a_webhook_is_no_way_around_the_rules(here: Bench, clock: ManualClock) -> None:
    """What an agent sent by another webhook does not arrive where the agent may not send."""
    agent = await here.office.open_for_agent("scout")
    rule = NewRule(new_id(), agent.subject, INBOX, RuleAction.DENY, 200)
    await here.office.relay.access.add(OPERATOR, rule)
    await here.office.open("relay.human.bob")
    origin = await here.office.send("round", to="relay.human.bob", caller=agent)
    refused = await refusal(here, request(clock, x_dorkos_message=origin.message_id))
    assert refused.code is ErrorCode.FORBIDDEN
    assert agent.subject in refused.message
