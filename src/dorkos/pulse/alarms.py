"""`Alarms`: notices what has no outcome in time, from outside the path that fires and runs things."""

from __future__ import annotations

import logging
from datetime import datetime

from dorkos.lifecycle import Loop, Signal
from dorkos.pulse.store import PulseStore

log = logging.getLogger("dorkos.pulse")

_INTERVAL_S = 5.0
_CHUNK = 200


class Alarms(Loop):
    """Marks slots whose outcome is overdue, and tells of schedules whose instant nobody decides.

    A slot is marked once, on any number of servers. An undecided instant is told once by each server that
    notices it: where the scheduler is dead there may be nobody who can store that it was told. It has to be
    undecided at two looks in a row, since at a start the first look may come before the scheduler's.
    """

    def __init__(self, store: PulseStore) -> None:
        """See `Loop` for its life."""
        super().__init__("pulse.alarms", interval_s=_INTERVAL_S)
        self.raised: Signal[int] = Signal()
        self._store = store
        self._seen: dict[str, datetime] = {}
        self._told: dict[str, datetime] = {}

    async def work(self) -> float | None:
        """Look once."""
        marked = _CHUNK
        while not self.stopping and marked == _CHUNK:
            marked = await self._store.mark_overdue(limit=_CHUNK)
            if marked:
                log.warning("%d due instants have no outcome in time", marked)
                self.raised.emit(marked)
        await self._tell_undecided()
        return None

    async def _tell_undecided(self) -> None:
        found = {one.schedule_id: one for one in await self._store.undecided(limit=_CHUNK)}
        late = {key: one for key, one in found.items() if self._seen.get(key) == one.due_at}
        self._seen = {key: one.due_at for key, one in found.items()}
        fresh = [one for one in late.values() if self._told.get(one.schedule_id) != one.due_at]
        if fresh:
            await self._store.tell_undecided(fresh)
            log.error("%d schedules have an instant that nobody decides", len(fresh))
        self._told = {one.schedule_id: one.due_at for one in late.values()}
