"""Runs that follow one another stay in one chain: the assembled system, on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.app import System, build
from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.home import Home
from dorkos.identity.model import OPERATOR, Caller
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.mesh.statement import Statement
from dorkos.pulse.model import Account, Claim, Offer, Outcome, ScheduleDraft
from dorkos.relay.model import Envelope, Message
from dorkos.setting_groups.relay import RelaySettings
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.vocabulary import RunReason, RunState, Scope
from tests.mesh.fleet import ACTOR, make_project
from tests.pulse.workshop import a_node, author

ADA = Caller("relay.human.ada", frozenset({Scope.SEND, Scope.RECEIVE}))
FAILED = Outcome(RunState.FAILED, RunReason.EXIT_CODE)
BLOCKED = Outcome(
    RunState.BLOCKED,
    RunReason.QUESTION,
    "Which one?",
    account=Account(session_id="s-1", question={"question": "Which one?", "options": []}),
)


@pytest.fixture
async def system(db: Database, clock: ManualClock, tmp_path: Path) -> System:
    """The whole system, whose loops stand still, and a person with a mailbox."""
    home = Home(tmp_path / "home")
    home.prepare()
    settings = Settings(
        server=ServerSettings(port=0, boundary=tmp_path), relay=RelaySettings(max_hops=3, call_budget=9)
    )
    made = build(home, given(settings), db, clock)
    await made.relay.open(ADA, ADA.subject, description=None)
    return made


async def claimed(system: System) -> Claim:
    """The one run that may start."""
    offer = Offer(new_id(), new_id(), new_secret())
    [claim] = await system.pulse.store.claim_runs([offer], node=a_node(), lease=timedelta(days=9))
    return claim


async def end(system: System, claim: Claim, outcome: Outcome) -> None:
    """Finish a run."""
    assert await system.pulse.store.finish_run(claim.run, claim.lease_token, outcome)


async def sent_by(system: System, claim: Claim) -> Message:
    """What a run sends to Ada by its own token."""
    token = claim.token
    caller = Caller(token.subject, token.scopes, run_id=claim.run.id, agent_id=token.agent_id)
    receipt = await system.relay.publish(caller, Envelope(new_id(), ADA.subject, payload='"Hello."'))
    assert receipt.delivered_to == 1
    return (await system.relay.message(receipt.message_id)).message


async def test_each_attempt_sends_in_the_chain_of_the_first(system: System, clock: ManualClock) -> None:
    """None of them follows from a message, so each has all of the budget that the first had."""
    draft = ScheduleDraft(
        name="report", prompt="Report.", cron="0 * * * *", command=("true",), max_attempts=2, retry_delay_ms=0
    )
    await system.pulse.create_schedule(draft, author=author())
    clock.advance(timedelta(hours=1))
    await system.pulse.scheduler.work()
    first = await claimed(system)
    messages = [await sent_by(system, first)]
    await end(system, first, FAILED)
    messages.append(await sent_by(system, await claimed(system)))

    facts = [(one.chain_id, one.hop_count, one.calls_left, one.parent_id) for one in messages]
    assert facts == [(first.run.id, 0, 9, None)] * 2


async def test_another_attempt_asks_its_subject_again(system: System, clock: ManualClock) -> None:
    """In the chain of the first question, as fresh as that: neither as a cycle, nor in time that is over."""
    draft = ScheduleDraft(
        name="standup",
        prompt="What is next?",
        cron="0 * * * *",
        target_subject=ADA.subject,
        max_runtime=60_000,
        max_attempts=3,
        retry_delay_ms=1000,
        repeatable=True,
    )
    await system.pulse.create_schedule(draft, author=author())
    clock.advance(timedelta(hours=1))
    await system.pulse.scheduler.work()
    first = await claimed(system)
    await system.relay.claim(ADA, ADA.subject, limit=1)
    clock.advance(timedelta(minutes=2))
    await system.pulse.answers.work()
    clock.advance(timedelta(minutes=1))
    second = await claimed(system)

    assert (second.asked, second.run.attempt) == (True, 2)
    run = await system.pulse.store.get_run(second.run.id)
    message = (await system.relay.message(run.message_id or "")).message
    assert (message.chain_id, message.hop_count, message.run_id) == (first.run.chain_id, 0, run.id)
    assert message.expires_at == clock.now() + timedelta(minutes=1)


async def test_a_run_that_is_resumed_gains_no_hop(system: System, clock: ManualClock, tmp_path: Path) -> None:
    """Its question settled the message that began it; what it sends follows from that one all the same."""
    manifest = {"name": "painter", "runtime": "command", "entrypoint": ["true"], "namespace": "team"}
    place = str(make_project(tmp_path / "painter", manifest))
    painter = (await system.mesh.registry.register(place, Statement(), approver="ada", actor=ACTOR)).agent
    began = await system.relay.publish(OPERATOR, Envelope(new_id(), painter.subject, payload='"Paint it."'))
    await system.relay.message_runs.work()
    first = await claimed(system)
    before = await sent_by(system, first)
    await end(system, first, BLOCKED)
    clock.advance(timedelta(days=2))  # The message has expired by then.
    await system.pulse.store.starts.resume(first.run.id, "The blue one.", actor=ACTOR)
    after = await sent_by(system, await claimed(system))

    facts = [(one.chain_id, one.hop_count, one.calls_left, one.parent_id) for one in (before, after)]
    assert facts == [(began.chain_id, 1, 8, began.message_id)] * 2
    assert after.expires_at is not None
    assert after.expires_at > clock.now()
