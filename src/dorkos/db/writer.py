"""The one thread that writes: it takes the changes that wait, up to 256, and has them committed together."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from dorkos.db.batch import Job, Outcome
from dorkos.db.database import Change
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.db")

T = TypeVar("T")

BATCH_MAX = 256
QUEUE_MAX = 10_000


class Writer:
    """Changes come from any event loop. Each is answered there, after the commit that it was in."""

    def __init__(self, apply: Callable[[list[Job]], list[Outcome]], notify: Callable[[], None]) -> None:
        """`apply` commits a batch and says what became of each, never raising; `notify` is called in the
        event loop after a commit that stored events."""
        self._apply = apply
        self._notify = notify
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def start(self) -> None:
        """Begin to take changes."""
        self._thread = threading.Thread(target=self._loop, name="dorkos-write", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish the changes that were accepted; later ones are refused. Safe to call again."""
        self._is_stopping = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)

    async def write(self, change: Change[T]) -> T:
        """Hand over a change and wait for its commit. Raises what became of it, `shutting_down`, and
        `database_busy` if too many wait."""
        if self._is_stopping or self._thread is None:
            raise DorkError(ErrorCode.SHUTTING_DOWN, "The database is closed.")
        if self._jobs.qsize() >= QUEUE_MAX:
            raise DorkError(
                ErrorCode.DATABASE_BUSY,
                f"{QUEUE_MAX} changes wait to be written already.",
                hint="The disk is slower than the load; try again in a moment.",
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._jobs.put(Job(change, loop, answer))
        return await answer

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, closing = self._drain(job)
            self._answer(batch, self._outcomes(batch))
            if closing:
                return

    def _outcomes(self, batch: list[Job]) -> list[Outcome]:
        try:
            return self._apply(batch)
        except BaseException as fault:  # A thread that ended here would leave all others waiting for ever.
            log.exception("a commit of %d changes failed in a way that nobody thought of", len(batch))
            untold = RuntimeError(f"The commit ended with {type(fault).__name__}.")
            untold.__cause__ = fault
            return [Outcome(fault=untold) for _ in batch]

    def _drain(self, first: Job) -> tuple[list[Job], bool]:
        batch = [first]
        while len(batch) < BATCH_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _answer(self, batch: list[Job], outcomes: list[Outcome]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Outcome]]] = {}
        for job, outcome in zip(batch, outcomes, strict=True):
            by_loop.setdefault(job.loop, []).append((job, outcome))
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._settle, answers)
            except RuntimeError:  # The loop is closed: nobody is left to be told.
                log.debug("the event loop closed before %d changes were answered", len(answers))

    def _settle(self, answers: list[tuple[Job, Outcome]]) -> None:
        for job, outcome in answers:
            if job.answer.done():  # The caller was cancelled; its change is stored all the same.
                continue
            if outcome.fault is not None:
                job.answer.set_exception(outcome.fault)
            else:
                job.answer.set_result(outcome.value)
        if any(outcome.has_events for _, outcome in answers):
            self._notify()
