"""One run at work: started, watched, ended for one of several causes, and its outcome stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import TypeVar

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.errors import DorkError, ErrorCode
from dorkos.node import process_started_at
from dorkos.pulse.capture import Capture
from dorkos.pulse.model import Claim, Outcome, OutputChunk
from dorkos.pulse.outcomes import CANCELLED, account_of, outcome_of
from dorkos.pulse.redaction import Secrets
from dorkos.pulse.store import PulseStore
from dorkos.pulse.telling import remark_of, system_context
from dorkos.runtimes.events import ResultStatus, Session, Text
from dorkos.runtimes.protocol import Exit, Printed, RunSpec, Runtime, StartFailedError, Turn
from dorkos.runtimes.results import Cancelled, Ending, Report, TimedOut, conclude
from dorkos.storable import clean_text
from dorkos.vocabulary import OutputStream, PermissionMode, RunReason, RunState

log = logging.getLogger("dorkos.pulse")

T = TypeVar("T")

GRACE_S = 5.0
SHUTDOWN_GRACE_S = 2.0
# A lease is given up this part of its length before it expires, so that the process is dead by then.
_MARGIN = 0.1
_WATCH_S = 0.25
_RETRY_S = 0.5
# Faults that may pass. Storing the same output or the same end twice is harmless, so these are repeated.
_PASSING = frozenset(
    {
        ErrorCode.DATABASE_BUSY,
        ErrorCode.DATABASE_UNREACHABLE,
        ErrorCode.DATABASE_READONLY,
        ErrorCode.DISK_FULL,
        ErrorCode.OUTCOME_UNKNOWN,
    }
)


_STOPPED = Outcome(RunState.INTERRUPTED, RunReason.SHUTDOWN, "The server stopped while it ran.")


_FAULT = Outcome(
    RunState.INTERRUPTED,
    RunReason.UNCONFIRMED,
    "DorkOS failed in the middle of this run. The fault is its own; the log of the server has the details."
    " What the run had done stays done.",
)


class Cause(Enum):
    """Why a run is ended before its program ends by itself."""

    DEADLINE = auto()
    IDLE = auto()
    CANCEL = auto()
    SHUTDOWN = auto()
    LEASE_LOST = auto()


class _LeaseLostError(Exception):
    """Somebody else may hold the run now: nothing more may be stored about it."""


class Execution:
    """Carries out one claimed run. The causes to end it early may come at any time; the first one counts."""

    def __init__(
        self,
        claim: Claim,
        *,
        store: PulseStore,
        runtime: Runtime,
        exit_codes: Mapping[int, ResultStatus],
        clock: Clock,
        boundary: Boundary,
        environment: dict[str, str],
        mcp_url: str,
        leased_until: float,
        lease_s: float,
        max_runtime_ms: int,
        max_output_bytes: int,
        secrets: Secrets,
    ) -> None:
        """`leased_until` is on the monotonic clock, counted from before the claim was sent."""
        self._secrets = secrets
        self.claim = claim
        self._store = store
        self._runtime = runtime
        self._exit_codes = exit_codes
        self._clock = clock
        self._boundary = boundary
        self._environment = environment
        self._mcp_url = mcp_url
        self._leased_until = leased_until
        self._margin_s = lease_s * _MARGIN
        self._max_runtime_ms = max_runtime_ms
        self._max_output_bytes = max_output_bytes
        self._cause: asyncio.Future[Cause] = asyncio.get_running_loop().create_future()
        self._lost = asyncio.Event()
        self._turn: Turn | None = None
        self._idle: asyncio.TimerHandle | None = None

    def end(self, cause: Cause) -> None:
        """End it early. A lost lease always counts, also while it is being ended for another cause."""
        if cause is Cause.LEASE_LOST:
            self._lost.set()
        if not self._cause.done():
            self._cause.set_result(cause)
        elif cause is Cause.SHUTDOWN and self._turn is not None:
            # It is being ended already, but the server cannot wait for the long grace of a cancel.
            asyncio.get_running_loop().call_later(SHUTDOWN_GRACE_S, self._turn.kill)

    def renewed(self, leased_until: float) -> None:
        """The lease was extended, until then on the monotonic clock."""
        self._leased_until = leased_until

    async def run(self) -> None:
        """Do it. Stores the outcome, unless the lease is lost: then the run is left to rescue."""
        watch = asyncio.create_task(self._watch_lease())
        try:
            await self._finish(await self._outcome())
        except _LeaseLostError:
            log.warning("run %s: the lease is lost; its processes were killed", self.claim.run.id)
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _outcome(self) -> Outcome | None:
        """How it ended; None if it was given back unstarted."""
        if self.claim.obstacle is not None:
            return self.claim.obstacle
        if self._cause.done():
            return await self._unstarted(self._cause.result())
        try:
            self._turn = turn = await self._runtime.start(self._spec())
        except (StartFailedError, DorkError) as fault:
            return Outcome(RunState.FAILED, RunReason.START_FAILED, str(fault))
        try:
            return await self._attend(turn)
        finally:
            await turn.close()

    async def _unstarted(self, cause: Cause) -> Outcome | None:
        self._refuse_if_lost()
        if cause is Cause.CANCEL:
            return Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED, CANCELLED)
        await self._persist(lambda: self._store.release_run(self.claim))
        return None

    def _spec(self) -> RunSpec:
        cwd = self._boundary.confine(self.claim.cwd) if self.claim.cwd else self._boundary.root
        # It was stored resolved. If it leads elsewhere now, a link took its place, and what lies there is
        # not what a person approved.
        if self.claim.cwd and cwd != Path(self.claim.cwd):
            raise StartFailedError(f"{self.claim.cwd} leads to {cwd} by now: a link took its place.")
        return RunSpec(
            self.claim.argv,
            self.claim.run.prompt,
            cwd,
            self._environment,
            # What nobody gave rights asks before it does anything.
            permission_mode=self.claim.run.permission_mode or PermissionMode.DEFAULT,
            system_context=system_context(self.claim, self._max_runtime_ms),
            resume=self.claim.resume,
            mcp_url=self._mcp_url,
            max_runtime_ms=self._max_runtime_ms,
        )

    async def _attend(self, turn: Turn) -> Outcome:
        report = Report()
        capture = Capture(self._append, max_bytes=self._max_output_bytes, secrets=self._secrets)
        reading = asyncio.create_task(self._read(turn, capture, report))
        deadline = asyncio.get_running_loop().call_later(
            self._max_runtime_ms / 1000, self.end, Cause.DEADLINE
        )
        self._listen(self.claim.run.idle_timeout_ms)
        try:
            await self._record_process(turn)
            cause, ended = await self._until_over(turn)
            self._refuse_if_lost()
            await self._while_held(reading)
            await self._while_held(asyncio.ensure_future(capture.close()))
            return self._concluded(cause, ended, report, capture.tail)
        finally:
            deadline.cancel()
            self._listen(None)
            turn.kill()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await capture.abandon()

    async def _record_process(self, turn: Turn) -> None:
        if (pid := turn.pid) is None:
            return
        started_at = process_started_at(pid)
        await self._persist(lambda: self._store.record_process(self.claim, pid=pid, started_at=started_at))

    async def _until_over(self, turn: Turn) -> tuple[Cause | None, Exit]:
        exiting = asyncio.ensure_future(turn.wait())
        try:
            await asyncio.wait((exiting, self._cause), return_when=asyncio.FIRST_COMPLETED)
            if exiting.done():
                return None, exiting.result()
            cause = self._cause.result()
            self._refuse_if_lost()
            grace_s = SHUTDOWN_GRACE_S if cause is Cause.SHUTDOWN else GRACE_S
            ended = await self._while_held(asyncio.ensure_future(turn.terminate(grace_s)))
            if ended is None:
                # Not even SIGKILL ended it. What is not over is never given a final state.
                log.error("run %s: process %s cannot be killed", self.claim.run.id, turn.pid)
                raise _LeaseLostError
            return cause, ended
        finally:
            exiting.cancel()

    async def _read(self, turn: Turn, capture: Capture, report: Report) -> None:
        idle_ms = self.claim.run.idle_timeout_ms
        async for said in turn.events():
            # While we are the slow ones, its silence is not its own.
            self._listen(None)
            report.take(said)
            if isinstance(said, Printed):
                await capture.take(said.stream, said.data)
            elif isinstance(said, Text):
                await capture.take(OutputStream.STDOUT, said.text.encode("utf-8", "replace"))
            elif isinstance(said, Session):
                await self._record_session(said.session_id)
            elif (remark := remark_of(said)) is not None:
                await capture.remark(remark)
            self._listen(idle_ms)
        if report.answer is not None:
            await capture.take(OutputStream.STDOUT, report.answer.encode("utf-8", "replace"))

    async def _record_session(self, session_id: str) -> None:
        stored = clean_text(session_id)
        await self._persist(lambda: self._store.record_session(self.claim, stored))

    def _listen(self, idle_ms: int | None) -> None:
        """Begin anew to wait for it to print something, or wait no more."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if idle_ms is not None:
            self._idle = asyncio.get_running_loop().call_later(idle_ms / 1000, self.end, Cause.IDLE)

    async def _append(self, chunks: Sequence[OutputChunk]) -> None:
        await self._persist(lambda: self._store.append_output(self.claim, chunks))

    async def _finish(self, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        run, lease_token = self.claim.run, self.claim.lease_token
        outcome = self._hidden(outcome)
        await self._persist(lambda: self._store.finish_run(run, lease_token, outcome))

    async def give_up(self) -> None:
        """Store that we failed it ourselves. Its processes were killed when the failure left `run`."""
        await self._finish(_FAULT)

    def _hidden(self, outcome: Outcome) -> Outcome:
        """The outcome without secrets, in its error and in what it asks a person."""
        if outcome.error is not None:
            outcome = replace(outcome, error=self._secrets.hide(outcome.error))
        account = outcome.account
        if account is None or account.question is None:
            return outcome
        asked = account.question
        hidden = {
            "question": self._secrets.hide(asked["question"]),
            "options": [self._secrets.hide(option) for option in asked["options"]],
        }
        return replace(outcome, account=replace(account, question=hidden))

    async def _persist(self, change: Callable[[], Awaitable[bool]]) -> None:
        """Store something, again while the database has a passing fault and the lease is held."""
        while True:
            self._refuse_if_lost()
            try:
                if await change():
                    return
            except DorkError as fault:
                if fault.code not in _PASSING:
                    raise
                log.warning("run %s: not stored, will try again: %s", self.claim.run.id, fault)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_S):
                        await self._lost.wait()
            else:
                self.end(Cause.LEASE_LOST)

    async def _while_held(self, work: asyncio.Future[T]) -> T:
        """Wait for `work`, but no longer than the lease is held."""
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait((work, lost), return_when=asyncio.FIRST_COMPLETED)
            self._refuse_if_lost()
            return work.result()
        finally:
            lost.cancel()
            if not work.done():
                work.cancel()

    def _concluded(self, cause: Cause | None, ended: Exit, report: Report, output: str) -> Outcome:
        ending: Ending | None
        match cause:
            case Cause.DEADLINE:
                ending = TimedOut(f"The run took longer than its limit of {self._max_runtime_ms} ms.")
            case Cause.IDLE:
                silence = self.claim.run.idle_timeout_ms
                ending = TimedOut(f"The run printed nothing for {silence} ms.", idle=True)
            case Cause.CANCEL:
                ending = Cancelled()
            case Cause.SHUTDOWN:
                ending = None
            case _:
                ending = conclude(ended, report, reports=self._runtime.reports, codes=self._exit_codes)
        outcome = outcome_of(ending) if ending is not None else _STOPPED
        return replace(
            outcome,
            exit_code=ended.code,
            output=output,
            account=account_of(report, ending, runtime=self.claim.runtime),
        )

    def _refuse_if_lost(self) -> None:
        if self._lost.is_set():
            raise _LeaseLostError

    async def _watch_lease(self) -> None:
        while True:
            left = self._leased_until - self._margin_s - self._clock.monotonic()
            if left <= 0:
                self.end(Cause.LEASE_LOST)
                return
            # Looks often instead of sleeping until the end: the end moves with each renewal.
            await asyncio.sleep(min(left, _WATCH_S))
