"""Walks in threads of their own: at most two at once, and none that anybody waits for without end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator

from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.discovery import Walk
from dorkos.mesh.model import Candidate, Problem, Progress, SearchEnd, Truncation

log = logging.getLogger("dorkos.mesh")

Finding = Candidate | Problem | Progress | SearchEnd

_AT_ONCE = 2
# What a walk may take beyond its limit before it is given up: one slow directory, not a dead disk.
_GRACE_S = 5.0
_PROGRESS_EVERY_S = 0.25


class _Work:
    """A walk at work in its thread, and what it found that nobody has taken yet: at most what its limits
    let it find, so a slow taker costs no more than a fast one."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._found: deque[Candidate | Problem] = deque()
        self._news = asyncio.Event()

    def put(self, found: Candidate | Problem, loop: asyncio.AbstractEventLoop) -> None:
        """Called in the walk's thread."""
        self._found.append(found)
        if not self._news.is_set():
            loop.call_soon_threadsafe(self._news.set)

    def settle(self, fault: Exception | None) -> None:
        """The thread is done, in good order or not."""
        if fault is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(fault)
            self.outcome.exception()  # Marks it as seen: whoever waited may have gone.
        self._news.set()

    def take(self) -> list[Candidate | Problem]:
        """What came since the last time."""
        self._news.clear()  # First, so that what comes in between is told of again.
        return [self._found.popleft() for _ in range(len(self._found))]

    async def news(self, within_s: float) -> None:
        """Wait for something to take, or for the end."""
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            return


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

    async def watch(self, walk: Walk) -> AsyncGenerator[Finding]:
        """What the walk finds, as soon as it is found; how far it is, some four times a second; its end.

        Closing the generator, or cancelling whoever waits for it, cancels the walk. Raises `not_ready` if
        no place becomes free within the walk's own time limit, and whatever fault ended the walk.
        """
        await self._take_place(walk.limits.seconds)
        work = self._start(walk)
        loop = asyncio.get_running_loop()
        given_up_at = loop.time() + walk.limits.seconds + self._grace_s
        told_at = loop.time()
        try:
            while True:
                is_over = work.outcome.done()  # Looked at first: all that it found is there to take then.
                for found in work.take():
                    yield found
                now = loop.time()
                if is_over:
                    work.outcome.result()
                    yield SearchEnd(walk.progress(), walk.truncated)
                    return
                if now >= given_up_at:
                    log.warning("a discovery does not come back from the disk and was given up")
                    yield SearchEnd(walk.progress(), walk.truncated or Truncation.TIME)
                    return
                if now - told_at >= _PROGRESS_EVERY_S:
                    told_at = now
                    yield walk.progress()
                await work.news(max(0.0, min(told_at + _PROGRESS_EVERY_S, given_up_at) - loop.time()))
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

    def _start(self, walk: Walk) -> _Work:
        loop = asyncio.get_running_loop()
        work = _Work(walk)

        def settle(fault: Exception | None) -> None:
            self._walks.discard(walk)
            self._places.release()
            work.settle(fault)

        def labour() -> None:
            failure: Exception | None = None
            try:
                try:
                    for found in walk.run():
                        work.put(found, loop)
                except Exception as fault:  # noqa: BLE001  # It comes out of `watch`, in the caller's loop.
                    failure = fault
                loop.call_soon_threadsafe(settle, failure)
            except RuntimeError:
                log.debug("the event loop closed before a discovery ended")

        self._walks.add(walk)
        # A daemon, because a thread that hangs on a disk must not keep the process from ending.
        threading.Thread(target=labour, name="dorkos-discovery", daemon=True).start()
        return work
