"""`ApprovalStore`: what a person was asked, and what came of it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.lifecycle import Loop
from dorkos.pulse import approvals, questions, schedules, starts
from dorkos.pulse.approvals import Approval
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import Schedule
from dorkos.pulse.schedules import Check
from dorkos.pulse.zones import Zones
from dorkos.vocabulary import ApprovalKind, ApprovalStatus, ScheduleStatus

_UNANSWERED = "Nobody answered its approval in time. Resume it to let it run, or have it proposed again."
_CHUNK = 100
_INTERVAL_S = 30.0


class ApprovalStore:
    """Questions and their answers. An answer and what it does to the schedule or the run are one commit."""

    def __init__(self, database: Database, *, zones: Zones, check: Check) -> None:
        """`check` judges a schedule's target as at its creation."""
        self._database = database
        self._zones = zones
        self._check = check

    async def get(self, approval_id: str) -> Approval:
        """One question. Raises `approval_not_found`."""
        found = await self._database.read(lambda c: approvals.get(c, approval_id))
        if found is None:
            raise approvals.not_found(approval_id)
        return found

    async def list(
        self,
        *,
        status: ApprovalStatus | None,
        limit: int,
        offset: int,
        kind: ApprovalKind | None = None,
        run_id: str | None = None,
    ) -> list[Approval]:
        """Those that wait, the oldest first; or of another state or all, the newest first."""
        return await self._database.read(
            lambda c: approvals.listed(c, status=status, limit=limit, offset=offset, kind=kind, run_id=run_id)
        )

    async def approve(
        self, approval_id: str, *, content_hash: str, answer: str | None, actor: str
    ) -> str | None:
        """Let the schedule run, exactly as it was shown; or answer a run, and return the id of the one that
        goes on with it.

        Raises `approval_superseded` if `content_hash` is not that of what is asked now, `approval_decided`
        if it was answered or has expired, and what keeps the schedule or the run from going on, such as a
        target that is gone; it waits on then. A run needs a word: `validation_failed` without one.
        """
        new_run = new_id()
        return await self._database.write(
            lambda tx: self._approve(
                tx, approval_id, content_hash, answer=answer, actor=actor, new_run=new_run
            )
        )

    async def reject(self, approval_id: str, *, answer: str | None, actor: str) -> None:
        """Refuse it: the schedule is kept, paused, and says so; a run stays blocked, and may be resumed all
        the same. Raises as `approve`."""
        await self._database.write(
            lambda tx: self._refuse(
                tx,
                approval_id,
                ApprovalStatus.REJECTED,
                answer=answer,
                actor=actor,
                why=f"Rejected: {answer}" if answer else "Rejected.",
            )
        )

    async def lapse(self, now: datetime) -> int:
        """Close the questions whose time is over; their schedules are paused. Returns how many there were."""
        due = await self._database.read(lambda c: approvals.lapsed(c, now, limit=_CHUNK))
        for approval_id in due:
            await self._database.write(partial(self._lapse, approval_id=approval_id))
        return len(due)

    async def now(self) -> datetime:
        """The time that expiry is measured by."""
        return await self._database.write(lambda tx: tx.now())

    def _approve(
        self,
        tx: Transaction,
        approval_id: str,
        content_hash: str,
        *,
        answer: str | None,
        actor: str,
        new_run: str,
    ) -> str | None:
        asked = approvals.open_question(tx, approval_id)
        if asked.run_id is not None:
            _require_same(asked, content_hash)
            if not starts.resume(tx, asked.run_id, _required(answer), new_run=new_run, actor=actor):
                raise approvals.refusal_of(approvals.get(tx, asked.id) or asked)
            return new_run
        schedule = schedules.get_locked(tx, _schedule_of(asked))
        _require_same(asked, content_hash, hash_of(schedule))
        if asked.expires_at is not None and asked.expires_at <= tx.now():
            raise DorkError(
                ErrorCode.APPROVAL_DECIDED,
                "The time to answer is over.",
                hint="Resume the schedule to let it run, or have it proposed again.",
                details={"approvalId": approval_id, "status": ApprovalStatus.EXPIRED.value},
            )
        approvals.close_one(tx, asked, ApprovalStatus.APPROVED, answer=answer, by=actor)
        approvals.grant(tx, self._set_status(tx, schedule.id, ScheduleStatus.ACTIVE, actor=actor))
        return None

    def _refuse(
        self,
        tx: Transaction,
        approval_id: str,
        status: ApprovalStatus,
        *,
        answer: str | None,
        actor: str,
        why: str,
    ) -> None:
        asked = approvals.open_question(tx, approval_id)
        if asked.run_id is not None:
            if not questions.close_of_run(tx, asked.run_id, status, answer=answer, by=actor):
                raise approvals.refusal_of(approvals.get(tx, asked.id) or asked)
            return
        schedule = schedules.get_locked(tx, _schedule_of(asked))
        approvals.close_one(tx, asked, status, answer=answer, by=actor)
        approvals.explain(tx, self._set_status(tx, schedule.id, ScheduleStatus.PAUSED, actor=actor), why)

    def _lapse(self, tx: Transaction, *, approval_id: str) -> None:
        found = approvals.get(tx, approval_id)
        if found is None or found.status is not ApprovalStatus.PENDING:
            return  # Answered since it was read.
        self._refuse(
            tx, approval_id, ApprovalStatus.EXPIRED, answer=None, actor=approvals.PULSE, why=_UNANSWERED
        )

    def _set_status(
        self, tx: Transaction, schedule_id: str, status: ScheduleStatus, *, actor: str
    ) -> Schedule:
        return schedules.update(
            tx, schedule_id, {"status": status}, zones=self._zones, check=self._check, actor=actor
        )


def _require_same(asked: Approval, *hashes: str) -> None:
    if any(each != asked.content_hash for each in hashes):
        raise approvals.superseded({"approvalId": asked.id, "contentHash": asked.content_hash})


def _required(answer: str | None) -> str:
    if answer is None or not answer.strip():
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "The run asked something: it goes on with an answer, and none was given.",
            hint="Give the answer as `answer`. Reject the question to leave the run as it is.",
            details={"formErrors": [], "fieldErrors": {"answer": ["Required for a question of a run"]}},
        )
    return answer


def _schedule_of(asked: Approval) -> str:
    # What is not of a run is of a schedule.
    assert asked.schedule_id is not None
    return asked.schedule_id


class ApprovalExpiry(Loop):
    """Closes the questions that nobody answered, by the clock of the database. Every server does this."""

    def __init__(self, store: ApprovalStore) -> None:
        """See `Loop` for its life."""
        super().__init__("pulse.approvals", interval_s=_INTERVAL_S)
        self._store = store

    async def work(self) -> float | None:
        """Close what is over."""
        now = await self._store.now()
        while not self.stopping and await self._store.lapse(now) == _CHUNK:
            pass
        return None
