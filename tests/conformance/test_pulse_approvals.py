"""Approvals on both engines: what waits, what binds the answer, and what each odd answer does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity import tokens
from dorkos.identity.model import Caller
from dorkos.identity.tokens import NewToken, new_secret
from dorkos.ids import new_id
from dorkos.pulse.approvals import Approval
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import Schedule
from dorkos.vocabulary import (
    ApprovalStatus,
    PermissionMode,
    RunTrigger,
    ScheduleStatus,
    Scope,
    SlotReason,
    Verdict,
)
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop

AGENT = "relay.agent.default.scout"
WHY = "The inbox overflows at night."
CHANGES: list[dict[str, Any]] = [
    {"prompt": "Delete everything."},
    {"cron": "* * * * *"},
    {"timezone": "Europe/Berlin"},
    {"command": ("rm", "-r", ".")},
    {"permission_mode": PermissionMode.BYPASS_PERMISSIONS},
    {"max_runtime": 60_000},
    {"max_attempts": 5},
]


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def proposed(shop: Workshop, **changes: Any) -> tuple[Schedule, Approval]:
    """What an agent asked for, and the question about it."""
    made = await shop.propose(AGENT, WHY, **changes)
    return made, await asked(shop, made)


async def asked(shop: Workshop, schedule: Schedule) -> Approval:
    """The one open question about a schedule."""
    [found] = [one for one in await waiting(shop) if one.schedule_id == schedule.id]
    return found


async def waiting(shop: Workshop) -> list[Approval]:
    """All open questions."""
    return await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=50, offset=0)


async def approve(shop: Workshop, question: Approval, content_hash: str | None = None) -> None:
    """A person says yes to what was shown."""
    await shop.store.approvals.approve(
        question.id, content_hash=content_hash or question.content_hash, answer=None, actor=ACTOR
    )


async def refused(code: ErrorCode, answering: Any) -> None:
    """The awaited answer is refused with this code."""
    with pytest.raises(DorkError) as refusal:
        await answering
    assert refusal.value.code is code


async def test_a_proposal_asks_with_everything_there_is_to_judge(shop: Workshop, clock: ManualClock) -> None:
    """Who, why, the exact prompt and command, the rights, and until when; the event tells of it."""
    made, question = await proposed(shop)
    assert made.status is ScheduleStatus.PENDING_APPROVAL
    assert (question.proposed_by, question.reason) == (AGENT, WHY)
    assert question.content_hash == hash_of(made)
    assert question.expires_at == clock.now() + timedelta(days=7)
    shown = question.content
    assert (shown["prompt"], shown["command"], shown["cron"]) == (made.prompt, ["true"], "0 * * * *")
    assert (shown["permissionMode"], shown["cwd"], shown["maxAttempts"]) == ("acceptEdits", None, 1)
    [(entity, facts)] = await shop.events("pulse.approval.requested")
    assert (entity, facts["scheduleId"], facts["reason"]) == (question.id, made.id, WHY)


async def test_what_waits_does_not_fire(shop: Workshop, clock: ManualClock) -> None:
    """Its due instants are skipped and say why; after the approval they run."""
    made, question = await proposed(shop)
    hours(clock, 1)
    await shop.scheduler().work()
    assert await shop.store.list_runs() == []
    await approve(shop, question)
    hours(clock, 1)
    await shop.scheduler().work()
    run, skipped = await shop.store.list_slots(made.id, limit=10, offset=0)
    assert (run.verdict, skipped.reason) == (Verdict.RUN, SlotReason.PENDING_APPROVAL)


async def test_an_approval_is_a_grant_of_what_was_shown(shop: Workshop) -> None:
    """The schedule is active, the grant is the hash, the answer says by whom."""
    made, question = await proposed(shop)
    await approve(shop, question)
    now = await shop.store.get_schedule(made.id)
    assert (now.status, now.grant_hash) == (ScheduleStatus.ACTIVE, question.content_hash)
    answered = await shop.store.approvals.get(question.id)
    assert (answered.status, answered.decided_by) == (ApprovalStatus.APPROVED, ACTOR)
    assert [entity for entity, _ in await shop.events("pulse.approval.approved")] == [question.id]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes)))
async def test_an_edit_in_between_needs_another_answer(shop: Workshop, changes: dict[str, Any]) -> None:
    """An answer to what was shown before the edit is refused, by the old question and by the old hash."""
    made, question = await proposed(shop)
    await shop.pulse.update_schedule(made.id, changes, author=author())
    await refused(ErrorCode.APPROVAL_SUPERSEDED, approve(shop, question))
    newer = await asked(shop, made)
    await refused(ErrorCode.APPROVAL_SUPERSEDED, approve(shop, newer, question.content_hash))
    assert (await shop.store.get_schedule(made.id)).status is ScheduleStatus.PENDING_APPROVAL
    assert newer.proposed_by == AGENT
    await approve(shop, newer)
    assert (await shop.store.get_schedule(made.id)).grant_hash == newer.content_hash


async def test_another_name_asks_for_nothing_new(shop: Workshop) -> None:
    """A person may rename what waits; the question stays the one that was shown."""
    made, question = await proposed(shop)
    await shop.pulse.update_schedule(made.id, {"name": "Tidy up"}, author=author())
    assert (await asked(shop, made)).id == question.id


@pytest.mark.parametrize("changes", [*CHANGES, {"name": "Tidy up"}], ids=lambda c: next(iter(c)))
async def test_an_agents_edit_asks_again(shop: Workshop, changes: dict[str, Any]) -> None:
    """What was approved stops firing until a person has seen the change."""
    made, question = await proposed(shop)
    await approve(shop, question)
    edited = await shop.pulse.update_schedule(
        made.id, {**changes, "reason": "Better."}, author=author(AGENT, is_agent=True)
    )
    assert (edited.status, edited.grant_hash) == (ScheduleStatus.PENDING_APPROVAL, None)
    newer = await asked(shop, made)
    assert (newer.reason, newer.id == question.id) == ("Better.", False)


async def test_an_agent_edits_only_its_own_and_never_the_status(shop: Workshop) -> None:
    """Neither another's schedule nor its own approval is in its hands, and it has to say why."""
    made, _ = await proposed(shop)
    persons = await shop.schedule()
    for schedule_id, changes, code in (
        (persons.id, {"prompt": "x", "reason": WHY}, ErrorCode.FORBIDDEN),
        (made.id, {"status": ScheduleStatus.ACTIVE, "reason": WHY}, ErrorCode.FORBIDDEN),
        (made.id, {"prompt": "x"}, ErrorCode.REASON_REQUIRED),
    ):
        writer = author(AGENT, is_agent=True)
        await refused(code, shop.pulse.update_schedule(schedule_id, changes, author=writer))
    assert await shop.store.get_schedule(persons.id) == persons
    assert await shop.store.get_schedule(made.id) == made


@pytest.mark.parametrize("name", ["approvals.approve", "approvals.reject", "schedules.test"])
async def test_an_agent_never_answers(shop: Workshop, name: str) -> None:
    """Not its own question, not another's, and it tries nothing out: `forbidden`, and nothing changes."""
    made, question = await proposed(shop)
    agent = Caller(AGENT, frozenset({Scope.SEND, Scope.RECEIVE, Scope.OBSERVE}))
    target = made.id if name == "schedules.test" else question.id
    asking = shop.ask(name, agent, id=target, contentHash=question.content_hash)
    await refused(ErrorCode.FORBIDDEN, asking)
    assert await shop.store.approvals.get(question.id) == question
    assert await shop.store.list_runs() == []


async def test_approving_twice_is_told(shop: Workshop) -> None:
    """Of two who answer at once one wins; the other gets `approval_decided`, and there is one event."""
    _, question = await proposed(shop)
    answers = await asyncio.gather(approve(shop, question), approve(shop, question), return_exceptions=True)
    [fault] = [answer for answer in answers if answer is not None]
    assert isinstance(fault, DorkError)
    assert fault.code is ErrorCode.APPROVAL_DECIDED
    assert fault.details == {"approvalId": question.id, "status": "approved"}
    assert len(await shop.events("pulse.approval.approved")) == 1


async def test_a_rejected_schedule_is_kept_paused_and_says_so(shop: Workshop) -> None:
    """It can be proposed again, or resumed by a person, who grants it by that."""
    made, question = await proposed(shop)
    await shop.store.approvals.reject(question.id, answer="Too often", actor=ACTOR)
    now = await shop.store.get_schedule(made.id)
    assert (now.status, now.status_reason) == (ScheduleStatus.PAUSED, "Rejected: Too often")
    await refused(ErrorCode.APPROVAL_DECIDED, approve(shop, question))
    resumed = await shop.pulse.update_schedule(made.id, {"status": ScheduleStatus.ACTIVE}, author=author())
    assert resumed.grant_hash == hash_of(resumed)


async def test_a_person_who_sets_it_active_approves_it(shop: Workshop) -> None:
    """As clients of the lineage do: the question is answered by the same commit."""
    made, question = await proposed(shop)
    active = await shop.pulse.update_schedule(made.id, {"status": ScheduleStatus.ACTIVE}, author=author())
    assert active.grant_hash == question.content_hash
    answered = await shop.store.approvals.get(question.id)
    assert (answered.status, answered.decided_by) == (ApprovalStatus.APPROVED, ACTOR)


async def test_a_persons_edit_of_what_was_approved_is_its_grant(shop: Workshop) -> None:
    """Nobody is asked about their own words; the grant moves to them."""
    made, question = await proposed(shop)
    await approve(shop, question)
    edited = await shop.pulse.update_schedule(made.id, {"prompt": "Gently."}, author=author())
    assert (edited.status, edited.grant_hash) == (ScheduleStatus.ACTIVE, hash_of(edited))
    assert await waiting(shop) == []


async def test_a_question_expires_by_the_clock(shop: Workshop, clock: ManualClock) -> None:
    """After a week it is closed, also before anything swept it up, and the schedule is paused."""
    made, question = await proposed(shop)
    clock.advance(timedelta(days=7) - timedelta(milliseconds=1))
    await shop.pulse.approval_expiry.work()
    assert (await asked(shop, made)).id == question.id
    clock.advance(timedelta(milliseconds=1))
    await refused(ErrorCode.APPROVAL_DECIDED, approve(shop, question))
    await shop.pulse.approval_expiry.work()
    now = await shop.store.get_schedule(made.id)
    assert now.status is ScheduleStatus.PAUSED
    assert "Nobody answered" in (now.status_reason or "")
    assert (await shop.store.approvals.get(question.id)).status is ApprovalStatus.EXPIRED
    assert len(await shop.events("pulse.approval.expired")) == 1


async def test_a_question_about_what_is_gone_is_closed(shop: Workshop) -> None:
    """Deleting the schedule leaves nothing to approve."""
    made, question = await proposed(shop)
    await shop.store.delete_schedule(made.id, actor=ACTOR)
    assert await waiting(shop) == []
    await refused(ErrorCode.APPROVAL_SUPERSEDED, approve(shop, question))


async def test_what_cannot_run_is_not_approved(shop: Workshop, tmp_path: Path) -> None:
    """While its agent is gone the answer is refused, and the question stays open."""
    target = await shop.register("true", folder=tmp_path)
    made, question = await proposed(shop, command=None, agent_id=target.id)
    del shop.agents.known[target.id]
    await refused(ErrorCode.AGENT_NOT_FOUND, approve(shop, question))
    assert (await asked(shop, made)).id == question.id


async def test_it_can_be_tried_out_before_the_answer(shop: Workshop) -> None:
    """A test run is marked as such and grants nothing; running it for real is refused."""
    made, question = await proposed(shop)
    await refused(ErrorCode.FORBIDDEN, shop.store.trigger_run(made.id, actor=ACTOR))
    run_id = await shop.store.trigger_run(made.id, actor=ACTOR, trigger=RunTrigger.TEST)
    assert (await shop.store.get_run(run_id)).trigger is RunTrigger.TEST
    assert (await asked(shop, made)).id == question.id


async def test_a_run_that_has_ended_proposes_nothing(shop: Workshop, clock: ManualClock) -> None:
    """The token is looked at again in the commit that would store the proposal."""
    run_id = await shop.queued("true")
    token = NewToken(new_id(), new_secret(), AGENT, frozenset({Scope.SEND}), run_id=run_id)
    await shop.db.write(lambda tx: tokens.mint(tx, token, expires_at=clock.now() + timedelta(hours=1)))
    await shop.propose(AGENT, WHY, run_id=run_id)
    await shop.db.write(lambda tx: tokens.revoke_of_run(tx, run_id))
    await refused(ErrorCode.TOKEN_INVALID, shop.propose(AGENT, WHY, run_id=run_id))
    assert len(await waiting(shop)) == 1


async def test_the_longest_waiting_is_shown_first(shop: Workshop, clock: ManualClock) -> None:
    """What is answered leaves the queue; all of them are listed newest first."""
    ids = []
    for _ in range(3):
        ids.append((await proposed(shop))[1].id)
        clock.advance(timedelta(minutes=1))
    await shop.store.approvals.reject(ids[1], answer=None, actor=ACTOR)
    assert [one.id for one in await waiting(shop)] == [ids[0], ids[2]]
    every = await shop.store.approvals.list(status=None, limit=2, offset=0)
    assert [one.id for one in every] == [ids[2], ids[1]]


async def test_an_unknown_question_is_refused(shop: Workshop) -> None:
    """Reading and answering say that there is none."""
    await refused(ErrorCode.APPROVAL_NOT_FOUND, shop.store.approvals.get("nobody"))
    answering = shop.store.approvals.approve("nobody", content_hash="", answer=None, actor=ACTOR)
    await refused(ErrorCode.APPROVAL_NOT_FOUND, answering)


async def test_an_agent_may_have_only_so_many_proposals_wait(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """More would bury what others ask. An answer makes room, and what waits may be changed meanwhile."""
    shop = workshop(db, clock, tmp_path, max_proposals=2)
    first, question = await proposed(shop)
    await proposed(shop)
    await refused(ErrorCode.TOO_MANY_PROPOSALS, shop.propose(AGENT, WHY))
    await shop.propose("relay.agent.default.other", WHY)
    assert len(await waiting(shop)) == 3

    await approve(shop, question)
    await proposed(shop)
    await refused(ErrorCode.TOO_MANY_PROPOSALS, shop.propose(AGENT, WHY))
    assert first.id not in {one.schedule_id for one in await waiting(shop)}
