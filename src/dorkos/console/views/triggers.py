"""The guided builder of triggers: from the fields of a form to the words of the API, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dorkos.errors import DorkError, ErrorCode

KINDS = (
    ("every", "Every so often"),
    ("daily", "Daily"),
    ("weekly", "On weekdays"),
    ("monthly", "Monthly"),
    ("cron", "Cron expression"),
    ("once", "Once"),
    ("manual", "Only on demand"),
)
DAYS = (("1", "Mon"), ("2", "Tue"), ("3", "Wed"), ("4", "Thu"), ("5", "Fri"), ("6", "Sat"), ("0", "Sun"))

_EVERY = re.compile(r"@every (\d+)(m|h|d)")
_AT_TIME = re.compile(r"(\d{1,2}) (\d{1,2}) (\S+) \* (\S+)")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
# No more digits than 64 bits have: Python refuses to read thousands.
_DURATION = re.compile(r"([0-9]{1,15})\s*(ms|s|m|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Trigger:
    """What the builder's fields hold."""

    kind: str = "daily"
    number: str = "15"
    unit: str = "m"
    time: str = "09:00"
    days: frozenset[str] = frozenset({"1", "2", "3", "4", "5"})
    day: str = "1"
    cron: str = ""
    at: str = ""


def words_of(form: Mapping[str, str]) -> str:
    """The trigger that a form describes, as the API takes it. Raises `validation_failed` by field."""
    kind = form.get("kind", "")
    if kind == "manual":
        return "@manual"
    if kind == "once":
        return f"@at {form.get('at', '')}"
    if kind == "cron":
        return form.get("cron", "")
    if kind == "every":
        return f"@every {form.get('number', '')}{form.get('unit', 'm')}"
    found = _TIME.fullmatch(form.get("time", "").strip())
    if found is None:
        raise wrong("time", "Write a time as 09:00.")
    hour, minute = int(found[1]), int(found[2])
    if kind == "weekly":
        days = [day for day, _ in DAYS if form.get(f"day-{day}")]
        if not days:
            raise wrong("days", "Choose at least one day.")
        return f"{minute} {hour} * * {','.join(days)}"
    if kind == "monthly":
        return f"{minute} {hour} {form.get('day', '')} * *"
    if kind == "daily":
        return f"{minute} {hour} * * *"
    raise wrong("kind", "Choose when it runs.")


def fields_of(words: str) -> Trigger:
    """The builder's fields for a trigger; what they cannot say is an expression."""
    if words == "@manual":
        return Trigger(kind="manual")
    if words.startswith("@at "):
        return Trigger(kind="once", at=words[4:])
    every = _EVERY.fullmatch(words)
    if every is not None:
        return Trigger(kind="every", number=every[1], unit=every[2])
    found = _AT_TIME.fullmatch(words)
    if found is not None:
        time = f"{int(found[2]):02}:{found[1]:0>2}"
        day, days = found[3], found[4]
        if _TIME.fullmatch(time) and (day, days) == ("*", "*"):
            return Trigger(kind="daily", time=time)
        if _TIME.fullmatch(time) and day == "*" and set(days.split(",")) <= {key for key, _ in DAYS}:
            return Trigger(kind="weekly", time=time, days=frozenset(days.split(",")))
        if _TIME.fullmatch(time) and day.isdigit() and days == "*":
            return Trigger(kind="monthly", time=time, day=day)
    return Trigger(kind="cron", cron=words)


def given(form: Mapping[str, str]) -> Trigger:
    """The fields as somebody filled them in, to be shown again."""
    return Trigger(
        kind=form.get("kind", "daily"),
        number=form.get("number", ""),
        unit=form.get("unit", "m"),
        time=form.get("time", ""),
        days=frozenset(day for day, _ in DAYS if form.get(f"day-{day}")),
        day=form.get("day", ""),
        cron=form.get("cron", ""),
        at=form.get("at", ""),
    )


def milliseconds(form: Mapping[str, str], field: str) -> int | None:
    """`90s`, `10m` or `1h30m` of a field; None for an empty one. Raises `validation_failed`."""
    text = form.get(field, "").strip().lower()
    if not text:
        return None
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise wrong(field, "Write a number with its unit, such as 30s, 10m or 1h30m.")
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in parts)


def short(milliseconds: int | None) -> str:
    """A duration as the fields take it."""
    if milliseconds is None:
        return ""
    for unit in ("d", "h", "m", "s") if milliseconds else ("s",):
        if milliseconds % _MILLISECONDS[unit] == 0:
            return f"{milliseconds // _MILLISECONDS[unit]}{unit}"
    return f"{milliseconds}ms"


def whole(form: Mapping[str, str], field: str) -> int | None:
    """A whole number of a field; None for an empty one. Raises `validation_failed`."""
    text = form.get(field, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise wrong(field, "Write a whole number.")
    return int(text)


def wrong(field: str, said: str) -> DorkError:
    """The refusal of one field, in the shape that operations use."""
    details: dict[str, Any] = {"formErrors": [], "fieldErrors": {field: [said]}}
    return DorkError(ErrorCode.VALIDATION_FAILED, "Something is not filled in right.", details=details)
