"""Schedules that ask a Relay subject, with Pulse and Relay as the program wires them, on both engines."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dorkos.app import System, build
from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import Event
from dorkos.home import Home
from dorkos.identity.model import OPERATOR, Caller
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.pulse.model import Claim, Offer, Run, Schedule, ScheduleDraft
from dorkos.relay import payload
from dorkos.relay.model import Envelope, LetterFilter
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.setting_groups.relay import RelaySettings
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.vocabulary import (
    DeadLetterReason,
    DeliveryStatus,
    OutputStream,
    OverlapPolicy,
    RunReason,
    RunState,
    Scope,
)
from tests.pulse.workshop import a_node, author

ADA = Caller("relay.human.ada", frozenset({Scope.SEND, Scope.RECEIVE}))
ASK = ScheduleDraft(name="standup", prompt="What is next?", target_subject=ADA.subject, max_runtime=60_000)


@pytest.fixture
def system(db: Database, clock: ManualClock, tmp_path: Path) -> System:
    """The whole system, whose loops stand still."""
    home = Home(tmp_path / "home")
    home.prepare()
    (tmp_path / "agents").mkdir()
    settings = Settings(
        server=ServerSettings(port=0, boundary=tmp_path / "agents"),
        relay=RelaySettings(max_message_bytes=65_536),
        scheduler=SchedulerSettings(timezone="UTC", redact_patterns=["swordfish"], max_output_bytes=20_000),
    )
    return build(home, given(settings), db, clock)


async def claimed(system: System, count: int = 1) -> list[Claim]:
    """What a server takes that has so many places."""
    offers = [Offer(new_id(), new_id(), new_secret()) for _ in range(count)]
    lease = timedelta(seconds=30)
    return await system.pulse.store.claim_runs(offers, node=a_node(), lease=lease)


async def asked(system: System, **changes: Any) -> Run:
    """A run whose prompt has been sent, or was to be."""
    made = await scheduled(system, **changes)
    run_id = await system.pulse.store.trigger_run(made.id, actor=OPERATOR.subject)
    await claimed(system)
    return await system.pulse.store.get_run(run_id)


async def scheduled(system: System, **changes: Any) -> Schedule:
    """A schedule that asks Ada, who has a mailbox."""
    if not await system.relay.endpoints():
        await system.relay.open(ADA, ADA.subject, description=None)
    fields = {name: getattr(ASK, name) for name in ("name", "prompt", "target_subject", "max_runtime")}
    return await system.pulse.create_schedule(ScheduleDraft(**{**fields, **changes}), author=author())


async def ended(system: System, run: Run) -> Run:
    """The run, after a look at what came back."""
    await system.pulse.answers.work()
    return await system.pulse.store.get_run(run.id)


async def reply(system: System, run: Run, answer: object) -> None:
    """Ada takes the message and answers it."""
    (delivery,) = (await system.relay.claim(ADA, ADA.subject, limit=1)).deliveries
    assert delivery.message.id == run.message_id
    envelope = Envelope(new_id(), ADA.subject, payload=payload.encode(answer))
    receipt = await system.relay.conversations.reply(ADA, delivery.message.id, envelope)
    assert receipt.delivered_to == 1
    await system.relay.ack(ADA, ADA.subject, delivery.message.id, delivery.lease_token or "")


async def text(system: System, run: Run) -> list[tuple[OutputStream, str]]:
    """All that is kept of the answer."""
    page = await system.pulse.store.read_output(run.id, limit=500)
    return [(chunk.stream, chunk.text) for chunk in page.chunks]


async def test_a_prompt_goes_out_as_a_request_in_the_chain_of_its_run(system: System) -> None:
    """It says whom it is from, expires with the run, and waits in the mailbox like any message."""
    run = await asked(system)
    assert (run.status, run.target_subject) == (RunState.RUNNING, ADA.subject)
    (delivery,) = (await system.relay.claim(ADA, ADA.subject, limit=5)).deliveries
    message = delivery.message
    assert (message.id, message.chain_id, message.run_id) == (run.message_id, run.chain_id, run.id)
    assert message.sender == f"relay.system.pulse.{run.schedule_id}"
    assert message.payload == '"What is next?"'
    assert run.started_at is not None
    assert message.expires_at == run.started_at + timedelta(minutes=1)
    assert (await ended(system, run)).status is RunState.RUNNING


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        ("Tests. Ünïcode ☃", "Tests. Ünïcode ☃"),
        ({"content": "Docs."}, "Docs."),
        ({"next": ["a", None]}, '{"next":["a",null]}'),
        ("the word is swordfish", "the word is [redacted]"),
        ("", ""),
    ],
)
async def test_a_reply_completes_the_run(system: System, answer: object, output: str) -> None:
    """With the answer as its output; the mailbox of the reply is closed and the reply delivered."""
    run = await asked(system)
    await reply(system, run, answer)
    done = await ended(system, run)
    assert (done.status, done.reason, done.output, done.error) == (RunState.COMPLETED, None, output, None)
    assert await text(system, run) == ([(OutputStream.STDOUT, output)] if output else [])
    assert [one.subject for one in await system.relay.endpoints()] == [ADA.subject]
    messages = await system.relay.messages(sender=ADA.subject, limit=5)
    assert [one.status for one in messages] == [DeliveryStatus.DELIVERED]


async def test_a_long_answer_is_cut_where_all_output_is(system: System) -> None:
    """In whole characters, with a line that says so."""
    run = await asked(system)
    await reply(system, run, "ü" * 15_000)
    await ended(system, run)
    *kept, cut = await text(system, run)
    assert "".join(piece for _, piece in kept) == "ü" * 10_000
    assert cut == (OutputStream.SYSTEM, "Output beyond 20000 bytes was dropped.\n")


async def test_a_subject_that_nobody_has_is_told_at_once(system: System) -> None:
    """Nothing was done, so another attempt follows if the schedule allows one."""
    made = await scheduled(system, target_subject="relay.human.nobody")
    run_id = await system.pulse.store.trigger_run(made.id, actor=OPERATOR.subject)
    (claim,) = await claimed(system)
    assert claim.obstacle is not None
    assert (claim.obstacle.state, claim.obstacle.reason) == (RunState.FAILED, RunReason.UNDELIVERED)
    assert "relay.human.nobody" in (claim.obstacle.error or "")
    assert await system.pulse.store.finish_run(claim.run, claim.lease_token, claim.obstacle)
    assert (await system.pulse.store.get_run(run_id)).message_id is None


async def test_what_nobody_took_in_time_is_undelivered(system: System, clock: ManualClock) -> None:
    """It is taken back, so that nobody begins it afterwards."""
    run = await asked(system)
    clock.advance(timedelta(minutes=1))
    assert (await ended(system, run)).status is RunState.RUNNING
    clock.advance(timedelta(milliseconds=1))
    late = await ended(system, run)
    assert (late.status, late.reason) == (RunState.TIMEOUT, RunReason.UNDELIVERED)
    assert "in time" in (late.error or "")
    assert (await system.relay.claim(ADA, ADA.subject, limit=5)).deliveries == ()


async def test_what_was_taken_and_not_answered_in_time_has_no_reply(
    system: System, clock: ManualClock
) -> None:
    """It may have been done, so nothing follows by itself; a reply that comes later reaches nobody."""
    run = await asked(system, max_attempts=3)
    (delivery,) = (await system.relay.claim(ADA, ADA.subject, limit=1)).deliveries
    clock.advance(timedelta(minutes=1, milliseconds=1))
    late = await ended(system, run)
    assert (late.status, late.reason) == (RunState.TIMEOUT, RunReason.NO_REPLY)
    envelope = Envelope(new_id(), ADA.subject, payload='"too late"')
    receipt = await system.relay.conversations.reply(ADA, delivery.message.id, envelope)
    assert receipt.delivered_to == 0
    assert (await ended(system, run)).output is None


async def test_what_was_turned_down_has_no_reply(system: System) -> None:
    """The message became a dead letter in somebody's hands, and that ends the run before its time."""
    run = await asked(system)
    (delivery,) = (await system.relay.claim(ADA, ADA.subject, limit=1)).deliveries
    await system.relay.nack(
        ADA, ADA.subject, delivery.message.id, delivery.lease_token or "", delay=timedelta(), reject=True
    )
    refused = await ended(system, run)
    assert (refused.status, refused.reason) == (RunState.FAILED, RunReason.NO_REPLY)


async def test_a_cancelled_request_is_taken_back(system: System) -> None:
    """Where nobody has taken it, nobody will."""
    run = await asked(system)
    await system.pulse.store.cancel_run(run.id, actor=OPERATOR.subject)
    gone = await ended(system, run)
    assert (gone.status, gone.error) == (RunState.CANCELLED, "Run cancelled")
    assert (await system.relay.claim(ADA, ADA.subject, limit=5)).deliveries == ()
    (dead,) = await system.relay.letters.newest_first(LetterFilter(), limit=5)
    assert dead.reason is DeadLetterReason.REJECTED


async def test_cancelling_what_was_taken_does_not_claim_that_it_stopped(system: System) -> None:
    """Whoever took it may be at work, which the run says."""
    run = await asked(system)
    await system.relay.claim(ADA, ADA.subject, limit=1)
    await system.pulse.store.cancel_run(run.id, actor=OPERATOR.subject)
    gone = await ended(system, run)
    assert gone.status is RunState.CANCELLED
    assert "may still be at work" in (gone.error or "")


async def test_an_answer_that_is_there_beats_a_wish_to_cancel(system: System) -> None:
    """It is done, and saying otherwise would be false."""
    run = await asked(system)
    await reply(system, run, "done")
    await system.pulse.store.cancel_run(run.id, actor=OPERATOR.subject)
    assert (await ended(system, run)).status is RunState.COMPLETED


async def test_a_waiting_run_outlives_its_server(system: System, clock: ManualClock) -> None:
    """Rescue leaves it alone, and any server ends it by the answer, once."""
    run = await asked(system, max_runtime=86_400_000)
    clock.advance(timedelta(hours=20))
    await system.pulse.rescue.work()
    await reply(system, run, "at last")
    done = await ended(system, run)
    assert (done.status, done.output) == (RunState.COMPLETED, "at last")
    assert await text(system, await ended(system, run)) == [(OutputStream.STDOUT, "at last")]


async def test_overlap_counts_what_waits_for_an_answer(system: System) -> None:
    """A second question of the same schedule waits until the first is answered."""
    run = await asked(system, overlap=OverlapPolicy.QUEUE)
    assert run.schedule_id is not None
    await system.pulse.store.trigger_run(run.schedule_id, actor=OPERATOR.subject)
    assert await claimed(system) == []
    await reply(system, run, "first")
    await ended(system, run)
    assert [claim.asked for claim in await claimed(system)] == [True]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"target_subject": "relay.human.*"}, ErrorCode.WILDCARD_NOT_ALLOWED),
        ({"target_subject": "relay..ada"}, ErrorCode.INVALID_SUBJECT),
        ({"target_subject": "ünïcode"}, ErrorCode.INVALID_SUBJECT),
        ({"command": ("true",)}, ErrorCode.VALIDATION_FAILED),
        ({"runtime": "scripted"}, ErrorCode.VALIDATION_FAILED),
    ],
)
async def test_a_target_that_is_none_is_refused(
    system: System, changes: dict[str, Any], code: ErrorCode
) -> None:
    """One exact subject and nothing beside it; nothing is stored."""
    with pytest.raises(DorkError) as refusal:
        await scheduled(system, **changes)
    assert refusal.value.code is code
    assert await system.pulse.store.list_schedules() == []


async def test_a_prompt_that_cannot_be_a_message_ends_its_run_and_no_other(system: System) -> None:
    """It is too large; whatever else waits is claimed in the same change."""
    large = await scheduled(system, prompt="x" * 70_000)
    small = await scheduled(system)
    for made in (large, small):
        await system.pulse.store.trigger_run(made.id, actor=OPERATOR.subject)
    refused, sent = await claimed(system, 2)
    assert refused.obstacle is not None
    assert (refused.obstacle.reason, refused.asked) == (RunReason.UNDELIVERED, False)
    assert "70002 bytes" in (refused.obstacle.error or "")
    assert (sent.obstacle, sent.asked) == (None, True)


@pytest.mark.timeout(300)
async def test_a_reply_is_noticed_when_it_is_stored(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when somebody looks by the clock."""
    monkeypatch.setattr("dorkos.pulse.answers._INTERVAL_S", 3600.0)
    await system.relay.open(ADA, ADA.subject, description=None)
    await system.start()
    try:
        head = system.feed.head
        made = await scheduled(system, max_runtime=None)
        run_id = await system.pulse.store.trigger_run(made.id, actor=OPERATOR.subject)
        while not (taken := await system.relay.claim(ADA, ADA.subject, limit=1, wait_ms=30_000)).deliveries:
            pass
        (delivery,) = taken.deliveries
        envelope = Envelope(new_id(), ADA.subject, payload='"now"')
        await system.relay.conversations.reply(ADA, delivery.message.id, envelope)
        async with asyncio.timeout(240):
            async for event in system.feed.watch(head):
                if (event.kind, event.entity_id) == ("pulse.run.finished", run_id):
                    break
        assert (await system.pulse.store.get_run(run_id)).output == "now"
    finally:
        await system.stop()


async def test_a_reply_in_the_middle_of_the_first_look_is_noticed(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop learns only by its first look what to wait for, and must not miss what comes meanwhile."""
    monkeypatch.setattr("dorkos.pulse.answers._INTERVAL_S", 3600.0)
    run = await asked(system, max_runtime=None)
    answers, store = system.pulse.answers, system.pulse.store
    settled, is_first = store.settled_requests, [True]

    async def and_then_the_reply(*page: Any) -> Any:
        found = await settled(*page)
        if is_first and is_first.pop():
            await reply(system, run, "now")
            told = json.dumps({"subject": f"relay.system.answers.{run.message_id}"})
            answers.react(Event(1, "relay.message.published", new_id(), None, run.created_at, told))
        return found

    monkeypatch.setattr(store, "settled_requests", and_then_the_reply)
    answers.concluded.enable()
    await answers.start()
    try:
        assert await answers.concluded.wait() == run.id
    finally:
        await answers.stop()
