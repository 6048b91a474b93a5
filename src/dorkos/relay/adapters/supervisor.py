"""Which adapters run on this server. Each is run by one server at a time, under a lease."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.events import EventFeed
from dorkos.fleet import CHANGED, read
from dorkos.lifecycle import Loop
from dorkos.relay.adapters import store
from dorkos.relay.adapters.configs import sends
from dorkos.relay.adapters.model import Adapter
from dorkos.relay.adapters.runner import AdapterRunner

log = logging.getLogger("dorkos.relay.adapters")

LEASE = timedelta(seconds=30)
# Before others may take over, by a clock that does not jump: whoever cannot renew stops by itself.
_GIVE_UP_S = 20.0
_SWEEP_S = 600.0

Runner = Callable[[Adapter], AdapterRunner]


class AdapterSupervisor(Loop):
    """Starts what is switched on, starts anew what was changed, stops the rest.

    No adapter is waited for, and none that fails holds up another or readiness. While the fleet is on hold
    none runs.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        feed: EventFeed,
        *,
        owner: str,
        is_enabled: bool,
        runner: Runner,
        changed: Callable[[], None],
        interval_s: float = 5.0,
    ) -> None:
        """`owner` names this server. `changed` is called when adapters may have been changed by anybody."""
        super().__init__("relay.adapters", interval_s=interval_s)
        self._database = database
        self._clock = clock
        self._feed = feed
        self._owner = owner
        self._is_enabled = is_enabled
        self._runner = runner
        self._changed = changed
        self._running: dict[str, AdapterRunner] = {}
        self._renewed_at = clock.monotonic()
        self._swept_at = clock.monotonic()
        self._follower: asyncio.Task[None] | None = None

    def running(self, adapter_id: str) -> AdapterRunner | None:
        """The adapter as this server runs it, if it does."""
        return self._running.get(adapter_id)

    async def start(self) -> None:
        """Begin in the background, and follow the events that say when to look."""
        await super().start()
        self._follower = asyncio.create_task(self._follow(), name="dorkos.relay.adapters.follow")

    async def stop(self) -> None:
        """Stop all adapters at once, and give them back to other servers."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
            self._follower = None
        await super().stop()
        await self._stop(list(self._running))

    async def work(self) -> float | None:
        """Compare what should run with what does."""
        wanted = {adapter.id: adapter for adapter in await self._database.read(self._wanted)}
        gone = [
            adapter_id
            for adapter_id, runner in self._running.items()
            if adapter_id not in wanted
            or wanted[adapter_id].updated_at != runner.adapter.updated_at
            or runner.has_failed
        ]
        await self._stop(gone)
        await self._renew()
        for adapter in wanted.values():
            if adapter.id not in self._running and not self.stopping:
                await self._start(adapter)
        await self._sweep()
        return None

    def _wanted(self, connection: sa.Connection) -> list[Adapter]:
        if not self._is_enabled or not read(connection).starts:
            return []
        return store.enabled(connection)

    async def _start(self, adapter: Adapter) -> None:
        def take(tx: Transaction) -> bool:
            alone = self._database.dialect == "sqlite"  # Whose file one server holds by a lock.
            if not store.take(tx, adapter.id, self._owner, LEASE, alone=alone):
                return False
            # One that was brought over has none yet, and a person may have closed it.
            if sends(adapter):
                store.open_mailbox(tx, adapter)
                store.give_back(tx, adapter)
            return True

        if await self._database.write(take):
            runner = self._running[adapter.id] = self._runner(adapter)
            runner.start()

    async def _stop(self, adapter_ids: list[str]) -> None:
        async def stop(adapter_id: str) -> None:
            runner = self._running.pop(adapter_id)
            await runner.stop()
            await self._database.write(partial(store.release, adapter_id=adapter_id, owner=self._owner))

        stopped = await asyncio.gather(*(stop(each) for each in adapter_ids), return_exceptions=True)
        for fault in stopped:
            if isinstance(fault, Exception):
                # Others take it over when the lease ends.
                log.warning("an adapter could not be given back: %s", fault)

    async def _renew(self) -> None:
        """Hold on to what runs. What is another's by now is stopped, and so is all that cannot be renewed."""
        if not self._running:
            self._renewed_at = self._clock.monotonic()
            return
        renew = partial(store.renew, owner=self._owner, adapter_ids=list(self._running), lease=LEASE)
        try:
            async with asyncio.timeout(_GIVE_UP_S / 2):
                held = await self._database.write(renew)
        except Exception:
            if self._clock.monotonic() - self._renewed_at > _GIVE_UP_S:
                await self._stop(list(self._running))
            raise
        self._renewed_at = self._clock.monotonic()
        await self._stop([adapter_id for adapter_id in self._running if adapter_id not in held])

    async def _sweep(self) -> None:
        if self._clock.monotonic() - self._swept_at >= _SWEEP_S:
            self._swept_at = self._clock.monotonic()
            while await self._database.write(store.forget_marks) == store.FORGOTTEN_AT_ONCE:
                pass

    async def _follow(self) -> None:
        """Wake when something changed. A hint only: the loop looks by itself as well."""
        try:
            async for event in self._feed.watch():
                if event.kind.startswith("relay.adapter.") and event.kind != "relay.adapter.state_changed":
                    self._changed()
                    self.wake()
                elif event.kind == CHANGED:
                    self.wake()
        except Exception:  # Changes are then noticed an interval later.
            log.exception("changes of adapters are noticed by polling only")
