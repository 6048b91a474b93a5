"""Questions of blocked runs, sessions that go on, and conversations, on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.pulse.model import Account, Claim, Outcome
from dorkos.vocabulary import ApprovalKind, ApprovalStatus, RunReason, RunState, RunTrigger
from tests.pulse.workshop import ACTOR, Request, Workshop, hours, workshop

QUESTION = {"question": "Which one?", "options": ["red", "blue"]}
BLOCKED = Outcome(
    RunState.BLOCKED, RunReason.QUESTION, "Which one?", account=Account(session_id="s-1", question=QUESTION)
)
SENDER = "relay.human.kim"


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still."""
    return workshop(db, clock, tmp_path)


async def ended(shop: Workshop, outcome: Outcome, claim: Claim | None = None) -> Claim:
    """A run that was claimed and has ended so."""
    if claim is None:
        [claim] = await shop.claimed()
    assert await shop.store.finish_run(claim.run, claim.lease_token, outcome)
    return claim


async def blocked(shop: Workshop) -> Claim:
    await shop.queued("true", prompt="Paint it.")
    return await ended(shop, BLOCKED)


async def refused(code: ErrorCode, asking: Awaitable[Any]) -> None:
    """What is awaited is refused with this code."""
    with pytest.raises(DorkError) as refusal:
        await asking
    assert refusal.value.code is code


def done(session: str | None) -> Outcome:
    return Outcome(RunState.COMPLETED, account=Account(session_id=session))


async def test_a_question_is_raised_with_the_end_of_its_run(shop: Workshop) -> None:
    """It says what is asked and by which run, and there is an event; other ends raise none."""
    claim = await blocked(shop)
    [asked] = await shop.store.starts.questions(limit=10)
    assert asked.run_id == claim.run.id
    assert asked.content == {
        **QUESTION,
        "runId": claim.run.id,
        "scheduleId": claim.run.schedule_id,
        "agentId": None,
        "prompt": "Paint it.",
    }
    [(entity, facts)] = await shop.events("pulse.question.asked")
    assert (entity, facts) == (asked.id, {"runId": claim.run.id, "question": "Which one?"})
    [waits] = await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=10, offset=0)
    assert (waits.id, waits.kind, waits.run_id) == (asked.id, ApprovalKind.QUESTION, claim.run.id)
    of_schedules = await shop.store.approvals.list(
        status=None, kind=ApprovalKind.SCHEDULE, limit=10, offset=0
    )
    assert of_schedules == []

    await shop.queued("true")
    await ended(shop, done("s-2"))
    assert len(await shop.store.starts.questions(limit=10)) == 1


async def test_the_answer_goes_on_as_the_next_attempt(shop: Workshop) -> None:
    """With the session, in the chain, with the answer as prompt; the question is closed by it."""
    claim = await blocked(shop)
    run_id = await shop.store.starts.resume(claim.run.id, "The blue one.", actor=ACTOR)
    assert await shop.store.starts.questions(limit=10) == []
    assert [entity for entity, _ in await shop.events("pulse.question.answered")]

    [again] = await shop.claimed()
    assert (again.run.id, again.resume, again.argv) == (run_id, "s-1", claim.argv)
    assert (again.run.prompt, again.run.attempt) == ("The blue one.", 2)
    assert (again.run.trigger, again.run.resumed_from) == (RunTrigger.RESUME, claim.run.id)
    assert again.run.chain_id == claim.run.chain_id
    assert again.run.permission_mode is claim.run.permission_mode


async def test_an_attempt_of_a_due_instant_takes_the_next_number(shop: Workshop, clock: ManualClock) -> None:
    """However many attempts there were, two never share a number."""
    made = await shop.schedule(max_attempts=2, retry_delay_ms=0)
    hours(clock, 1)
    await shop.scheduler().work()
    first = await ended(
        shop, Outcome(RunState.FAILED, RunReason.EXIT_CODE, account=Account(session_id="s-1"))
    )
    [second] = [run for run in await shop.run_of(made) if run.status is RunState.QUEUED]
    assert second.attempt == 2
    third = await shop.store.starts.resume(first.run.id, "Try this.", actor=ACTOR)
    assert (await shop.store.get_run(third)).attempt == 3


async def test_a_question_is_answered_where_approvals_are(shop: Workshop) -> None:
    """Bound to what was read and never without a word; the first answer goes on, the second is refused."""
    claim = await blocked(shop)
    [asked] = await shop.store.approvals.list(status=None, run_id=claim.run.id, limit=10, offset=0)

    async def say(answer: str | None, content_hash: str = asked.content_hash) -> str | None:
        return await shop.store.approvals.approve(
            asked.id, content_hash=content_hash, answer=answer, actor=ACTOR
        )

    await refused(ErrorCode.APPROVAL_SUPERSEDED, say("blue", "0" * 64))
    await refused(ErrorCode.VALIDATION_FAILED, say(" "))
    await refused(ErrorCode.VALIDATION_FAILED, say(None))
    assert len(await shop.store.starts.questions(limit=10)) == 1
    goes_on = await say("The blue one.")
    assert goes_on is not None
    again = await shop.store.get_run(goes_on)
    assert (again.prompt, again.resumed_from) == ("The blue one.", claim.run.id)
    found = await shop.store.approvals.get(asked.id)
    assert (found.status, found.answer) == (ApprovalStatus.APPROVED, "The blue one.")
    await refused(ErrorCode.APPROVAL_DECIDED, say("red"))
    await refused(ErrorCode.APPROVAL_DECIDED, shop.store.approvals.reject(asked.id, answer=None, actor=ACTOR))
    assert len(await shop.store.list_runs()) == 2


async def test_two_answers_at_once_start_one_run(shop: Workshop) -> None:
    """Whoever comes second is told that it is decided, or that the run is being resumed."""
    claim = await blocked(shop)
    [asked] = await shop.store.approvals.list(status=None, limit=10, offset=0)
    answers = [
        shop.store.approvals.approve(
            asked.id, content_hash=asked.content_hash, answer=f"answer {number}", actor=ACTOR
        )
        for number in range(4)
    ]
    answers += [shop.store.starts.resume(claim.run.id, f"resumption {n}", actor=ACTOR) for n in range(4)]
    ends = await asyncio.gather(*answers, return_exceptions=True)
    assert len([end for end in ends if isinstance(end, str)]) == 1
    codes = {end.code for end in ends if isinstance(end, DorkError)}
    assert codes <= {ErrorCode.APPROVAL_DECIDED, ErrorCode.CONFLICT}
    assert len(await shop.store.list_runs()) == 2


async def test_a_question_can_be_left_unanswered(shop: Workshop) -> None:
    """It waits no more, by a person's word; the run stays blocked and can be resumed all the same."""
    claim = await blocked(shop)
    [asked] = await shop.store.approvals.list(status=None, limit=10, offset=0)
    await shop.store.approvals.reject(asked.id, answer="Never mind.", actor=ACTOR)
    assert await shop.store.starts.questions(limit=10) == []
    assert (await shop.store.approvals.get(asked.id)).status is ApprovalStatus.REJECTED
    assert await shop.events("pulse.question.closed") == [
        (asked.id, {"runId": claim.run.id, "status": "rejected", "answer": "Never mind."})
    ]
    assert (await shop.store.get_run(claim.run.id)).status is RunState.BLOCKED
    assert await shop.store.starts.resume(claim.run.id, "After all: blue.", actor=ACTOR)


async def test_questions_go_with_their_schedule(shop: Workshop) -> None:
    """When it is deleted nothing waits for a person any more, and nothing of it goes on."""
    claim = await blocked(shop)
    assert claim.run.schedule_id is not None
    await shop.store.delete_schedule(claim.run.schedule_id, actor=ACTOR)
    assert await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=10, offset=0) == []
    before = len(await shop.store.list_runs())
    await refused(ErrorCode.CONFLICT, shop.store.starts.resume(claim.run.id, "blue", actor=ACTOR))
    assert len(await shop.store.list_runs()) == before


@pytest.mark.parametrize("state", ["at work", "without a session", "resumed already"])
async def test_what_cannot_go_on_is_refused(shop: Workshop, state: str) -> None:
    """A run at work, one that told no session, and one that is being resumed; nothing is queued."""
    await shop.queued("true")
    [claim] = await shop.claimed()
    if state != "at work":
        await ended(shop, done(None if state == "without a session" else "s-1"), claim)
    if state == "resumed already":
        await shop.store.starts.resume(claim.run.id, "first", actor=ACTOR)
    before = len(await shop.store.list_runs())
    with pytest.raises(DorkError) as refusal:
        await shop.store.starts.resume(claim.run.id, "go on", actor=ACTOR)
    assert refusal.value.code is ErrorCode.CONFLICT
    assert len(await shop.store.list_runs()) == before
    with pytest.raises(DorkError) as refusal:
        await shop.store.starts.resume(new_id(), "go on", actor=ACTOR)
    assert refusal.value.code is ErrorCode.RUN_NOT_FOUND


async def written(shop: Workshop, agent_id: str, sender: str = SENDER) -> Claim:
    """The run that a message of the sender starts, claimed."""
    request = Request(agent_id, new_id(), new_id(), "Hello", {"DORKOS_MESSAGE_FROM": sender})
    await shop.db.write(lambda tx: shop.store.queue_run(tx, request, run_id=new_id()))
    [claim] = await shop.claimed()
    return claim


async def test_a_conversation_goes_on_for_its_lifetime(
    shop: Workshop, clock: ManualClock, tmp_path: Path
) -> None:
    """One a sender and agent: the next message goes on with the session, another sender's does not, and after
    a day it begins anew."""
    agent = await shop.register("true", folder=tmp_path)
    first = await written(shop, agent.id)
    assert first.resume is None
    await ended(shop, done("s-1"), first)

    other = await written(shop, agent.id, "relay.human.lou")
    assert other.resume is None
    await ended(shop, done("s-lou"), other)

    hours(clock, 23)
    second = await written(shop, agent.id)
    assert (second.resume, second.run.resumed_from) == ("s-1", first.run.id)
    await ended(shop, done("s-1"), second)

    hours(clock, 25)
    assert (await written(shop, agent.id)).resume is None


async def test_a_conversation_ends_with_a_run_that_did_not_complete(shop: Workshop, tmp_path: Path) -> None:
    """Its session may be what it failed on: the next message begins anew."""
    agent = await shop.register("true", folder=tmp_path)
    await ended(shop, done("s-1"), await written(shop, agent.id))
    failed = Outcome(RunState.FAILED, RunReason.AGENT_ERROR, account=Account(session_id="s-1"))
    await ended(shop, failed, await written(shop, agent.id))
    assert (await written(shop, agent.id)).resume is None


async def test_a_conversation_can_be_switched_off(db: Database, clock: ManualClock, tmp_path: Path) -> None:
    """With a lifetime of 0 each message begins anew."""
    shop = workshop(db, clock, tmp_path)
    settings: Any = shop.pulse.runtimes.settings
    shop.pulse.runtimes.settings = settings.model_copy(update={"conversation_hours": 0})
    agent = await shop.register("true", folder=tmp_path)
    await ended(shop, done("s-1"), await written(shop, agent.id))
    assert (await written(shop, agent.id)).resume is None
