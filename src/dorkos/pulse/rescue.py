"""`Rescue`: ends runs whose server is gone.

It touches a run only after its lease has expired, with one exception: at its start, runs of an earlier
server on this machine, in this boot, whose process is provably gone; waiting for their leases would prove
nothing more.

Rescue first takes the lease over, conditional on token and expiry being as they were read. A server that
was merely slow loses the race then, and kills its processes itself. Only the new holder looks for the
process that was left behind:

| recorded                                 | done                            | state, reason              |
|------------------------------------------|---------------------------------|----------------------------|
| this machine, this boot                  | what is left of its group, and  | interrupted, lease_expired |
|                                          | what left it, is killed         |                            |
| the same, and something survives that    | nothing more                    | interrupted, unconfirmed   |
| the same, but its id is another's by now | nothing                         | interrupted, lease_expired |
| this machine, an earlier boot            | nothing                         | interrupted, lease_expired |
| none, as its prompt was to be sent to a  | nothing                         | interrupted, lease_expired |
| subject, and was not                     |                                 |                            |
| none, as the work was done inside the    | nothing                         | interrupted, lease_expired |
| server, which is provably gone           |                                 |                            |
| another machine, or no process recorded  | nothing can be proved           | interrupted, unconfirmed   |
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from dorkos.ids import new_id
from dorkos.lifecycle import Loop, Signal
from dorkos.node import Node
from dorkos.pulse.leases import HeldRun
from dorkos.pulse.model import Outcome, Run
from dorkos.pulse.processes import has_another_process, kill_orphan, kill_remains, server_is_gone
from dorkos.pulse.store import PulseStore
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.runtimes.strays import end_strays
from dorkos.vocabulary import RunReason, RunState

log = logging.getLogger("dorkos.pulse")

_INTERVAL_MAX_S = 5.0
# Long enough to look for a process and kill it; if we die meanwhile, somebody else does it again.
_LEASE = timedelta(seconds=30)


_GONE = "The server that ran it is gone."


class Rescue(Loop):
    """Ends what nobody holds any more."""

    def __init__(self, store: PulseStore, runtimes: RuntimeCatalog, *, node: Node, lease_s: float) -> None:
        """Looks at least twice a lease."""
        super().__init__("pulse.rescue", interval_s=min(lease_s / 2, _INTERVAL_MAX_S))
        self.rescued: Signal[str] = Signal()
        self._store = store
        self._runtimes = runtimes
        self._node = node
        self._looked_at_dead_servers = False

    async def work(self) -> float | None:
        """End every run whose lease has expired, and once those of servers that are provably gone."""
        if not self._looked_at_dead_servers:
            for held, owner in await self._store.runs_of_local_nodes(self._node):
                if owner.stopped or server_is_gone(owner.pid, owner.started_at):
                    await self._rescue(held)
            self._looked_at_dead_servers = True
        for held in await self._store.expired_runs(await self._store.now()):
            await self._rescue(held)
        return None

    async def _rescue(self, held: HeldRun) -> None:
        lease_token = new_id()
        if not await self._store.take_over(held, lease_token=lease_token, node=self._node, lease=_LEASE):
            return
        over = await self._make_over(held.run)
        outcome = Outcome(
            RunState.INTERRUPTED,
            RunReason.LEASE_EXPIRED if over else RunReason.UNCONFIRMED,
            _GONE if over else f"{_GONE} Whether its program still runs cannot be told from here.",
        )
        if await self._store.finish_run(held.run, lease_token, outcome):
            log.warning("run %s is interrupted: %s", held.run.id, outcome.error)
            self.rescued.emit(held.run.id)

    async def _make_over(self, run: Run) -> bool:
        """Whether the run's process is over, after killing it if it is ours to kill."""
        if run.target_subject is not None:
            return True  # It was never sent; else it would not be left to us.
        if run.host != self._node.host:
            return False
        if self._runtimes.is_in_process(run.runtime):
            return await self._server_is_gone(run)
        over = await self._group_is_over(run)
        if run.boot_id != self._node.boot_id:
            return over
        # Last, as whatever was in the group might have started more.
        return await asyncio.to_thread(end_strays, run.id) and over

    async def _group_is_over(self, run: Run) -> bool:
        if run.pid is None or run.process_started_at is None:
            return False
        if run.boot_id != self._node.boot_id:
            return True
        if has_another_process(run.pid, run.process_started_at):
            return True
        if not await kill_orphan(run.pid, run.process_started_at):
            return False
        # The program itself may have ended, of a pipe that broke with its server, and left others at work.
        return await kill_remains(run.pid)

    async def _server_is_gone(self, run: Run) -> bool:
        if run.boot_id != self._node.boot_id:
            return True
        if run.lease_owner is None or run.lease_owner == self._node.id:
            return False
        owner = await self._store.owner_of(run.lease_owner)
        return owner is not None and (owner.stopped or server_is_gone(owner.pid, owner.started_at))
