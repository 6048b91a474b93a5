"""`RunStarts`: runs that a person asks for beside any schedule."""

from __future__ import annotations

import sqlalchemy as sa

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.errors import DorkError, ErrorCode
from dorkos.fleet import gate
from dorkos.ids import new_id
from dorkos.pulse import questions, runs, schedules
from dorkos.pulse.model import Run, ScheduleDraft
from dorkos.pulse.questions import AskedQuestion
from dorkos.pulse.runs import NewRun
from dorkos.pulse.targets import check_target
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.vocabulary import ACTIVE_RUN_STATES, PermissionMode, RunTrigger


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
        `fleet_on_hold` while nothing may start.
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

    async def resume(self, run_id: str, prompt: str, *, actor: str) -> str:
        """Queue the attempt that goes on with the session of a run that ended; returns its id.

        If the run is blocked on a question, `prompt` is the answer, and the question is closed. Raises
        `run_not_found`, `conflict` while the run or a resumption of it is at work or if it told no session,
        and `fleet_on_hold` while nothing may start.
        """
        new_run = new_id()
        await self._database.write(lambda tx: resume(tx, run_id, prompt, new_run=new_run, actor=actor))
        return new_run

    async def questions(self, *, limit: int) -> list[AskedQuestion]:
        """What blocked runs want to know, the longest waiting first."""
        return await self._database.read(lambda c: questions.waiting(c, limit=limit))


def resume(tx: Transaction, run_id: str, prompt: str, *, new_run: str, actor: str) -> bool:
    """Do it in the caller's transaction: see `RunStarts.resume`. Returns whether it answered a question."""
    # Two who resume at once come one after the other, and the second sees the first one's run.
    tx.execute(sa.select(pulse_runs.c.id).where(pulse_runs.c.id == run_id).with_for_update())
    run = runs.get(tx, run_id)
    if run is None:
        raise runs.not_found(run_id)
    if run.status in ACTIVE_RUN_STATES:
        raise _conflict("The run has not ended.", "Wait for its end, or cancel it first.")
    if run.schedule_id is not None and schedules.get(tx, run.schedule_id) is None:
        raise _conflict("Its schedule was deleted.", "Create a schedule, or run its program by another.")
    if run.session_id is None:
        raise _conflict("The run told no session that could go on.", "Run its schedule again instead.")
    later = pulse_runs.c.resumed_from == run_id
    if tx.execute(sa.select(pulse_runs.c.id).where(runs.ACTIVE, later)).first() is not None:
        raise _conflict("The run is being resumed already.", "Wait for the end of that run.")
    attempt = _next_attempt(tx, run)
    _start(tx, NewRun.of_resumption(run, prompt, run_id=new_run, attempt=attempt), actor=actor)
    return questions.answer(tx, run_id, prompt, by=actor)


def _next_attempt(tx: Transaction, run: Run) -> int:
    if run.slot_id is None:
        return run.attempt + 1
    newest = sa.select(sa.func.max(pulse_runs.c.attempt)).where(pulse_runs.c.slot_id == run.slot_id)
    last: int = tx.execute(newest).scalar_one()
    return last + 1


def _conflict(why: str, hint: str) -> DorkError:
    return DorkError(ErrorCode.CONFLICT, f"It cannot be resumed: {why}", hint=hint)


def _start(tx: Transaction, run: NewRun, *, actor: str) -> None:
    fleet = gate(tx)
    if not fleet.fires:
        raise fleet.refusal("The run was not queued.")
    runs.queue(tx, [run], actor=actor)
