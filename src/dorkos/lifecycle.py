"""The one shape of everything that runs in the background.

A `Loop` is started once, stopped as often as one likes, does one piece of work at a time and can be
woken early. A failing piece of work is logged and kept for readiness; it never ends the loop, because
one bad row must not stop all schedules (a reconciler once stood still for months that way).

Tests wait for a `Signal` of the loop instead of sleeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import Generic, TypeVar

from dorkos.errors import DorkError

log = logging.getLogger("dorkos.lifecycle")

T = TypeVar("T")

# After a failure the loop waits this long before it tries again, doubling up to the maximum, so that
# a broken disk does not fill the log.
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 30.0


class Signal(Generic[T]):
    """Something that happened, for a test to wait on. Costs nothing until a test enables it."""

    def __init__(self) -> None:
        """Start inert."""
        self._enabled = False
        self._values: deque[T] = deque()
        self._arrived = asyncio.Event()

    def enable(self) -> None:
        """Keep values from now on."""
        self._enabled = True

    def emit(self, value: T) -> None:
        """Record that it happened. Does nothing unless a test enabled the signal."""
        if self._enabled:
            self._values.append(value)
            self._arrived.set()

    async def wait(self, timeout_s: float = 30.0) -> T:
        """The oldest value not yet taken. Raises TimeoutError: a test that hangs must say so."""
        async with asyncio.timeout(timeout_s):
            while not self._values:
                self._arrived.clear()
                await self._arrived.wait()
        return self._values.popleft()


class Loop(ABC):
    """A named background loop: `work()`, then wait until woken or until the interval has passed."""

    def __init__(self, name: str, *, interval_s: float) -> None:
        """`interval_s` is the longest time between two pieces of work."""
        self.name = name
        self.interval_s = interval_s
        self.worked: Signal[None] = Signal()
        self.failure: str | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def work(self) -> float | None:
        """Do one piece of work. A returned number of seconds is waited instead of the interval."""

    async def start(self) -> None:
        """Begin to work. Starting a started loop is a fault of the caller."""
        if self._task is not None:
            raise RuntimeError(f"loop {self.name} was started twice")
        self._task = asyncio.create_task(self._run(), name=f"dorkos.{self.name}")

    def wake(self) -> None:
        """Work again soon; waking twice before the work begins is the same as waking once."""
        self._wake.set()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called; long work looks at it between its steps."""
        return self._stopping.is_set()

    async def stop(self) -> None:
        """Let the current piece of work end, then end the loop. Safe to call again, or before start."""
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})  # However it ended: a stop has others to stop as well.

    async def _run(self) -> None:
        retry_s = _RETRY_FIRST_S
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait_s = await self.work()
            except Exception as fault:  # The loop outlives any one failure; readiness shows it.
                if isinstance(fault, DorkError):  # A state of the world, not a fault of ours: one line.
                    log.error("%s failed: %s", self.name, fault.message)
                    self.failure = fault.message
                else:
                    log.exception("%s failed", self.name)
                    # What else it says may be rows of the database, which are for the log alone.
                    self.failure = f"{type(fault).__name__}; the log has the details"
                wait_s, retry_s = retry_s, min(retry_s * 2, _RETRY_MAX_S)
            else:
                self.failure, retry_s = None, _RETRY_FIRST_S
            self.worked.emit(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.interval_s if wait_s is None else wait_s):
                    await self._wake.wait()
