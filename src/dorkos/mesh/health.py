"""How an agent is doing: a pure judgement of what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dorkos.clock import iso
from dorkos.mesh.model import Work
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.vocabulary import AgentStatus, HealthState

# Clocks of servers and databases differ a little. A sign from farther ahead is no sign: the clock that
# wrote it was wrong, and taking it for new would keep a dead agent alive until that day.
_SKEW = timedelta(minutes=1)


class HealthReason(StrEnum):
    """Why a health state is what it is."""

    DENIED = "denied"
    FOLDER_GONE = "folder_gone"
    WORK_WAITS = "work_waits"
    AT_WORK = "at_work"
    SEEN = "seen"
    NEVER_SEEN = "never_seen"
    CLOCK = "clock"
    NEXT_TURN = "next_turn"
    OVERDUE = "overdue"
    HOST_AWAY = "host_away"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which age on. An age that equals a threshold is past it."""

    inactive_after: timedelta
    stale_after: timedelta
    stuck_after: timedelta

    @classmethod
    def of(cls, settings: MeshSettings) -> Thresholds:
        """As the settings say."""
        return cls(
            timedelta(minutes=settings.inactive_minutes),
            timedelta(minutes=settings.stale_minutes),
            timedelta(minutes=settings.stuck_minutes),
        )


@dataclass(frozen=True, slots=True)
class Because:
    """One reason, with a sentence for a person."""

    reason: HealthReason
    detail: str


# Without its name, which is for those who may see where agents lie.
_AWAY = Because(HealthReason.HOST_AWAY, "No server is at work on the machine on which it lies.")


@dataclass(frozen=True, slots=True)
class Health:
    """A state with all its reasons, the deciding one first."""

    state: HealthState
    reasons: tuple[Because, ...]


def health(
    *,
    now: datetime,
    status: AgentStatus,
    last_seen_at: datetime | None,
    unreachable_since: datetime | None,
    work: Work,
    thresholds: Thresholds,
    host_away: bool = False,
) -> Health:
    """Judge an agent. `host_away` says that no server is at work on the machine on which it lies: that is
    told besides and decides nothing, since what becomes of its work does.

    | what is known, first line that holds                             | state       |
    |------------------------------------------------------------------|-------------|
    | its path is denied                                               | inactive    |
    | its folder is away                                               | unreachable |
    | work has waited for it for `stuck_after`, and it took nothing    | stuck       |
    | a run of it is at work, or it was seen within `inactive_after`   | active      |
    | a turn of its schedule is `inactive_after` overdue               | stale       |
    | seen within `stale_after`, or its next turn is still ahead       | inactive    |
    | none of that, or never seen                                      | stale       |

    So an agent that works once a week is inactive between its turns, not stale. A last sign from the
    future, beyond what clocks differ by, counts as none.
    """
    because: list[Because] = [_AWAY] if host_away else []

    def verdict(state: HealthState, reason: HealthReason, detail: str) -> Health:
        return Health(state, (Because(reason, detail), *because))

    if status is AgentStatus.INACTIVE:
        return verdict(HealthState.INACTIVE, HealthReason.DENIED, "Its path is denied: it is not run.")
    if status in (AgentStatus.UNREACHABLE, AgentStatus.ARCHIVED):
        since = "" if unreachable_since is None else f" since {iso(unreachable_since)}"
        return verdict(
            HealthState.UNREACHABLE, HealthReason.FOLDER_GONE, f"Its folder cannot be found{since}."
        )
    is_busy = work.running_since is not None and now - work.running_since < thresholds.stuck_after
    waits = work.waiting_since is not None and now - work.waiting_since >= thresholds.stuck_after
    if work.waiting_since is not None and waits and not is_busy:
        if work.running_since is not None:
            because.append(_at_work(work.running_since))
        return verdict(
            HealthState.STUCK,
            HealthReason.WORK_WAITS,
            f"Work has waited for it since {iso(work.waiting_since)}, and nobody took it.",
        )
    if work.running_since is not None:
        if last_seen_at is not None:
            because.append(Because(*_seen(last_seen_at, _age(last_seen_at, now))))
        return Health(HealthState.ACTIVE, (_at_work(work.running_since), *because))

    age = _age(last_seen_at, now)
    seen = _seen(last_seen_at, age)
    if age is not None and age < thresholds.inactive_after:
        return verdict(HealthState.ACTIVE, *seen)
    due = work.next_due_at
    if due is not None and now - due >= thresholds.inactive_after:
        because.append(Because(*seen))
        return verdict(HealthState.STALE, HealthReason.OVERDUE, f"Its turn of {iso(due)} has not been taken.")
    if age is not None and age < thresholds.stale_after:
        return verdict(HealthState.INACTIVE, *seen)
    if due is not None:
        because.append(Because(*seen))
        return verdict(
            HealthState.INACTIVE, HealthReason.NEXT_TURN, f"Its next turn is {iso(due)}; nothing was missed."
        )
    return verdict(HealthState.STALE, *seen)


def _at_work(since: datetime) -> Because:
    return Because(HealthReason.AT_WORK, f"A run of it is at work since {iso(since)}.")


def _age(last_seen_at: datetime | None, now: datetime) -> timedelta | None:
    """How long ago the last sign was; None if there is none that can be believed."""
    if last_seen_at is None or last_seen_at.tzinfo is None or last_seen_at - now > _SKEW:
        return None
    return max(now - last_seen_at, timedelta())


def _seen(last_seen_at: datetime | None, age: timedelta | None) -> tuple[HealthReason, str]:
    if last_seen_at is None:
        return HealthReason.NEVER_SEEN, "Nothing was ever seen of it."
    if age is None:
        return (
            HealthReason.CLOCK,
            f"Its last sign is dated {last_seen_at.isoformat()}, which cannot be: it does not count.",
        )
    return HealthReason.SEEN, f"It was last seen at {iso(last_seen_at)}."
