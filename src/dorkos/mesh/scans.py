"""Walks in threads of their own: at most two at once, and none that anybody waits for without end."""

from __future__ import annotations

import asyncio
import logging
import threading

from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.discovery import Walk
from dorkos.mesh.model import Discovery, Truncation

log = logging.getLogger("dorkos.mesh")

_AT_ONCE = 2
# What a walk may take beyond its limit before it is given up: one slow directory, not a dead disk.
_GRACE_S = 5.0


class Scans:
    """Runs walks beside the event loop.

    A disk that went away can hold a thread for ever. Such a walk is given up, with what it found, but
    keeps its place until its thread comes back, so that threads do not pile up.
    """

    def __init__(self, *, grace_s: float = _GRACE_S) -> None:
        """`grace_s` is how long after its own limit a walk is given up."""
        self._grace_s = grace_s
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._walks: set[Walk] = set()

    async def run(self, walk: Walk) -> Discovery:
        """The outcome of the walk. Cancelling the caller cancels the walk; raises `not_ready` if no place
        becomes free within the walk's own time limit."""
        await self._take_place(walk.limits.seconds)
        outcome = self._start(walk)
        try:
            async with asyncio.timeout(walk.limits.seconds + self._grace_s):
                return await asyncio.shield(outcome)
        except TimeoutError:
            log.warning("a discovery does not come back from the disk and was given up")
            return walk.so_far(truncated=Truncation.TIME)
        finally:
            walk.cancel()

    def stop(self) -> None:
        """End the walks that are at work; their callers get what was found."""
        for walk in self._walks:
            walk.cancel()

    async def _take_place(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError as fault:
            raise DorkError(
                ErrorCode.NOT_READY,
                f"{_AT_ONCE} discoveries are at work already.",
                hint="Wait for them to end. If they never do, a disk under their roots does not answer.",
            ) from fault

    def _start(self, walk: Walk) -> asyncio.Future[Discovery]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Discovery] = loop.create_future()

        def settle(found: Discovery | None, fault: Exception | None) -> None:
            self._walks.discard(walk)
            self._places.release()
            if outcome.cancelled():
                return
            if found is not None:
                outcome.set_result(found)
            elif fault is not None:
                outcome.set_exception(fault)
                outcome.exception()  # Marks it as seen: the caller may have given up.

        def work() -> None:
            found, failure = None, None
            try:
                found = walk.run()
            except Exception as fault:  # noqa: BLE001  # It comes out of `run`, in the caller's loop.
                failure = fault
            try:
                loop.call_soon_threadsafe(settle, found, failure)
            except RuntimeError:
                log.debug("the event loop closed before a discovery ended")

        self._walks.add(walk)
        # A daemon, because a thread that hangs on a disk must not keep the process from ending.
        threading.Thread(target=work, name="dorkos-discovery", daemon=True).start()
        return outcome
