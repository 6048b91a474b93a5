"""The operations whose cost must not depend on how much is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta

from benchmarks.growth.fill import APART_S, FIRST_DAY, RARE, SCHEDULES, Stored
from benchmarks.ours import SUBJECT
from dorkos.events import _after
from dorkos.identity.model import OPERATOR
from dorkos.pulse.reading import Place, Window
from dorkos.vocabulary import RunState

Operation = Callable[[Stored], Awaitable[object]]

PUBLISH_ONE = "publish, one at a time"
PUBLISH = "publish, 64 at once"
CARRY = "publish, claim and ack, 64 at once"
NEWEST_RUNS = "newest 50 runs"
METRICS = "metrics"
# So many messages of the second and third are one piece of work.
BATCH = 256

_PAGE = 50
_FEW = 10
_INSTANTS = 1000


def _end(stored: Stored) -> datetime:
    return datetime.fromisoformat(FIRST_DAY).replace(tzinfo=UTC) + timedelta(seconds=stored.count * APART_S)


def _schedule(number: int) -> str:
    return f"01S{number:023d}"


async def _runs(
    stored: Stored,
    *,
    schedule_id: str | None = None,
    states: list[RunState] | None = None,
    deep: bool = False,
) -> object:
    middle = stored.count // 2
    at = _end(stored) - timedelta(seconds=(stored.count - middle) * APART_S)
    return await stored.system.pulse.store.page_of_runs(
        schedule_id=schedule_id,
        states=states,
        window=Window(None, None),
        after=Place(at, f"01J{middle:023d}") if deep else None,
        limit=_PAGE,
        offset=0,
    )


async def _missed(stored: Stored) -> object:
    """In the time of the last thousand instants, however many came before."""
    until = _end(stored)
    since = until - timedelta(seconds=_INSTANTS * APART_S)
    return await stored.system.pulse.store.missed(since=since, until=until, limit=100)


async def _timeline(stored: Stored) -> object:
    until = _end(stored)
    since = until - timedelta(seconds=_INSTANTS * APART_S)
    ids = [_schedule(number) for number in range(10)]
    return await stored.system.pulse.store.timeline(ids, since=since, now=until)


async def _events(stored: Stored) -> object:
    return await stored.database.read(lambda c: _after(c, stored.count - 100, 100))


OPERATIONS: Mapping[str, Operation] = {
    "page of a mailbox": lambda stored: stored.system.relay.inbox(
        OPERATOR, SUBJECT, status=None, before=None, limit=_PAGE
    ),
    "newest 50 messages": lambda stored: stored.system.relay.messages(
        subject=None, sender=None, status=None, before=None, limit=_PAGE
    ),
    "search, a word of all": lambda stored: stored.system.relay.search("report", before=None, limit=20),
    "search, a word of few": lambda stored: stored.system.relay.search(RARE, before=None, limit=20),
    METRICS: lambda stored: stored.system.relay.metrics(),
    "100 events after a position": _events,
    NEWEST_RUNS: _runs,
    "newest 50 failed runs": lambda stored: _runs(stored, states=[RunState.FAILED]),
    "newest 50 runs of a schedule": lambda stored: _runs(stored, schedule_id=_schedule(1)),
    "50 runs from the middle": lambda stored: _runs(stored, deep=True),
    "newest 100 instants of a schedule": lambda stored: stored.system.pulse.store.list_slots(
        _schedule(SCHEDULES - 1), limit=100, offset=0
    ),
    "what was missed of 1,000 instants": _missed,
    "timeline of 10 schedules": _timeline,
    # At last: nothing counts or indexes here what they add, as the loops of a server do each second.
    PUBLISH_ONE: lambda stored: stored.alone(_FEW),
    PUBLISH: lambda stored: stored.publish(BATCH),
    CARRY: lambda stored: stored.carry(BATCH),
}
PIECES = {PUBLISH_ONE: _FEW, PUBLISH: BATCH, CARRY: BATCH}
"""How many pieces of work one operation is, where it is more than one."""
