"""Playing the next days through, as a client asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.pulse.model import Outcome
from dorkos.testing import create_test_db
from dorkos.vocabulary import RunState, ScheduleStatus
from tests.pulse.workshop import ACTOR, Workshop, author, hours, workshop


@pytest.fixture
async def shop(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse on SQLite, its loops standing still; one place for runs."""
    async with create_test_db(clock=clock) as db:
        yield workshop(db, clock, tmp_path, max_concurrent_runs=1)


async def test_stored_schedules_and_a_draft_meet(shop: Workshop) -> None:
    """Those that fire count, a paused one does not; the draft is listed without an id, and not stored."""
    made = await shop.schedule(name="hourly")
    paused = await shop.schedule(name="paused")
    await shop.pulse.update_schedule(paused.id, {"status": ScheduleStatus.PAUSED}, author=author())
    found = await shop.ask("simulate", OPERATOR, days=1, draft={"cron": "0 * * * *", "takesMs": 600_000})
    assert {(one.schedule_id, one.due) for one in found.schedules} == {(made.id, 24), (None, 24)}
    assert (found.places, found.most_at_work, found.most_waiting, found.collisions) == (1, 1, 1, 24)
    assert found.busiest[0].due == 2
    assert len(await shop.store.list_schedules()) == 2


async def test_runs_are_taken_to_last_as_they_did(shop: Workshop, clock: ManualClock) -> None:
    """A schedule whose runs took two hours skips every second and third instant."""
    made = await shop.schedule()
    await shop.store.trigger_run(made.id, actor=ACTOR)
    [claim] = await shop.claimed()
    hours(clock, 2.5)
    await shop.store.finish_run(claim.run, claim.lease_token, Outcome(RunState.COMPLETED))
    [tally] = (await shop.ask("simulate", OPERATOR, days=1)).schedules
    assert (tally.due, tally.started, tally.skipped) == (24, 8, 16)


@pytest.mark.parametrize(
    ("draft", "code"),
    [
        ({"cron": "every day at noon"}, ErrorCode.INVALID_CRON),
        ({"cron": "0 0 30 2 *"}, ErrorCode.INVALID_CRON),
        ({"cron": "0 9 * * *", "timezone": "Mars/Olympus_Mons"}, ErrorCode.INVALID_TIMEZONE),
    ],
)
async def test_a_draft_that_could_not_be_saved_is_refused(
    shop: Workshop, draft: dict[str, Any], code: ErrorCode
) -> None:
    """As creation would."""
    with pytest.raises(DorkError) as refusal:
        await shop.ask("simulate", OPERATOR, draft=draft)
    assert refusal.value.code is code


async def test_a_draft_on_demand_is_never_due(shop: Workshop) -> None:
    """There is nothing to play."""
    assert (await shop.ask("simulate", OPERATOR, draft={"cron": "@manual"})).schedules == []
