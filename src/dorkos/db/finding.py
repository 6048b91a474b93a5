"""What `dorkos doctor` says of one thing: how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from dorkos.errors import DorkError


class Level(StrEnum):
    """`fault`: something does not work or data is at risk. `warning`: it works, and may not for long."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `advice` says what to do, and is there whenever the level is not `ok`.

    `facts` are the numbers behind the message, JSON-ready, for programs.
    """

    name: str
    level: Level
    message: str
    advice: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def fine(name: str, message: str, **facts: object) -> Finding:
    """All is well with it."""
    return Finding(name, Level.OK, message, None, facts)


def warning(name: str, message: str, advice: str, **facts: object) -> Finding:
    """It works, and somebody should look at it."""
    return Finding(name, Level.WARNING, message, advice, facts)


def fault(name: str, message: str, advice: str, **facts: object) -> Finding:
    """It does not work, or data is at risk."""
    return Finding(name, Level.FAULT, message, advice, facts)


def refused(name: str, refusal: DorkError) -> Finding:
    """What a start would be refused with."""
    advice = refusal.hint or "See the message."
    return Finding(name, Level.FAULT, refusal.message, advice, {"code": refusal.code.value})


def examined(name: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; whatever it raises becomes a fault, since one broken thing must not hide others."""
    try:
        return look()
    except Exception as broken:  # noqa: BLE001  # As above: the doctor outlives each of its patients.
        return _unexamined(name, broken)


def examined_all(name: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings as far as they come; what ends them early becomes a fault, as with `examined`."""
    try:
        yield from findings
    except Exception as broken:  # noqa: BLE001  # As above.
        yield _unexamined(name, broken)


def _unexamined(name: str, broken: Exception) -> Finding:
    if isinstance(broken, DorkError):
        return refused(name, broken)
    what = str(broken).splitlines()[0] if str(broken) else type(broken).__name__
    return fault(name, f"it could not be examined: {what}", "Mend what the message names, then look again.")


def size(number: int) -> str:
    """Bytes in words: `512 bytes`, `48 kB`, `1.2 MB`, `3.4 GB`."""
    if number < 1000:
        return f"{number} bytes"
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if number < 999.5 * scale:
            return f"{number / scale:.{0 if unit == 'kB' else 1}f} {unit}"
    return f"{number / 1e12:.1f} TB"


def age(passed: timedelta) -> str:
    """How long ago in words, in the largest whole unit: `just now`, `5 minutes ago`, `3 days ago`."""
    seconds = int(passed.total_seconds())
    if seconds < 60:
        return "just now"
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= (2 if unit != "minute" else 1) * length:
            return f"{many(seconds // length, unit)} ago"
    return "just now"


def many(number: int, one: str) -> str:
    """`1 row`, `2 rows`, `12,000 rows`."""
    return f"{number:,} {one}{'' if number == 1 else 's'}"
