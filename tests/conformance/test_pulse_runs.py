"""Runs on both engines: claimed once, held by a lease, ended once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.tokens import caller_of
from dorkos.ids import new_id
from dorkos.pulse.model import Cancellation, Outcome, OutputChunk, Run, ScheduleDraft
from dorkos.vocabulary import (
    OutputStream,
    RunReason,
    RunState,
    RunTrigger,
    ScheduleStatus,
)
from tests.pulse.workshop import ACTOR, LEASE, Request, Workshop, a_node, author, hours, workshop

DONE = Outcome(RunState.COMPLETED, exit_code=0, output="done")


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still."""
    return workshop(db, clock, tmp_path)


async def ids(shop: Workshop, **filters: object) -> list[str]:
    """The ids of a listing."""
    return [run.id for run in await shop.store.list_runs(**filters)]  # type: ignore[arg-type]  # Passed on.


async def test_the_oldest_waiting_run_is_claimed_first(shop: Workshop) -> None:
    """Claims come in order of creation and carry what it takes to start the program."""
    queued = [await shop.queued("true", str(n)) for n in range(3)]
    first, second = await shop.claimed(2)
    assert [first.run.id, second.run.id] == queued[:2]
    assert first.argv == ("true", "0")
    run = await shop.store.get_run(queued[0])
    assert run.status is RunState.RUNNING
    assert (run.lease_owner, run.lease_token) == (shop.node.id, first.lease_token)
    assert (run.host, run.boot_id) == (shop.node.host, shop.node.boot_id)
    assert run.lease_expires_at == await shop.store.now() + LEASE
    assert [entity for entity, _ in await shop.events("pulse.run.started")] == queued[:2]


async def test_age_is_what_counts_not_the_order_of_storing(shop: Workshop, clock: ManualClock) -> None:
    """A run with an earlier creation is claimed first, even if it was stored later."""
    later = await shop.queued("true", "later")
    hours(clock, -1)
    earlier = await shop.queued("true", "earlier")
    assert [(await shop.claimed())[0].run.id for _ in range(2)] == [earlier, later]


async def test_no_run_is_claimed_twice(shop: Workshop) -> None:
    """Many claims at the same time share the waiting runs out."""
    queued = {await shop.queued("true") for _ in range(20)}
    claims = [claim for got in await asyncio.gather(*(shop.claimed(5) for _ in range(8))) for claim in got]
    assert len(claims) == 20
    assert {claim.run.id for claim in claims} == queued
    assert len({claim.lease_token for claim in claims}) == 20


async def test_a_run_of_an_agent_starts_its_entrypoint(shop: Workshop, tmp_path: Path) -> None:
    """Program and directory are those of the agent when the run begins; its token speaks as the agent."""
    agent = await shop.register("python", "turn.py", folder=tmp_path)
    made = await shop.schedule(command=None, agent_id=agent.id)
    await shop.store.trigger_run(made.id, actor=ACTOR)
    (claim,) = await shop.claimed()
    assert (claim.argv, claim.cwd) == (("python", "turn.py"), str(tmp_path))
    now = await shop.store.now()
    caller = await shop.db.read(lambda c: caller_of(c, claim.token.secret, now))
    assert caller is not None
    assert (caller.subject, caller.agent_id, caller.run_id) == (agent.subject, agent.id, claim.run.id)


async def test_a_run_whose_agent_is_gone_cannot_start(shop: Workshop, tmp_path: Path) -> None:
    """The claim says so, so that the run ends with the reason target_removed."""
    agent = await shop.register("true", folder=tmp_path)
    made = await shop.schedule(command=None, agent_id=agent.id)
    await shop.store.trigger_run(made.id, actor=ACTOR)
    del shop.agents.known[agent.id]
    (claim,) = await shop.claimed()
    assert claim.obstacle is not None
    assert (claim.obstacle.state, claim.obstacle.reason) == (RunState.FAILED, RunReason.TARGET_REMOVED)


async def test_a_message_queues_a_run_in_the_callers_transaction(shop: Workshop, tmp_path: Path) -> None:
    """The run keeps prompt, chain, delivery and context; if the caller's change fails there is no run."""
    agent = await shop.register("true", folder=tmp_path)
    request = Request(agent.id, new_id(), new_id(), "hello", {"DORKOS_REPLY_TO": "relay.human.ada"})
    run_id, lost = new_id(), new_id()
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=run_id))
    run = await shop.store.get_run(run_id)
    assert (run.trigger, run.prompt, run.schedule_id) == (RunTrigger.MESSAGE, "hello", None)
    assert (run.chain_id, run.delivery_id) == (request.chain_id, request.delivery_id)
    assert run.context == request.context

    def failing(tx: object) -> None:
        shop.pulse.queue_run(tx, request, run_id=lost)  # type: ignore[arg-type]  # It is a transaction.
        raise LookupError

    with pytest.raises(LookupError):
        await shop.db.write(failing)
    with pytest.raises(DorkError):
        await shop.store.get_run(lost)


async def test_a_renewed_lease_lasts_longer(shop: Workshop, clock: ManualClock) -> None:
    """The lease and the run's token are extended together; a stranger's token renews nothing."""
    await shop.queued("true")
    (claim,) = await shop.claimed()
    clock.advance(LEASE / 2)
    assert await shop.store.renew_leases([claim.lease_token, new_id()], lease=LEASE) == {claim.run.id: False}
    run = await shop.store.get_run(claim.run.id)
    assert run.lease_expires_at == clock.now() + LEASE
    late = clock.now() + LEASE - timedelta(seconds=1)
    assert await shop.db.read(lambda c: caller_of(c, claim.token.secret, late)) is not None


async def test_only_the_holder_ends_a_run(shop: Workshop) -> None:
    """Another lease token ends nothing; the right one stores state, times, output, and one event."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    assert not await shop.store.finish_run(claim.run, new_id(), DONE)
    assert (await shop.store.get_run(run_id)).status is RunState.RUNNING

    assert await shop.store.finish_run(claim.run, claim.lease_token, DONE)
    run = await shop.store.get_run(run_id)
    assert (run.status, run.output, run.exit_code) == (RunState.COMPLETED, "done", 0)
    assert (run.lease_token, run.lease_expires_at) == (None, None)
    ((entity, facts),) = await shop.events("pulse.run.finished")
    assert entity == run_id
    assert facts == {
        "state": "completed",
        "reason": None,
        "scheduleId": run.schedule_id,
        "agentId": None,
        "durationMs": 0,
    }


@pytest.mark.parametrize("state", [state for state in RunState if state not in ("queued", "running")])
async def test_a_final_state_is_final(shop: Workshop, state: RunState) -> None:
    """Nothing moves a run out of a final state: no second end, cancel, release, renewal or claim."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    assert await shop.store.finish_run(claim.run, claim.lease_token, Outcome(state))
    ended = await shop.store.get_run(run_id)

    assert not await shop.store.finish_run(claim.run, claim.lease_token, Outcome(RunState.FAILED))
    assert not await shop.store.release_run(claim)
    assert not await shop.store.record_process(claim, pid=1, started_at="1")
    assert not await shop.store.append_output(claim, [OutputChunk(1, OutputStream.STDOUT, "late")])
    assert await shop.store.renew_leases([claim.lease_token], lease=LEASE) == {}
    assert await shop.claimed() == []
    with pytest.raises(DorkError) as refusal:
        await shop.store.cancel_run(run_id, actor=ACTOR)
    assert refusal.value.code is ErrorCode.RUN_NOT_ACTIVE
    assert await shop.store.get_run(run_id) == ended


async def test_of_many_who_end_a_run_one_does(shop: Workshop) -> None:
    """Ends at the same time: one is stored, with one event."""
    await shop.queued("true")
    (claim,) = await shop.claimed()
    answers = await asyncio.gather(
        *(
            shop.store.finish_run(claim.run, claim.lease_token, Outcome(state))
            for state in (RunState.COMPLETED, RunState.FAILED, RunState.TIMEOUT, RunState.CANCELLED)
        )
    )
    assert sorted(answers) == [False, False, False, True]
    assert len(await shop.events("pulse.run.finished")) == 1


async def test_the_end_of_a_run_settles_its_message_and_revokes_its_token(
    shop: Workshop, tmp_path: Path
) -> None:
    """One commit: the state, the delivery and the token."""
    agent = await shop.register("true", folder=tmp_path)
    request = Request(agent.id, new_id(), new_id(), "hello", {})
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=new_id()))
    (claim,) = await shop.claimed()
    outcome = Outcome(RunState.INTERRUPTED, RunReason.UNCONFIRMED)
    await shop.store.finish_run(claim.run, claim.lease_token, outcome)
    assert shop.deliveries.settled == {request.delivery_id: (RunState.INTERRUPTED, RunReason.UNCONFIRMED)}
    now = await shop.store.now()
    assert await shop.db.read(lambda c: caller_of(c, claim.token.secret, now)) is None


async def test_a_released_run_waits_again(shop: Workshop) -> None:
    """It goes back unchanged, can be claimed by another, and its first holder has nothing left."""
    run_id = await shop.queued("true")
    before = await shop.store.get_run(run_id)
    (claim,) = await shop.claimed()
    assert await shop.store.release_run(claim)
    assert await shop.store.get_run(run_id) == before
    (again,) = await shop.claimed()
    assert again.run.id == run_id
    assert not await shop.store.finish_run(claim.run, claim.lease_token, DONE)


async def test_a_waiting_run_is_cancelled_at_once(shop: Workshop) -> None:
    """It never starts; cancelling it again is refused as already finished."""
    run_id = await shop.queued("true")
    assert await shop.store.cancel_run(run_id, actor=ACTOR) is Cancellation.FINISHED
    assert await shop.claimed() == []
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.CANCEL_REQUESTED)
    with pytest.raises(DorkError) as refusal:
        await shop.store.cancel_run(run_id, actor=ACTOR)
    assert refusal.value.code is ErrorCode.RUN_NOT_ACTIVE


async def test_a_running_run_is_asked_to_stop(shop: Workshop, clock: ManualClock) -> None:
    """It stays running until its server ended it; asking twice is one event. Of a server that gives no sign
    of life any more the answer promises nothing."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    for _ in range(2):
        assert await shop.store.cancel_run(run_id, actor=ACTOR) is Cancellation.STOPPING
    assert (await shop.store.get_run(run_id)).status is RunState.RUNNING
    assert await shop.store.renew_leases([claim.lease_token], lease=LEASE) == {run_id: True}
    clock.advance(LEASE)
    assert await shop.store.cancel_run(run_id, actor=ACTOR) is Cancellation.UNCONFIRMED
    assert len(await shop.events("pulse.run.cancel_requested")) == 1


async def test_unknown_runs_are_not_found(shop: Workshop) -> None:
    """Reading, cancelling and output of an unknown id say so."""
    for attempt in (
        shop.store.get_run(new_id()),
        shop.store.cancel_run(new_id(), actor=ACTOR),
        shop.store.read_output(new_id()),
    ):
        with pytest.raises(DorkError) as refusal:
            await attempt
        assert refusal.value.code is ErrorCode.RUN_NOT_FOUND


async def test_by_hand_also_when_it_does_not_fire(shop: Workshop) -> None:
    """A disabled or paused schedule may be run by hand; one that waits for approval may not."""
    made = await shop.schedule(enabled=False, status=ScheduleStatus.PAUSED)
    run = await shop.store.get_run(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert (run.trigger, run.slot_id) == (RunTrigger.MANUAL, None)
    pending = await shop.schedule(status=ScheduleStatus.PENDING_APPROVAL)
    with pytest.raises(DorkError) as refusal:
        await shop.store.trigger_run(pending.id, actor=ACTOR)
    assert refusal.value.code is ErrorCode.FORBIDDEN
    assert await ids(shop, schedule_id=pending.id) == []


async def test_a_later_edit_does_not_change_a_waiting_run(shop: Workshop) -> None:
    """A run does what the schedule said when the run was made."""
    made = await shop.schedule()
    run_id = await shop.store.trigger_run(made.id, actor=ACTOR)
    await shop.pulse.update_schedule(made.id, {"prompt": "other", "command": ("false",)}, author=author())
    run = await shop.store.get_run(run_id)
    assert (run.prompt, run.command) == (made.prompt, made.command)


async def test_runs_are_listed_newest_first(shop: Workshop, clock: ManualClock) -> None:
    """Order is creation, ties by id; pages neither overlap nor leave one out; filters apply."""
    made = [await shop.queued("true") for _ in range(3)]
    hours(clock, 1)
    made += [await shop.queued("true") for _ in range(2)]
    newest_first = made[::-1]
    assert await ids(shop) == newest_first
    pages = [await ids(shop, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [run_id for page in pages for run_id in page] == newest_first

    (claim,) = await shop.claimed()
    await shop.store.finish_run(claim.run, claim.lease_token, DONE)
    assert await ids(shop, states=[RunState.COMPLETED]) == [claim.run.id]
    assert await ids(shop, states=[RunState.QUEUED, RunState.RUNNING]) == newest_first[:-1]
    assert await ids(shop, schedule_id=claim.run.schedule_id) == [claim.run.id]
    assert await ids(shop, schedule_id=new_id()) == []


async def test_output_comes_back_in_pages(shop: Workshop) -> None:
    """Chunks keep their order; storing them again changes nothing; final comes last."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    chunks = [OutputChunk(seq, OutputStream.STDOUT, f"line {seq}\n") for seq in range(1, 6)]
    for _ in range(2):
        assert await shop.store.append_output(claim, chunks)

    first = await shop.store.read_output(run_id, limit=3)
    assert [(chunk.seq, chunk.text) for chunk in first.chunks] == [(n, f"line {n}\n") for n in (1, 2, 3)]
    rest = await shop.store.read_output(run_id, after=3)
    assert [chunk.seq for chunk in rest.chunks] == [4, 5]
    assert not rest.final
    await shop.store.finish_run(claim.run, claim.lease_token, DONE)
    assert not (await shop.store.read_output(run_id, limit=3)).final
    assert (await shop.store.read_output(run_id, after=3, limit=2)).final
    assert (await shop.events("pulse.run.output"))[0] == (run_id, {"seq": 5})


async def test_only_the_holder_appends_output(shop: Workshop) -> None:
    """After somebody took the run over, its former holder's output is not stored."""
    run_id = await shop.queued("true")
    (claim,) = await shop.claimed()
    assert claim.run.lease_expires_at is not None
    (held,) = await shop.store.expired_runs(claim.run.lease_expires_at)
    assert await shop.store.take_over(held, lease_token=new_id(), node=a_node(), lease=LEASE)
    assert not await shop.store.append_output(claim, [OutputChunk(1, OutputStream.STDOUT, "late")])
    assert (await shop.store.read_output(run_id)).chunks == ()


async def test_a_lease_is_taken_over_only_as_it_was_read(shop: Workshop, clock: ManualClock) -> None:
    """If the holder renewed in between, or somebody else took it, nothing is taken."""
    await shop.queued("true")
    (claim,) = await shop.claimed()
    clock.advance(LEASE)
    (held,) = await shop.store.expired_runs(clock.now())
    await shop.store.renew_leases([claim.lease_token], lease=LEASE)
    assert not await shop.store.take_over(held, lease_token=new_id(), node=a_node(), lease=LEASE)

    clock.advance(LEASE)
    (held,) = await shop.store.expired_runs(clock.now())
    answers = await asyncio.gather(
        *(shop.store.take_over(held, lease_token=new_id(), node=a_node(), lease=LEASE) for _ in range(4))
    )
    assert sorted(answers) == [False, False, False, True]
    assert not await shop.store.finish_run(claim.run, claim.lease_token, DONE)


async def test_what_does_not_fit_in_text_is_not_lost(shop: Workshop) -> None:
    """Prompts and output with every kind of character come back equal on both engines."""
    odd = "ü✓😀 \\ ' \" \n\t\x7f\u2028"
    made = await shop.pulse.create_schedule(
        ScheduleDraft(name=odd.strip(), prompt=odd, command=("echo", odd)), author=author()
    )
    run: Run = await shop.store.get_run(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert (run.prompt, run.command) == (odd, ("echo", odd))
