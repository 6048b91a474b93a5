"""`RunStarts`: runs that a person asks for beside any schedule."""

from __future__ import annotations

from dorkos.db.database import Database, Transaction
from dorkos.fleet import gate
from dorkos.ids import new_id
from dorkos.pulse import runs
from dorkos.pulse.model import ScheduleDraft
from dorkos.pulse.runs import NewRun
from dorkos.pulse.targets import check_target
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.vocabulary import PermissionMode, RunTrigger


class RunStarts:
    """Each method is one commit. While the fleet does not fire, nothing is queued by them."""

    def __init__(self, database: Database, runtimes: RuntimeCatalog) -> None:
        """`runtimes` are those that can be named."""
        self._database = database
        self._runtimes = runtimes

    async def test_runtime(
        self, name: str, *, command: tuple[str, ...] | None, cwd: str | None, prompt: str, actor: str
    ) -> str:
        """Queue a run of a runtime by itself, with the least rights; returns its id.

        Raises `validation_failed` for a runtime that is not there or does not fit the command, and
        `fleet_held` while nothing may start.
        """
        check_target(ScheduleDraft(name=name, prompt=prompt, runtime=name, command=command), self._runtimes)
        run_id = new_id()
        run = NewRun(
            id=run_id,
            trigger=RunTrigger.TEST,
            prompt=prompt,
            chain_id=run_id,
            command=command,
            cwd=cwd,
            runtime=name,
            permission_mode=PermissionMode.DEFAULT,
        )
        await self._database.write(lambda tx: _start(tx, run, actor=actor))
        return run_id


def _start(tx: Transaction, run: NewRun, *, actor: str) -> None:
    fleet = gate(tx)
    if not fleet.fires:
        raise fleet.refusal("The run was not queued.")
    runs.queue(tx, [run], actor=actor)
