"""`Answers`: ends the runs that were asked of a Relay subject, as soon as their end is known.

Everything is read from the database, so any server may do it: a run that waits is not bound to the one that
sent its prompt, and outlives that one's end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta

from dorkos.events import Event
from dorkos.lifecycle import Loop, Signal
from dorkos.pulse.model import Run
from dorkos.pulse.redaction import Secrets
from dorkos.pulse.store import PulseStore
from dorkos.setting_groups.pulse import SchedulerSettings

_INTERVAL_S = 5.0
_PAGE = 100
# One that fell due in between is late by no more than this.
_SOONEST_S = 0.05
# What a message says of itself when it was stored, or stopped.
_NEWS = ("relay.message.published", "relay.message.dead_lettered")


class Answers(Loop):
    """Looks when something happened to one of the requests, when the time of one is over, and often."""

    def __init__(
        self, store: PulseStore, *, settings: SchedulerSettings, environment: Mapping[str, str] = os.environ
    ) -> None:
        """`environment` holds the values that must not be stored."""
        super().__init__("pulse.answers", interval_s=_INTERVAL_S)
        self.concluded: Signal[str] = Signal()
        self._store = store
        self._longest_ms = settings.default_max_runtime_ms
        self._secrets = Secrets.named(settings.redact, environment, patterns=settings.redact_patterns)
        self._waiting: frozenset[str] = frozenset()
        self._is_looking = False

    def react(self, event: Event) -> None:
        """Look soon if the event concerns a request that is waited for. Only a hint."""
        if event.kind in _NEWS:
            # The address of an answer ends with the id of its request.
            subject = str(event.data.get("subject", ""))
            known = event.entity_id in self._waiting or subject.rpartition(".")[2] in self._waiting
            # What is waited for is known after a look; the answer may come in the middle of the first one.
            if known or self._is_looking:
                self.wake()
        elif event.kind in ("pulse.run.started", "pulse.run.cancel_requested"):
            self.wake()

    async def work(self) -> float | None:
        """End what can be ended. Returns the seconds until the time of one is over, at most the interval."""
        self._is_looking = True
        try:
            return await self._look()
        finally:
            self._is_looking = False

    async def _look(self) -> float:
        now = await self._store.now()
        waiting: set[str] = set()
        soonest_s = _INTERVAL_S
        after = ""
        while not self.stopping:
            page = await self._store.asked_runs(after=after, limit=_PAGE)
            for held in await self._store.settled_requests(page, now):
                if await self._store.conclude_request(held, self._secrets):
                    self.concluded.emit(held.run.id)
            for held in page:
                waiting.add(held.run.message_id or "")
                soonest_s = min(soonest_s, max(self._left_s(held.run, now), _SOONEST_S))
            if len(page) < _PAGE:
                break
            after = page[-1].run.id
        self._waiting = frozenset(waiting)
        return soonest_s

    def _left_s(self, run: Run, now: datetime) -> float:
        within = timedelta(milliseconds=run.max_runtime or self._longest_ms)
        return ((run.started_at or now) + within - now).total_seconds()
