"""A schedule's policies: what its fields mean for the planner, and which of them go together."""

from __future__ import annotations

from datetime import timedelta

from dorkos.errors import DorkError, ErrorCode
from dorkos.pulse.model import Schedule, ScheduleDraft
from dorkos.pulse.planner import CATCH_UP_MAX, Policy
from dorkos.vocabulary import CatchUpPolicy, OverlapPolicy, ScheduleStatus, SlotReason

_HALTED = {
    ScheduleStatus.PAUSED: SlotReason.PAUSED,
    ScheduleStatus.PENDING_APPROVAL: SlotReason.PENDING_APPROVAL,
    ScheduleStatus.NEEDS_ATTENTION: SlotReason.NEEDS_ATTENTION,
}


def policy_of(schedule: Schedule, *, granted: bool = True) -> Policy:
    """What the planner has to know of a schedule besides its trigger; what is not granted is halted."""
    window_ms = schedule.catch_up_window_ms
    return Policy(
        schedule.overlap,
        schedule.catch_up,
        None if window_ms is None else timedelta(milliseconds=window_ms),
        schedule.catch_up_max or CATCH_UP_MAX,
        _HALTED.get(schedule.status) if granted else SlotReason.PENDING_APPROVAL,
    )


def check_policies(draft: ScheduleDraft) -> None:
    """Raise `validation_failed` for a limit that would be shown and never count."""
    if draft.max_active is not None and draft.overlap is not OverlapPolicy.ALLOW:
        raise _refusal(
            "`maxActive` counts only where runs may overlap.",
            "Set `overlap` to `allow`, or `maxActive` to null.",
        )
    if draft.catch_up_max is not None and draft.catch_up is not CatchUpPolicy.ALL:
        raise _refusal(
            "`catchUpMax` counts only where every missed instant is caught up.",
            "Set `catchUp` to `all`, or `catchUpMax` to null.",
        )
    if draft.every_ms is not None and draft.jitter_ms >= draft.every_ms:
        raise _refusal(
            "`jitterMs` is not shorter than the interval, so a run could begin after the next is due.",
            "Make it shorter than `everyMs`.",
        )


def _refusal(message: str, hint: str) -> DorkError:
    return DorkError(ErrorCode.VALIDATION_FAILED, message, hint=hint)
