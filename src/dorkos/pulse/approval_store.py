"""`ApprovalStore`: what a person was asked about schedules, and what came of it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.lifecycle import Loop
from dorkos.pulse import approvals, schedules
from dorkos.pulse.approvals import Approval
from dorkos.pulse.grants import hash_of
from dorkos.pulse.model import Schedule
from dorkos.pulse.schedules import Check
from dorkos.pulse.zones import Zones
from dorkos.vocabulary import ApprovalStatus, ScheduleStatus

_UNANSWERED = "Nobody answered its approval in time. Resume it to let it run, or have it proposed again."
_CHUNK = 100
_INTERVAL_S = 30.0


class ApprovalStore:
    """Questions and their answers. An answer and what it does to the schedule are one commit."""

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

    async def list(self, *, status: ApprovalStatus | None, limit: int, offset: int) -> list[Approval]:
        """Those that wait, the oldest first; or of another state or all, the newest first."""
        return await self._database.read(
            lambda c: approvals.listed(c, status=status, limit=limit, offset=offset)
        )

    async def approve(self, approval_id: str, *, content_hash: str, answer: str | None, actor: str) -> None:
        """Let the schedule run, exactly as it was shown.

        Raises `approval_superseded` if `content_hash` is not that of what is asked now, `approval_decided`
        if it was answered or has expired, and what keeps the schedule from running, such as a target that
        is gone; it waits on then.
        """
        await self._database.write(
            lambda tx: self._approve(tx, approval_id, content_hash, answer=answer, actor=actor)
        )

    async def reject(self, approval_id: str, *, answer: str | None, actor: str) -> None:
        """Refuse it: the schedule is kept, paused, and says so. Raises as `approve`."""
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
        self, tx: Transaction, approval_id: str, content_hash: str, *, answer: str | None, actor: str
    ) -> None:
        asked = approvals.open_question(tx, approval_id)
        schedule = schedules.get_locked(tx, asked.schedule_id)
        if content_hash != asked.content_hash or hash_of(schedule) != asked.content_hash:
            raise approvals.superseded({"approvalId": approval_id, "contentHash": asked.content_hash})
        if asked.expires_at is not None and asked.expires_at <= tx.now():
            raise DorkError(
                ErrorCode.APPROVAL_DECIDED,
                "The time to answer is over.",
                hint="Resume the schedule to let it run, or have it proposed again.",
                details={"approvalId": approval_id, "status": ApprovalStatus.EXPIRED.value},
            )
        approvals.close_one(tx, asked, ApprovalStatus.APPROVED, answer=answer, by=actor)
        approvals.grant(tx, self._set_status(tx, schedule.id, ScheduleStatus.ACTIVE, actor=actor))

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
        schedule = schedules.get_locked(tx, asked.schedule_id)
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
