"""What fires is word for word what a person let run, on both engines."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.pulse import pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.approvals import UNGRANTED
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import Schedule
from dorkos.vocabulary import (
    ApprovalStatus,
    OverlapPolicy,
    PermissionMode,
    RunTrigger,
    ScheduleStatus,
    SlotReason,
    Verdict,
)
from tests.pulse.workshop import ACTOR, Workshop, hours, workshop

# Written past DorkOS, as by somebody with a database tool, or into an export before it is imported.
FORGED: list[dict[str, Any]] = [
    {"prompt": "Delete everything."},
    {"command": ["rm", "-r", "."]},
    {"cron": "* * * * *"},
    {"permission_mode": PermissionMode.BYPASS_PERMISSIONS},
    {"grant_hash": None},
    {"grant_hash": "0" * 64},
]


@pytest.fixture
def shop(db: Database, clock: ManualClock, tmp_path: Path) -> Workshop:
    """Pulse whose loops stand still; the clock says 09:00."""
    return workshop(db, clock, tmp_path)


async def forge(shop: Workshop, schedule: Schedule, changes: dict[str, Any]) -> None:
    """Change the stored row and nothing else."""
    statement = pulse_schedules.update().where(pulse_schedules.c.id == schedule.id).values(changes)
    await shop.db.write(lambda tx: tx.execute(statement).rowcount)


@pytest.mark.parametrize("changes", FORGED, ids=lambda changes: "-".join(map(str, changes.items()))[:40])
async def test_what_was_changed_past_its_grant_does_not_fire(
    shop: Workshop, clock: ManualClock, changes: dict[str, Any]
) -> None:
    """Its due instant is skipped and says why, and a person is asked about what it is now."""
    made = await shop.schedule()
    await forge(shop, made, changes)
    hours(clock, 1)
    await shop.scheduler().work()
    assert await shop.store.list_runs() == []
    (slot,) = await shop.store.list_slots(made.id, limit=10, offset=0)
    assert (slot.verdict, slot.reason) == (Verdict.SKIPPED, SlotReason.PENDING_APPROVAL)
    now = await shop.store.get_schedule(made.id)
    assert (now.status, now.grant_hash) == (ScheduleStatus.PENDING_APPROVAL, None)
    assert "not what was approved" in (now.status_reason or "")
    (question,) = await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=5, offset=0)
    assert (question.schedule_id, question.content_hash) == (made.id, hash_of(now))
    assert question.expires_at == clock.now() + timedelta(days=7)
    assert [entity for entity, _ in await shop.events(UNGRANTED)] == [made.id]


async def test_once_approved_as_it_is_it_fires_again(shop: Workshop, clock: ManualClock) -> None:
    """From then on; what was due while it waited stays skipped."""
    made = await shop.schedule()
    await forge(shop, made, {"prompt": "Tidy up."})
    for _ in range(2):
        hours(clock, 1)
        await shop.scheduler().work()
    (question,) = await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=5, offset=0)
    assert question.content["prompt"] == "Tidy up."
    await shop.store.approvals.approve(
        question.id, content_hash=question.content_hash, answer=None, actor=ACTOR
    )
    hours(clock, 1)
    await shop.scheduler().work()
    (run,) = await shop.store.list_runs()
    assert run.prompt == "Tidy up."
    ran, *skipped = await shop.store.list_slots(made.id, limit=10, offset=0)
    assert ran.verdict is Verdict.RUN
    assert [slot.reason for slot in skipped] == [SlotReason.PENDING_APPROVAL] * 2


async def test_it_is_not_run_by_hand_either(shop: Workshop) -> None:
    """A person who presses the button has the old words in mind; a test run tries the new ones out."""
    made = await shop.schedule()
    await forge(shop, made, {"command": ["rm", "-r", "."]})
    for _ in range(2):
        with pytest.raises(DorkError) as refusal:
            await shop.store.trigger_run(made.id, actor=ACTOR)
        assert refusal.value.code is ErrorCode.FORBIDDEN
    assert (await shop.store.get_schedule(made.id)).status is ScheduleStatus.PENDING_APPROVAL
    assert len(await shop.store.approvals.list(status=ApprovalStatus.PENDING, limit=5, offset=0)) == 1
    await shop.store.trigger_run(made.id, actor=ACTOR, trigger=RunTrigger.TEST)
    assert [run.trigger for run in await shop.store.list_runs()] == [RunTrigger.TEST]


async def test_what_is_free_may_change(shop: Workshop, clock: ManualClock) -> None:
    """A name is no right."""
    made = await shop.schedule()
    await forge(shop, made, {"name": "another", "description": "told anew"})
    hours(clock, 1)
    await shop.scheduler().work()
    assert len(await shop.store.list_runs()) == 1


async def test_what_was_taken_over_needs_no_grant(shop: Workshop, clock: ManualClock) -> None:
    """It names no author, nobody was ever asked, and lifting the hold let it run."""
    made = await shop.schedule()
    await forge(shop, made, {"grant_hash": None, "created_by": None})
    hours(clock, 1)
    await shop.scheduler().work()
    assert len(await shop.store.list_runs()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cron": None, "timezone": None, "every_ms": 3_600_000, "jitter_ms": 1},
        {"prompt": "Grüße\n\t☃ \U0001f600", "max_active": 3, "overlap": OverlapPolicy.ALLOW},
        {
            "permission_mode": PermissionMode.PLAN,
            "idle_timeout_ms": 5,
            "retry_delay_ms": 0,
            "repeatable": True,
        },
    ],
    ids=["plain", "interval", "text", "limits"],
)
async def test_what_is_stored_is_what_was_granted(
    shop: Workshop, clock: ManualClock, fields: dict[str, Any]
) -> None:
    """A grant outlives the way through the database, so nothing waits that nobody touched."""
    made = await shop.schedule(**fields)
    assert hash_of(await shop.store.get_schedule(made.id)) == made.grant_hash
    hours(clock, 2)
    await shop.scheduler().work()
    assert await shop.store.list_runs() != []


async def test_an_instant_is_granted_to_the_millisecond(shop: Workshop, clock: ManualClock) -> None:
    """The databases keep no more than that."""
    at = clock.now() + timedelta(minutes=1, microseconds=999_600)
    made = await shop.schedule(cron=None, timezone=None, run_at=at)
    assert hash_of(await shop.store.get_schedule(made.id)) == made.grant_hash
