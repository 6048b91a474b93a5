"""One budget for all that an agent does, and one word for its end: the assembled system, on both engines."""

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
from dorkos.mesh.model import Agent
from dorkos.mesh.registry import Registered
from dorkos.mesh.statement import Statement
from dorkos.node import this_node
from dorkos.pulse.model import Claim, Offer, Outcome
from dorkos.relay.model import Envelope, LetterFilter, Receipt, StoredMessage
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.vocabulary import DeliveryStatus, PublishOutcome, RunReason, RunState, Scope
from tests.mesh.fleet import ACTOR, make_project

MINUTE = timedelta(minutes=1)
WINDOW = timedelta(hours=1)


@pytest.fixture
def system(db: Database, clock: ManualClock, tmp_path: Path) -> System:
    """Everything wired as in a server, with no loop started: the test does what they would."""
    home = Home(tmp_path / "home")
    home.prepare()
    settings = Settings(server=ServerSettings(boundary=tmp_path))
    return build(home, given(settings), db, clock)


async def register(system: System, project: Path, name: str, **budget: int) -> Agent:
    """An agent that can be run, with limits of its own."""
    manifest = {"name": name, "runtime": "command", "entrypoint": ["true"], "namespace": "team"}
    made: Registered = await system.mesh.registry.register(
        str(make_project(project / name, {**manifest, "budget": budget})),
        Statement(),
        approver="ada",
        actor=ACTOR,
    )
    return made.agent


async def send(system: System, caller: Caller, to: str) -> Receipt:
    """A message."""
    return await system.relay.publish(caller, Envelope(new_id(), to, payload='"go"'))


def speaking(agent: Agent) -> Caller:
    """Whoever holds the agent's token."""
    return Caller(agent.subject, frozenset({Scope.SEND, Scope.RECEIVE}), agent_id=agent.id)


async def next_run(system: System) -> Claim | None:
    """Let messages become runs, and claim the oldest of them, as the loops do."""
    await system.relay.message_runs.work()
    offer = Offer(new_id(), new_id(), new_secret())
    claims = await system.pulse.store.claim_runs([offer], node=this_node(), lease=MINUTE)
    return claims[0] if claims else None


async def refuse(system: System, claim: Claim) -> None:
    """End a run that may not start, as the executor does."""
    assert claim.obstacle is not None
    await system.pulse.store.finish_run(claim.run, claim.lease_token, claim.obstacle)


async def stored(system: System, receipt: Receipt) -> StoredMessage:
    """A message with its deliveries."""
    return await system.relay.message(receipt.message_id)


async def test_messages_and_runs_are_paid_from_one_budget_and_end_with_one_word(
    system: System, clock: ManualClock, tmp_path: Path
) -> None:
    """What is sent and what is started; when the window has moved on, both go through again."""
    agent = await register(system, tmp_path, "scout", maxCallsPerHour=2)
    sent = await send(system, speaking(agent), "relay.human.ada")
    assert sent.recipients[0].outcome is PublishOutcome.NO_RECIPIENT
    first, second = await send(system, OPERATOR, agent.subject), await send(system, OPERATOR, agent.subject)
    claim = await next_run(system)
    assert claim is not None
    assert claim.obstacle is None
    await system.pulse.store.finish_run(claim.run, claim.lease_token, Outcome(RunState.COMPLETED))
    assert (await stored(system, first)).status is DeliveryStatus.DELIVERED

    over = await send(system, speaking(agent), "relay.human.ada")
    assert over.recipients[0].outcome is PublishOutcome.BUDGET_EXCEEDED
    assert "2 of 2 calls" in (over.recipients[0].detail or "")
    letters = await system.relay.letters.newest_first(LetterFilter(), limit=1)
    assert [(letter.message.id, letter.reason) for letter in letters] == [
        (over.message_id, "budget_exceeded")
    ]
    refused = await next_run(system)
    assert refused is not None
    assert refused.obstacle is not None
    assert (refused.obstacle.state, refused.obstacle.reason) == (RunState.FAILED, RunReason.BUDGET_EXCEEDED)
    assert refused.argv == ()
    assert {PublishOutcome.BUDGET_EXCEEDED.value, RunReason.BUDGET_EXCEEDED.value} == {"budget_exceeded"}

    clock.advance(WINDOW)
    again = await send(system, speaking(agent), "relay.human.ada")
    assert again.recipients[0].outcome is PublishOutcome.NO_RECIPIENT
    await refuse(system, refused)
    assert (await stored(system, second)).status is DeliveryStatus.PENDING


async def test_a_message_to_an_agent_that_spent_its_budget_waits_for_it(
    system: System, clock: ManualClock, tmp_path: Path
) -> None:
    """In its place, without losing attempts; it is run when the window has moved."""
    agent = await register(system, tmp_path, "scout", maxCallsPerHour=1)
    await send(system, speaking(agent), "relay.human.ada")
    clock.advance(30 * MINUTE)
    waiting = await send(system, OPERATOR, agent.subject)

    for _ in range(6):
        claim = await next_run(system)
        assert claim is not None
        assert claim.obstacle is not None
        await refuse(system, claim)
        [delivery] = (await stored(system, waiting)).deliveries
        assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
        assert await next_run(system) is None
        clock.advance(5 * MINUTE)

    claim = await next_run(system)
    assert claim is not None
    assert claim.obstacle is None
    assert claim.argv == ("true",)


async def test_a_run_that_could_not_start_anyway_costs_nothing(system: System, tmp_path: Path) -> None:
    """Nor does a message that is refused for another reason."""
    agent = await register(system, tmp_path, "scout", maxCallsPerHour=1)
    await send(system, OPERATOR, agent.subject)
    await system.relay.message_runs.work()
    manifest = {"name": "scout", "runtime": "other", "namespace": "team"}
    make_project(tmp_path / "scout", {**manifest, "budget": {"maxCallsPerHour": 1}})
    await system.mesh.registry.register(str(tmp_path / "scout"), Statement(), approver="ada", actor=ACTOR)
    claim = await next_run(system)
    assert claim is not None
    assert claim.obstacle is not None
    assert claim.obstacle.reason is RunReason.START_FAILED

    late = Envelope(new_id(), "relay.human.ada", expires_at=(await system.pulse.store.now()) - MINUTE)
    await system.relay.publish(speaking(agent), late)
    spent = await system.database.read(lambda c: system.mesh.budgets.spent(c, agent.id, claim.run.created_at))
    assert spent is not None
    assert spent.used == 0


async def test_the_chains_of_an_agent_are_as_long_as_its_own_limit(system: System, tmp_path: Path) -> None:
    """A person who registered it said so; others have the setting's, and nobody can ask for more."""
    short = await register(system, tmp_path, "short", maxHopsPerMessage=2)
    other = await register(system, tmp_path, "other")

    async def hops(caller: Caller, wanted: int | None) -> int:
        envelope = Envelope(new_id(), "relay.human.ada", max_hops=wanted)
        receipt = await system.relay.publish(caller, envelope)
        return (await stored(system, receipt)).message.max_hops

    assert [await hops(speaking(short), wanted) for wanted in (None, 1, 99)] == [2, 1, 2]
    assert [await hops(speaking(other), wanted) for wanted in (None, 99)] == [5, 5]
    assert await hops(OPERATOR, 99) == 99


async def test_a_denied_agent_neither_sends_nor_runs_and_what_it_is_sent_waits(
    system: System, clock: ManualClock, tmp_path: Path
) -> None:
    """Until the denial is lifted."""
    agent = await register(system, tmp_path, "scout")
    await send(system, OPERATOR, agent.subject)
    await system.relay.message_runs.work()
    await system.mesh.denials.deny(str(tmp_path / "scout"), reason=None, denier="ada", actor=ACTOR)

    sent = await send(system, speaking(agent), "relay.human.ada")
    assert sent.recipients[0].outcome is PublishOutcome.DENIED
    queued = await next_run(system)
    assert queued is not None
    assert queued.obstacle is not None
    assert queued.obstacle.reason is RunReason.START_FAILED
    assert "denied" in (queued.obstacle.error or "")
    await refuse(system, queued)
    waiting = await send(system, OPERATOR, agent.subject)
    clock.advance(MINUTE)
    assert await next_run(system) is None
    assert (await stored(system, waiting)).status is DeliveryStatus.PENDING

    await system.mesh.denials.clear(str(tmp_path / "scout"), actor=ACTOR)
    claim = await next_run(system)
    assert claim is not None
    assert claim.obstacle is None
