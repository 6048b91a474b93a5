"""What stops loops: calls, cycles, the rate of a sender and the brake on pairs, on both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_dead_letters
from dorkos.identity.model import OPERATOR, Caller
from dorkos.relay.model import Message, Receipt
from dorkos.vocabulary import PublishOutcome, Scope
from tests.relay.post_office import BOB, INBOX, PostOffice, post_office, stored


@pytest.fixture
def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with chains that are long enough for other limits to show."""
    return post_office(
        db, clock, max_hops=50, call_budget=4, rate_limit=40, pair_limit=3, pair_window_minutes=10
    )


async def message(office: PostOffice, receipt: Receipt) -> Message:
    """What was stored."""
    return (await office.relay.message(receipt.message_id)).message


async def reason(office: PostOffice, receipt: Receipt) -> tuple[str, str]:
    """Why a message stopped, and in which words."""
    statement = sa.select(relay_dead_letters.c.reason, relay_dead_letters.c.detail)
    mine = statement.where(relay_dead_letters.c.message_id == receipt.message_id)
    row = await office.db.read(lambda connection: connection.execute(mine).one())
    return row.reason, row.detail


async def hold_and_send(office: PostOffice, holder: Caller, to: Caller, **fields: object) -> Receipt:
    """Claim the one message that waits for an agent, and send another while it is held."""
    await office.claim_one(holder, holder.subject)
    return await office.send(caller=holder, to=to.subject, **fields)


async def test_each_message_takes_a_call_off_what_follows(office: PostOffice) -> None:
    """The chain begins with the calls of the setting; who forwards has one less, and nobody gets more."""
    names = [await office.open_for_agent(name, starts_runs=False) for name in "abcdef"]
    receipt = await office.send(to=names[0].subject)
    left = [(await message(office, receipt)).calls_left]
    for holder, target in pairwise(names):
        receipt = await hold_and_send(office, holder, target, calls=1000)
        left.append((await message(office, receipt)).calls_left)
        if not receipt.delivered_to:
            break

    assert left == [4, 3, 2, 1, 0]
    assert receipt.recipients[0].outcome is PublishOutcome.BUDGET_EXCEEDED
    why, detail = await reason(office, receipt)
    assert why == "budget_exceeded"
    assert " -> ".join(agent.subject for agent in names[:5]) in detail


async def test_only_the_operator_may_ask_for_more_calls(office: PostOffice) -> None:
    """Everybody may ask for less."""
    await office.open()
    assert (await message(office, await office.send(calls=9))).calls_left == 4
    assert (await message(office, await office.send(calls=2))).calls_left == 2
    assert (await message(office, await office.send(calls=9, caller=OPERATOR))).calls_left == 9


async def test_no_calls_left_means_that_the_message_itself_stops(office: PostOffice) -> None:
    """A message is a call, the first as well."""
    await office.open()
    receipt = await office.send(calls=0)
    assert (await stored(office.db, receipt.message_id)).reasons == ["budget_exceeded"]


async def test_three_agents_in_a_circle_are_stopped_by_name(office: PostOffice) -> None:
    """The first message that comes back to where the chain has been stops, and names the way."""
    a, b, c = [await office.open_for_agent(name, starts_runs=False) for name in "abc"]
    first = await office.send(to=a.subject)
    await hold_and_send(office, a, b)
    await hold_and_send(office, b, c)
    stopped = await hold_and_send(office, c, a)

    assert stopped.recipients[0].outcome is PublishOutcome.BUDGET_EXCEEDED
    why, detail = await reason(office, stopped)
    assert why == "cycle"
    assert f"chain {first.chain_id}" in detail
    assert " -> ".join(each.subject for each in (a, b, c, a)) in detail
    kept = await message(office, stopped)
    assert list(kept.ancestors) == [a.subject, b.subject, c.subject]


async def test_an_answer_is_no_cycle(office: PostOffice) -> None:
    """Back to whoever asked, step by step, as deep as the question went."""
    a, b, c = [await office.open_for_agent(name, starts_runs=False) for name in "abc"]
    roomy = post_office(office.db, ManualClock(), max_hops=50, call_budget=50)
    office.relay = roomy.relay
    await office.send(to=a.subject)
    await hold_and_send(office, a, b)
    await hold_and_send(office, b, c)
    back = await hold_and_send(office, c, b)
    further_back = await hold_and_send(office, b, a)

    assert (back.delivered_to, further_back.delivered_to) == (1, 1)


async def test_an_agents_own_token_continues_the_chain_of_what_it_holds(office: PostOffice) -> None:
    """Not only runs: an agent that claims by hand and sends with its long-lived token is on the chain too."""
    a = await office.open_for_agent("a", starts_runs=False)
    await office.open()
    first = await office.send(to=a.subject)
    message_id, token = await office.claim_one(a, a.subject)
    inside = await message(office, await office.send(caller=a))
    await office.relay.ack(a, a.subject, message_id, token)
    after = await message(office, await office.send(caller=a))

    assert (inside.chain_id, inside.parent_id, inside.hop_count) == (first.chain_id, message_id, 1)
    assert (after.parent_id, after.hop_count) == (None, 0)


async def test_a_lease_that_ran_out_holds_no_chain(office: PostOffice, clock: ManualClock) -> None:
    """What somebody else may have by now is not what one works on."""
    a = await office.open_for_agent("a", starts_runs=False)
    await office.open()
    await office.send(to=a.subject)
    await office.claim_one(a, a.subject)
    clock.advance(timedelta(seconds=61))
    assert (await message(office, await office.send(caller=a))).parent_id is None


async def test_two_that_keep_answering_are_braked(office: PostOffice) -> None:
    """Whether they continue a chain or begin anew each time: both have sent as many as allowed."""
    a, b = [await office.open_for_agent(name, starts_runs=False) for name in "ab"]
    for _ in range(3):
        assert (await office.send(caller=a, to=b.subject)).delivered_to == 1
        assert (await office.send(caller=b, to=a.subject)).delivered_to == 1
    stopped = await office.send(caller=a, to=b.subject)

    assert stopped.recipients[0].outcome is PublishOutcome.BUDGET_EXCEEDED
    why, detail = await reason(office, stopped)
    assert why == "loop"
    assert a.subject in detail
    assert b.subject in detail
    assert "relay.pairLimit" in detail


async def test_the_brake_leaves_one_way_traffic_alone(office: PostOffice) -> None:
    """Who only sends is at work; and others can still be reached."""
    a, b, c = [await office.open_for_agent(name, starts_runs=False) for name in "abc"]
    for _ in range(8):
        assert (await office.send(caller=a, to=b.subject)).delivered_to == 1
    for _ in range(3):
        await office.send(caller=b, to=a.subject)

    assert (await office.send(caller=b, to=a.subject)).delivered_to == 0
    assert (await office.send(caller=b, to=c.subject)).delivered_to == 1


async def test_the_brake_lets_go_when_its_window_has_passed(office: PostOffice, clock: ManualClock) -> None:
    """It slides by the minute."""
    a, b = [await office.open_for_agent(name, starts_runs=False) for name in "ab"]
    for _ in range(3):
        await office.send(caller=a, to=b.subject)
        await office.send(caller=b, to=a.subject)
    assert (await office.send(caller=a, to=b.subject)).delivered_to == 0
    clock.advance(timedelta(minutes=10))
    assert (await office.send(caller=a, to=b.subject)).delivered_to == 1


async def test_the_operator_is_not_braked(office: PostOffice) -> None:
    """A person at the keyboard is no loop."""
    a = await office.open_for_agent("a", starts_runs=False)
    await office.open(OPERATOR.subject)
    for _ in range(5):
        assert (await office.send(caller=OPERATOR, to=a.subject)).delivered_to == 1
        await office.send(caller=a, to=OPERATOR.subject)
    assert (await office.send(caller=OPERATOR, to=a.subject)).delivered_to == 1


async def test_a_sender_has_a_rate(office: PostOffice, clock: ManualClock) -> None:
    """One message too many within the minute is a dead letter that says so; others send on."""
    office.relay.settings = office.relay.settings.model_copy(update={"rate_limit": 2})
    await office.open()
    await office.send()
    await office.send()
    stopped = await office.send()

    assert stopped.recipients[0].outcome is PublishOutcome.RATE_LIMITED
    why, detail = await reason(office, stopped)
    assert why == "rate_limited"
    assert "relay.rateLimit" in detail
    assert (await office.send(caller=Caller("relay.human.eve", frozenset({Scope.SEND})))).delivered_to == 1
    assert (await office.send(caller=OPERATOR)).delivered_to == 1
    clock.advance(timedelta(minutes=1))
    assert (await office.send()).delivered_to == 1


async def test_a_rate_holds_for_many_at_once(office: PostOffice) -> None:
    """Exactly as many as allowed get through, whoever comes first."""
    office.relay.settings = office.relay.settings.model_copy(update={"rate_limit": 5})
    await office.open()
    receipts = await asyncio.gather(*(office.send() for _ in range(12)))
    assert sum(receipt.delivered_to for receipt in receipts) == 5


async def test_what_is_refused_counts_against_no_rate(office: PostOffice) -> None:
    """A limit that grew with every refusal would never let go."""
    office.relay.settings = office.relay.settings.model_copy(update={"rate_limit": 2})
    await office.open()
    for _ in range(5):
        await office.send(caller=BOB)
    used = await office.db.read(
        lambda connection: connection.execute(
            sa.text("SELECT count FROM rate_limit_buckets WHERE kind = 'sender' AND agent_id = :who"),
            {"who": BOB.subject},
        ).scalar_one()
    )
    assert used == 2


async def test_parts_of_the_server_have_no_rate(office: PostOffice) -> None:
    """A schedule that fires is not stopped because others fired."""
    office.relay.settings = office.relay.settings.model_copy(update={"rate_limit": 1})
    part = Caller("relay.system.pulse.x", frozenset())
    await office.open()
    assert [(await office.send(caller=part, to=INBOX)).delivered_to for _ in range(3)] == [1, 1, 1]


async def test_explain_shows_what_stopped_and_how_much_of_each_limit_is_used(office: PostOffice) -> None:
    """A circle and a ping-pong, each with its chain, where a person asks why."""
    a, b, c = [await office.open_for_agent(name, starts_runs=False) for name in "abc"]
    first = await office.send(to=a.subject)
    await hold_and_send(office, a, b)
    await hold_and_send(office, b, c)
    circle = await hold_and_send(office, c, a)
    told = await office.relay.standing(c.subject, a.subject)
    assert [(each.message.id, each.reason) for each in told.stopped] == [(circle.message_id, "cycle")]
    assert first.chain_id in told.stopped[0].detail
    trace = await office.relay.trace_of_message(first.message_id)
    assert [getattr(step.span, "error_message", None) for step in trace.steps][-1] == told.stopped[0].detail

    d, e = [await office.open_for_agent(name, starts_runs=False) for name in "de"]
    for _ in range(3):
        await office.send(caller=d, to=e.subject)
        await office.send(caller=e, to=d.subject)
    braked = await office.send(caller=d, to=e.subject)
    told = await office.relay.standing(d.subject, e.subject)
    assert [(each.limit, each.used, each.allowed, each.stops) for each in told.limits] == [
        ("rate", 4, 40, False),
        ("loop", 3, 3, True),
    ]
    assert [(each.message.id, each.reason) for each in told.stopped] == [(braked.message_id, "loop")]
    assert told.mailbox is not None
    assert told.mailbox.pending_count == 3
    assert (await office.relay.standing(d.subject, "relay.human.nobody")).mailbox is None
