"""Work on disks, with patience that ends: a disk that went away can hold a thread for ever."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.mesh")

T = TypeVar("T")

# A disk that is there answers in milliseconds, one that has to wake up in seconds.
DISK_S = 5.0


class NoAnswerError(Exception):
    """The disk has not answered. `detail` says it, for people."""

    def __init__(self, detail: str) -> None:
        """Keep the words as they are shown."""
        super().__init__(detail)
        self.detail = detail


class Patience(Generic[T]):
    """Works in threads of its own, one for each key at a time.

    What never came back is not begun again until it does, so threads do not pile up, and no other key waits
    for it.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds` is how long whoever asks waits; `DISK_S` if nothing is said."""
        self.seconds = DISK_S if seconds is None else seconds
        self._at_work: dict[str, asyncio.Future[T]] = {}
        self._overdue: set[str] = set()

    async def wait_for(self, key: str, work: Callable[[], T]) -> T:
        """What `work` answers or raises. Whoever asks while the same is at work gets what that one answers.

        Raises `NoAnswerError`.
        """
        if key in self._overdue:
            raise NoAnswerError("an earlier look has not come back from the disk")
        outcome = self._at_work.get(key) or self._in_thread(key, work)
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.shield(outcome)
        except TimeoutError as fault:
            if outcome.done():  # In the very last moment: nothing would ever say that it came back.
                return outcome.result()
            self._overdue.add(key)
            raise NoAnswerError(f"the disk did not answer within {self.seconds:g} s") from fault

    async def require(self, path: str, work: Callable[[], T]) -> T:
        """The same for what somebody wants to be done at a path. Raises `not_ready`, so that nothing is begun
        on a disk that is away."""
        try:
            return await self.wait_for(path, work)
        except NoAnswerError as fault:
            raise DorkError(
                ErrorCode.NOT_READY,
                f"{path} cannot be looked at: {fault.detail}.",
                hint="Look whether its disk is mounted and answers. Nothing was changed.",
            ) from fault

    def _in_thread(self, key: str, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._at_work[key] = outcome

        def settle(give: Callable[[], None]) -> None:
            del self._at_work[key]
            self._overdue.discard(key)
            give()
            if outcome.exception() is not None:
                log.debug("a look at %s failed", key)  # Seen, should nobody wait for it now.

        def labour() -> None:
            try:
                answer = work()
            except Exception as fault:  # noqa: BLE001  # It comes out of `wait_for`, in the caller's loop.
                failure = fault
                tell = lambda: settle(lambda: outcome.set_exception(failure))  # noqa: E731  # Named for the call below.
            else:
                tell = lambda: settle(lambda: outcome.set_result(answer))  # noqa: E731  # As above.
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:
                log.debug("the event loop closed before a look came back from the disk")

        # A daemon, because a thread that hangs on a disk must not keep the process from ending.
        threading.Thread(target=labour, name="dorkos-look", daemon=True).start()
        return outcome
