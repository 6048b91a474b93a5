"""A chain of messages and runs, drawn as bars under one another: when each began and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dorkos.console.words import duration

# A bar that took no time at all can still be seen.
_LEAST_PERCENT = 0.6


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the waterfall. `x` and `width` are percent of the whole."""

    span: Mapping[str, Any]
    title: str
    address: str
    indent: int
    x: str
    width: str
    tone: str
    took: str


def waterfall(
    spans: Sequence[Mapping[str, Any]], now_ms: int, names: Mapping[str, str] | None = None
) -> list[Bar]:
    """The bars. `now_ms` is how long ago the first began: what is under way reaches to now. `names` are those
    of schedules and agents by id."""
    ends = [span["offsetMs"] + _took(span, now_ms) for span in spans]
    whole = max([*ends, 1])
    return [_bar(span, whole, now_ms, names or {}) for span in spans]


def _bar(span: Mapping[str, Any], whole: int, now_ms: int, names: Mapping[str, str]) -> Bar:
    took = _took(span, now_ms)
    is_run = span["kind"] == "run"
    x = min(span["offsetMs"] / whole * 100, 100 - _LEAST_PERCENT)
    width = max(took / whole * 100, _LEAST_PERCENT)
    return Bar(
        span=span,
        title=_run(span, names) if is_run else str(span.get("endpoint") or span.get("subject") or ""),
        address=f"/pulse/runs/{span['runId']}" if is_run else f"/relay/messages/{span['messageId']}",
        indent=min(span["depth"], 8),
        x=f"{x:.2f}%",
        width=f"{min(width, 100 - x):.2f}%",
        tone=_tone(span["status"]),
        took=duration(took) if span.get("durationMs") is not None else f"{duration(took)} so far",
    )


def _run(span: Mapping[str, Any], names: Mapping[str, str]) -> str:
    name = names.get(span.get("scheduleId") or "") or names.get(span.get("agentId") or "")
    return f"run of {name}" if name else "a run"


def _took(span: Mapping[str, Any], now_ms: int) -> int:
    took = span.get("durationMs")
    return max(now_ms - span["offsetMs"], 0) if took is None else int(took)


def _tone(status: str) -> str:
    if status in ("failed", "timeout", "interrupted"):
        return "bad"
    return {"delivered": "good", "completed": "good", "blocked": "warn", "cancelled": "calm"}.get(
        status, "wait"
    )
