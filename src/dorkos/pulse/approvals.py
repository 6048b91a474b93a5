"""Questions to a person, those about schedules above all. Functions run inside the caller's transaction.

What blocked runs ask stands in the same table and is read here too; what becomes of that is in `questions`.

A schedule that waits for approval has at most one open question, bound by a hash to exactly what was asked.
Whatever changes a schedule calls `follow` in the same commit, so the two cannot disagree. The row of the
schedule is locked before its questions are touched: that is what orders an answer and an edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import approvals, pulse_schedules
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity import tokens
from dorkos.pulse import questions
from dorkos.pulse.grants import content_of, hash_of
from dorkos.pulse.model import Schedule
from dorkos.vocabulary import ApprovalKind, ApprovalStatus, ScheduleStatus

PULSE = "relay.system.pulse"
UNGRANTED = "pulse.schedule.ungranted"


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes a schedule, with what a question about it needs, made outside the change.

    What an agent writes (`is_agent`) has to be approved; a person's own writing is its approval.
    """

    subject: str
    is_agent: bool
    approval_id: str
    answer_within: timedelta
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person: whether a schedule may run, or what a blocked run wants to know.

    `content` is what was shown, `content_hash` binds the answer.
    """

    id: str
    kind: ApprovalKind
    schedule_id: str | None
    run_id: str | None
    proposed_by: str | None
    reason: str | None
    content: Mapping[str, Any]
    content_hash: str
    status: ApprovalStatus
    answer: str | None
    created_at: datetime
    expires_at: datetime | None
    decided_at: datetime | None
    decided_by: str | None


_COLUMNS = tuple(approvals.c[name] for name in Approval.__dataclass_fields__)
_OF_SCHEDULES = approvals.c.kind == ApprovalKind.SCHEDULE
# Written out, not bound: SQLite uses a partial index only where it can read the condition.
_PENDING = approvals.c.status == sa.literal(
    ApprovalStatus.PENDING, approvals.c.status.type, literal_execute=True
)


def refuse_proposal(schedule: Schedule, author: Author, changes: Mapping[str, Any]) -> None:
    """Raise `forbidden` for an edit by an agent of what is not its own, or of the approval itself."""
    if schedule.created_by != author.subject:
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"{author.subject} may not change this schedule: it belongs to {schedule.created_by}.",
            hint="An agent may change what it proposed itself. Propose another, or ask the operator.",
        )
    if "status" in changes:
        raise DorkError(
            ErrorCode.FORBIDDEN,
            "An agent may not set the `status` of a schedule: a person decides whether it runs.",
            hint="Leave `status` out. What else you change waits for approval.",
        )


def require_reason(reason: str | None) -> None:
    """Raise `reason_required` for a proposal that nobody could judge."""
    if not (reason or "").strip():
        raise DorkError(
            ErrorCode.REASON_REQUIRED,
            "An agent has to say why it wants this schedule.",
            hint="`reason`: say what the schedule is for; a person reads it before approving.",
            details={"formErrors": [], "fieldErrors": {"reason": ["Required from agents"]}},
        )


def require_room(tx: Transaction, author: Author, *, most: int) -> None:
    """Raise `too_many_proposals` if so many schedules of this author wait already: nobody reads them all.

    Changes of one server are made one after the other; of two servers each may let one through too many.
    """
    waiting = sa.select(approvals.c.id).where(
        _PENDING, _OF_SCHEDULES, approvals.c.proposed_by == author.subject
    )
    if len(tx.execute(waiting.limit(most)).all()) < most:
        return
    raise DorkError(
        ErrorCode.TOO_MANY_PROPOSALS,
        f"{most} schedules of {author.subject} wait for approval already.",
        hint="Wait until a person has decided, or change one of those that wait. `scheduler.maxProposals` "
        "says how many may wait.",
        details={"limit": most},
    )


def require_live(tx: Transaction, author: Author) -> None:
    """Raise `token_invalid` for a run that has ended since its request was authenticated."""
    if author.run_id is not None:
        tokens.require_live_run(tx, author.run_id)


def follow(tx: Transaction, schedule: Schedule, author: Author) -> Schedule:
    """Make the questions agree with a schedule that was just written.

    One that waits gets a question about exactly what is stored now; an older one is superseded. One that a
    person set active is granted as it is stored now. Returns the schedule with its grant.
    """
    digest = hash_of(schedule)
    if schedule.status is not ScheduleStatus.PENDING_APPROVAL:
        if schedule.status is not ScheduleStatus.ACTIVE:
            _close(tx, schedule.id, ApprovalStatus.SUPERSEDED, by=author.subject)
            return schedule
        _close(tx, schedule.id, ApprovalStatus.APPROVED, by=author.subject)
        return _granted(tx, schedule, digest)
    is_open = sa.and_(approvals.c.schedule_id == schedule.id, _OF_SCHEDULES, _PENDING)
    asked = tx.execute(sa.select(approvals.c.content_hash).where(is_open)).scalars().all()
    if asked == [digest] and not author.is_agent:
        return schedule
    _close(tx, schedule.id, ApprovalStatus.SUPERSEDED, by=author.subject)
    _ask(tx, schedule, author, digest)
    return _granted(tx, replace(schedule, status_reason=None), None)


def ask_again(tx: Transaction, schedule: Schedule, *, approval_id: str, answer_within: timedelta) -> None:
    """Let an active schedule that is not what was granted wait for approval, as it is now.

    Nothing happens if it was edited or deleted since it was read.
    """
    found = pulse_schedules.c
    why = "It is not what was approved, and no edit here made it so. Read it, then approve it again."
    waits = (
        pulse_schedules.update()
        .where(found.id == schedule.id, found.revision == schedule.revision, found.deleted_at.is_(None))
        .values(
            status=ScheduleStatus.PENDING_APPROVAL,
            status_reason=why,
            grant_hash=None,
            revision=found.revision + 1,
            updated_at=tx.now(),
        )
    )
    if tx.execute(waits).rowcount == 0:
        return
    _close(tx, schedule.id, ApprovalStatus.SUPERSEDED, by=PULSE)
    _ask(tx, schedule, Author(PULSE, False, approval_id, answer_within), hash_of(schedule))
    tx.emit(UNGRANTED, schedule.id, {"name": schedule.name, "reason": why})


def withdraw(tx: Transaction, schedule_id: str, *, actor: str) -> None:
    """Close the question about a schedule that is deleted, and what its runs asked."""
    _close(tx, schedule_id, ApprovalStatus.SUPERSEDED, by=actor)
    questions.close_of_schedule(tx, schedule_id, by=actor)


def open_question(tx: Transaction, approval_id: str) -> Approval:
    """A question that can still be answered. Raises why it cannot: see `refusal_of`."""
    found = get(tx, approval_id)
    if found is None:
        raise not_found(approval_id)
    if found.status is not ApprovalStatus.PENDING:
        raise refusal_of(found)
    return found


def close_one(
    tx: Transaction, approval: Approval, status: ApprovalStatus, *, answer: str | None, by: str
) -> None:
    """Answer a question. Raises `approval_decided` or `approval_superseded` if somebody was faster."""
    this = approvals.c.id == approval.id
    if not _set_closed(tx, this, status, answer=answer, by=by):
        raise refusal_of(get(tx, approval.id) or approval)


def grant(tx: Transaction, schedule: Schedule) -> Schedule:
    """Bind the grant to the schedule as it is stored."""
    return _granted(tx, schedule, hash_of(schedule))


def explain(tx: Transaction, schedule: Schedule, why: str) -> Schedule:
    """Store why it does not run."""
    _set(tx, schedule.id, status_reason=why)
    return replace(schedule, status_reason=why)


def get(connection: sa.Connection | Transaction, approval_id: str) -> Approval | None:
    """One question, or None."""
    statement = sa.select(*_COLUMNS).where(approvals.c.id == approval_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else Approval(*row)


def listed(
    connection: sa.Connection,
    *,
    status: ApprovalStatus | None,
    limit: int,
    offset: int,
    kind: ApprovalKind | None = None,
    run_id: str | None = None,
) -> list[Approval]:
    """Questions, the longest waiting first; of all states, the newest first."""
    statement = sa.select(*_COLUMNS).limit(limit).offset(offset)
    if kind is not None:
        statement = statement.where(approvals.c.kind == kind)
    if run_id is not None:
        statement = statement.where(approvals.c.run_id == run_id)
    if status is ApprovalStatus.PENDING:
        statement = statement.where(_PENDING).order_by(approvals.c.created_at, approvals.c.id)
    else:
        statement = statement.order_by(approvals.c.created_at.desc(), approvals.c.id.desc())
        if status is not None:
            statement = statement.where(approvals.c.status == status)
    return [Approval(*row) for row in connection.execute(statement)]


def lapsed(connection: sa.Connection, now: datetime, *, limit: int) -> Sequence[str]:
    """Open questions whose time is over."""
    statement = (
        sa.select(approvals.c.id)
        .where(_PENDING, _OF_SCHEDULES, approvals.c.expires_at <= now)
        .order_by(approvals.c.created_at, approvals.c.id)
        .limit(limit)
    )
    return connection.execute(statement).scalars().all()


def not_found(approval_id: str) -> DorkError:
    """The refusal for an id that names no question."""
    return DorkError(
        ErrorCode.APPROVAL_NOT_FOUND,
        "Approval not found",
        hint="List the approvals to see which there are.",
        details={"approvalId": approval_id},
    )


def refusal_of(approval: Approval) -> DorkError:
    """Why a question can no longer be answered."""
    details = {"approvalId": approval.id, "status": approval.status.value}
    if approval.status is ApprovalStatus.SUPERSEDED:
        return superseded(details)
    return DorkError(
        ErrorCode.APPROVAL_DECIDED,
        f"This is decided already: {approval.status.value}.",
        hint="Look at the run: whatever came of it, it can be resumed."
        if approval.kind is ApprovalKind.QUESTION
        else "Look at the schedule to see what it does now; its status can be changed at any time.",
        details=details,
    )


def superseded(details: Mapping[str, object]) -> DorkError:
    """The refusal for an answer to something other than what is asked now."""
    return DorkError(
        ErrorCode.APPROVAL_SUPERSEDED,
        "What is asked is not what you were shown any more.",
        hint="Read the question that is open now, and answer that with its `contentHash`.",
        details=details,
    )


def _ask(tx: Transaction, schedule: Schedule, author: Author, digest: str) -> None:
    now = tx.now()
    proposer = author.subject if author.is_agent else schedule.created_by
    tx.execute(
        approvals.insert(),
        {
            "id": author.approval_id,
            "kind": ApprovalKind.SCHEDULE,
            "schedule_id": schedule.id,
            "proposed_by": proposer,
            "reason": schedule.reason,
            "content": content_of(schedule),
            "content_hash": digest,
            "status": ApprovalStatus.PENDING,
            "created_at": now,
            "expires_at": now + author.answer_within,
        },
    )
    facts = {"scheduleId": schedule.id, "name": schedule.name, "reason": schedule.reason}
    tx.emit("pulse.approval.requested", author.approval_id, facts, actor=author.subject)


def _close(tx: Transaction, schedule_id: str, status: ApprovalStatus, *, by: str) -> None:
    _set_closed(tx, approvals.c.schedule_id == schedule_id, status, answer=None, by=by)


def _set_closed(
    tx: Transaction, where: sa.ColumnElement[bool], status: ApprovalStatus, *, answer: str | None, by: str
) -> bool:
    closed = tx.execute(
        approvals.update()
        .where(where, _OF_SCHEDULES, _PENDING)
        .values(status=status, answer=answer, decided_at=tx.now(), decided_by=by)
        .returning(approvals.c.id, approvals.c.schedule_id)
    ).all()
    for row in closed:
        tx.emit(
            f"pulse.approval.{status.value}",
            row.id,
            {"scheduleId": row.schedule_id, "answer": answer},
            actor=by,
        )
    return bool(closed)


def _granted(tx: Transaction, schedule: Schedule, digest: str | None) -> Schedule:
    _set(tx, schedule.id, grant_hash=digest, status_reason=schedule.status_reason)
    return replace(schedule, grant_hash=digest)


def _set(tx: Transaction, schedule_id: str, **values: object) -> None:
    tx.execute(pulse_schedules.update().where(pulse_schedules.c.id == schedule_id).values(**values))
