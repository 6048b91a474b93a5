"""Operations on approvals: what agents propose and what blocked runs ask, and a person's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, NoTool, Operation, Wire
from dorkos.pulse.approvals import Approval
from dorkos.pulse.service import PulseService
from dorkos.pulse.wire import Identifier, ScheduleId, Text, Triggered
from dorkos.storable import check_storable
from dorkos.vocabulary import ApprovalKind, ApprovalStatus, RunTrigger, Scope


class ApprovalsQuery(Wire):
    """Which questions; null for those of every state, of both kinds, of any run."""

    status: ApprovalStatus | None = None
    kind: ApprovalKind | None = None
    run_id: Identifier | None = None
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0, le=2**53)


class ApprovalId(Wire):
    """Names a question."""

    id: Identifier


class Approving(ApprovalId):
    """An approval, bound to what was shown."""

    content_hash: Text = Field(description="The `contentHash` of what you read; anything else is refused.")
    answer: Text | None = Field(
        None, description="A word to go with it; to the question of a run, the answer, and required."
    )


class Rejecting(ApprovalId):
    """A rejection."""

    answer: Text | None = Field(None, description="Why not; the schedule shows it.")


class ApprovalOut(Wire):
    """A question to a person; `contentHash` stands for its `content`.

    Of the kind `schedule`: whether it may run, and the content is exactly what would run, when, where and
    with which rights. Of the kind `question`: what the blocked run `runId` wants to know; the content holds
    `question`, `options` and the run's `prompt`.
    """

    id: str
    kind: ApprovalKind
    schedule_id: str | None
    run_id: str | None
    status: ApprovalStatus
    proposed_by: str | None
    reason: str | None
    content: dict[str, Any]
    content_hash: str
    answer: str | None
    created_at: str
    expires_at: str | None
    decided_at: str | None
    decided_by: str | None


class ApprovalDetail(ApprovalOut):
    """A question; about a schedule, with the next five instants at which it would fire, approved now."""

    next_runs: list[str]
    resolved_timezone: str | None


class Approved(ApprovalDetail):
    """What was answered; `resumedBy` is the run that goes on with the answer to the question of another."""

    resumed_by: str | None


class ApprovalList(Wire):
    """Questions."""

    approvals: list[ApprovalOut]
    count: int


async def list_approvals(pulse: PulseService, _caller: Caller, asked: ApprovalsQuery) -> list[ApprovalOut]:
    """Those that wait, the oldest first; of another state or of all, the newest first."""
    found = await pulse.store.approvals.list(
        status=asked.status, kind=asked.kind, run_id=asked.run_id, limit=asked.limit, offset=asked.offset
    )
    return [_out(approval) for approval in found]


async def get_approval(pulse: PulseService, _caller: Caller, asked: ApprovalId) -> ApprovalDetail:
    """Everything that a person has to judge."""
    return await _detail(pulse, asked.id)


async def approve(pulse: PulseService, caller: Caller, asked: Approving) -> Approved:
    """Let a schedule run, as it was shown; or answer a run, which goes on with that."""
    caller.require(Scope.OPERATE)
    _check(asked.answer)
    resumed_by = await pulse.store.approvals.approve(
        asked.id, content_hash=asked.content_hash, answer=asked.answer, actor=caller.subject
    )
    detail = await _detail(pulse, asked.id)
    return Approved(**detail.model_dump(), resumed_by=resumed_by)


async def reject(pulse: PulseService, caller: Caller, asked: Rejecting) -> ApprovalDetail:
    """Refuse a schedule: it is kept, paused. Or leave a run without an answer: it stays as it ended."""
    caller.require(Scope.OPERATE)
    _check(asked.answer)
    await pulse.store.approvals.reject(asked.id, answer=asked.answer, actor=caller.subject)
    return await _detail(pulse, asked.id)


async def test_schedule(pulse: PulseService, caller: Caller, asked: ScheduleId) -> Triggered:
    """Run a schedule once, as it is now, also while it waits for approval. It grants nothing."""
    caller.require(Scope.OPERATE)
    run_id = await pulse.store.trigger_run(asked.id, actor=caller.subject, trigger=RunTrigger.TEST)
    return Triggered(run_id=run_id)


def _check(answer: str | None) -> None:
    check_storable([answer or ""])


async def _detail(pulse: PulseService, approval_id: str) -> ApprovalDetail:
    approval = await pulse.store.approvals.get(approval_id)
    if approval.kind is ApprovalKind.QUESTION:
        return ApprovalDetail(**_out(approval).model_dump(), next_runs=[], resolved_timezone=None)
    zone, coming = await asyncio.to_thread(pulse.preview_content, approval.content)
    return ApprovalDetail(
        **_out(approval).model_dump(), next_runs=[iso(one) for one in coming], resolved_timezone=zone
    )


def _out(approval: Approval) -> ApprovalOut:
    return ApprovalOut(
        id=approval.id,
        kind=approval.kind,
        schedule_id=approval.schedule_id,
        run_id=approval.run_id,
        status=approval.status,
        proposed_by=approval.proposed_by,
        reason=approval.reason,
        content=dict(approval.content),
        content_hash=approval.content_hash,
        answer=approval.answer,
        created_at=iso(approval.created_at),
        expires_at=_iso(approval.expires_at),
        decided_at=_iso(approval.decided_at),
        decided_by=approval.decided_by,
    )


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _listed(_given: ApprovalsQuery, found: Sequence[ApprovalOut]) -> ApprovalList:
    return ApprovalList(approvals=list(found), count=len(found))


_APPROVALS = "/api/approvals"

APPROVALS: tuple[Operation[PulseService, Any, Any], ...] = (
    Operation(
        "pulse.approvals.list",
        "List what waits for a person, and what was answered",
        "pulse",
        "GET",
        _APPROVALS,
        Scope.OBSERVE,
        ApprovalsQuery,
        list[ApprovalOut],
        list_approvals,
        mcp=McpTool(
            "list_approvals",
            "List what waits for a person: schedules to approve, questions of runs; and what was answered.",
            read_only=True,
            answer=ApprovalList,
            present=_listed,
        ),
    ),
    Operation(
        "pulse.approvals.get",
        "Show exactly what is to be approved",
        "pulse",
        "GET",
        f"{_APPROVALS}/{{id}}",
        Scope.OBSERVE,
        ApprovalId,
        ApprovalDetail,
        get_approval,
        mcp=McpTool("get_approval", "Show exactly what a person is asked to approve.", read_only=True),
    ),
    Operation(
        "pulse.approvals.approve",
        "Let a schedule run, as it was shown; or answer a blocked run",
        "pulse",
        "POST",
        f"{_APPROVALS}/{{id}}/approve",
        Scope.OPERATE,
        Approving,
        Approved,
        approve,
        mcp=NoTool("A person answers, never a model."),
    ),
    Operation(
        "pulse.approvals.reject",
        "Refuse a schedule, which is kept, paused; or leave a run blocked",
        "pulse",
        "POST",
        f"{_APPROVALS}/{{id}}/reject",
        Scope.OPERATE,
        Rejecting,
        ApprovalDetail,
        reject,
        mcp=NoTool("A person answers, never a model."),
    ),
    Operation(
        "pulse.schedules.test",
        "Try a schedule out, also while it waits for approval",
        "pulse",
        "POST",
        "/api/pulse/schedules/{id}/test",
        Scope.OPERATE,
        ScheduleId,
        Triggered,
        test_schedule,
        status=201,
        live=True,
        mcp=NoTool("A person tries out what waits for approval; trigger_schedule runs what is approved."),
    ),
)
