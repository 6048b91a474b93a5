"""`Executor`: takes queued runs, carries them out, keeps their leases."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.errors import DorkError
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.lifecycle import Loop, Signal
from dorkos.node import Node
from dorkos.pulse.environment import run_environment
from dorkos.pulse.execution import Cause, Execution
from dorkos.pulse.model import Claim, Offer, Outcome
from dorkos.pulse.redaction import Secrets
from dorkos.pulse.store import PulseStore
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.runtimes.protocol import Runtime
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.vocabulary import RunReason, RunState

log = logging.getLogger("dorkos.pulse")

_INTERVAL_S = 1.0
_CLAIMS_MAX = 50
_SECRET_ENDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
# Together with the shorter grace of a shutdown: every run is over or killed, and its end stored, by then.
_STOP_S = 4.5


class Executor(Loop):
    """Runs at most `max_concurrent_runs` at once; more wait queued, and none is ever dropped."""

    def __init__(
        self,
        store: PulseStore,
        runtimes: RuntimeCatalog,
        *,
        clock: Clock,
        settings: SchedulerSettings,
        boundary: Boundary,
        node: Node,
        server_url: Callable[[], str],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """`environment` is what a few harmless variables of a run are taken from."""
        super().__init__("pulse.executor", interval_s=_INTERVAL_S)
        self.finished: Signal[str] = Signal()
        self.active: dict[str, Execution] = {}
        self.heartbeat = Heartbeat(store, self.active, clock=clock, lease_s=settings.lease_seconds)
        self._store = store
        self._runtimes = runtimes
        self._clock = clock
        self._settings = settings
        self._boundary = boundary
        self._node = node
        self._server_url = server_url
        self._environment = environment
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def _secret_names(self) -> list[str]:
        passed = [name for name in self._runtimes.settings.environment if name.endswith(_SECRET_ENDS)]
        return [*self._settings.redact, *passed]

    async def start(self) -> None:
        """Begin to take runs."""
        await self.heartbeat.start()
        await super().start()

    async def stop(self) -> None:
        """Take no more runs; end those at work as `interrupted`. Ends within 5 s. Safe to call again."""
        await super().stop()
        for execution in list(self.active.values()):
            execution.end(Cause.SHUTDOWN)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_S)
            for task in late:
                # Its processes are killed; what is left is to store the end, which rescue will do.
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.heartbeat.stop()

    def cancel(self, run_id: str) -> None:
        """End a run of this server that somebody asked to cancel. Nothing for any other run."""
        if run_id in self.active:
            self.active[run_id].end(Cause.CANCEL)

    async def work(self) -> float | None:
        """Fill the free places with waiting runs, oldest first.

        If the outcome of the claim is unknown, nothing is started: a run that was claimed after all has
        no process and is left to rescue.
        """
        free = min(self._settings.max_concurrent_runs - len(self.active), _CLAIMS_MAX)
        if free <= 0:
            return None
        url = self._server_url()
        offers = [Offer(new_id(), new_id(), new_secret()) for _ in range(free)]
        # Measured before the claim is sent, so that the lease never ends earlier than we think.
        leased_until = self._clock.monotonic() + self._settings.lease_seconds
        lease = timedelta(seconds=self._settings.lease_seconds)
        claimed = await self._store.claim_runs(offers, node=self._node, lease=lease)
        for claim in claimed:
            if not claim.asked:
                self._begin(claim, leased_until, url)
        # What was asked of a subject takes no place here, so there is room for more.
        return 0.0 if any(claim.asked for claim in claimed) else None

    def _begin(self, claim: Claim, leased_until: float, url: str) -> None:
        environment = run_environment(
            self._environment,
            url=url,
            secret=claim.token.secret,
            run_id=claim.run.id,
            subject=claim.token.subject,
            agent_id=claim.token.agent_id,
            context=claim.run.context,
            passed=self._runtimes.settings.environment,
        )
        claim, runtime = self._equipped(claim)
        execution = Execution(
            claim,
            store=self._store,
            runtime=runtime,
            exit_codes=self._runtimes.exit_codes,
            clock=self._clock,
            boundary=self._boundary,
            environment=environment,
            mcp_url=f"{url}/mcp",
            leased_until=leased_until,
            lease_s=self._settings.lease_seconds,
            max_runtime_ms=claim.run.max_runtime or self._settings.default_max_runtime_ms,
            max_output_bytes=self._settings.max_output_bytes,
            secrets=Secrets.named(
                self._secret_names,
                environment,
                self._environment,
                patterns=self._settings.redact_patterns,
            ),
        )
        self.active[claim.run.id] = execution
        task = asyncio.create_task(self._carry_out(execution), name=f"dorkos.run.{claim.run.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _equipped(self, claim: Claim) -> tuple[Claim, Runtime]:
        """The claim with its runtime. One that is gone by now, such as a person's own file, stops it."""
        try:
            return claim, self._runtimes.named(claim.runtime)
        except DorkError as gone:
            why = Outcome(RunState.FAILED, RunReason.UNAVAILABLE, f"{gone} {gone.hint}")
            return replace(claim, obstacle=claim.obstacle or why), self._runtimes.scripted

    async def _carry_out(self, execution: Execution) -> None:
        run_id = execution.claim.run.id
        try:
            await execution.run()
        except Exception:  # A fault of ours in one run, which must not stop the others.
            log.exception("run %s could not be carried out", run_id)
            await self._give_up(execution)
        finally:
            del self.active[run_id]
            self.finished.emit(run_id)
            self.wake()

    async def _give_up(self, execution: Execution) -> None:
        try:
            await execution.give_up()
        except Exception:  # Its lease runs out, and rescue ends it.
            log.exception("run %s: not even its failure could be stored", execution.claim.run.id)


class Heartbeat(Loop):
    """Keeps the leases of the runs at work, and learns which are to be cancelled or are lost."""

    def __init__(
        self, store: PulseStore, active: Mapping[str, Execution], *, clock: Clock, lease_s: float
    ) -> None:
        """Looks at `active` every third of a lease, so that two renewals may fail."""
        super().__init__("pulse.heartbeat", interval_s=lease_s / 3)
        self._store = store
        self._active = active
        self._clock = clock
        self._lease_s = lease_s

    async def work(self) -> float | None:
        """Renew every lease in one change."""
        beating = dict(self._active)
        if not beating:
            return None
        leased_until = self._clock.monotonic() + self._lease_s
        held = await self._store.renew_leases(
            [execution.claim.lease_token for execution in beating.values()],
            lease=timedelta(seconds=self._lease_s),
        )
        for run_id, execution in beating.items():
            if run_id not in held:
                # Taken over, or finished a moment ago, in which case this does nothing.
                execution.end(Cause.LEASE_LOST)
                continue
            execution.renewed(leased_until)
            if held[run_id]:
                execution.end(Cause.CANCEL)
        return None
