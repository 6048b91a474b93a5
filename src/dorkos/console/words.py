"""Values as people read them, and text of strangers made harmless to read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

# Colours and cursor movements of terminals, titles and links: all that a program sends beside its text.
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Controls, and the marks that turn text around so that it reads otherwise than it is.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

# What stands where there is no value.
_NOTHING = "\u2013"

STATE_TONES = {
    **dict.fromkeys(
        ("completed", "delivered", "active", "approved", "running", "closed", "allow", "connected"), "good"
    ),
    **dict.fromkeys(
        (
            "failed",
            "timeout",
            "interrupted",
            "stuck",
            "open",
            "stop",
            "needs_attention",
            "missed",
            "deny",
            "error",
            "auth_failed",
        ),
        "bad",
    ),
    **dict.fromkeys(
        ("blocked", "pending_approval", "unreachable", "hold", "drain", "stale", "skipped", "half_open"),
        "warn",
    ),
    **dict.fromkeys(("queued", "pending", "coalesced", "sent"), "wait"),
}


def visible(text: str) -> str:
    """The text with each hidden character shown by its number, so that nothing reads as it is not."""
    return _HIDDEN.sub(lambda found: f"\u2039{ord(found.group()):04X}\u203a", text)


def shown(value: object) -> object:
    """What a template puts out: marks itself as harmless, or is made so."""
    if value is None:
        return ""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value)
    return value


def plain(text: str | None) -> str:
    """Output of a program without what was meant for a terminal; a line that was overwritten is the last."""
    lines = _TERMINAL.sub("", text or "").replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def tone(state: str | None) -> str:
    """The class of the colour that a state has; most have none."""
    return STATE_TONES.get(state or "", "calm")


def words(name: str | None) -> str:
    """A word of a closed list as a person says it: `pending_approval` is "pending approval"."""
    return (name or "").replace("_", " ")


def duration(milliseconds: float | None) -> str:
    """`120 ms`, `3.4 s`, `2 m 5 s`, `1 h 3 m`, `4 d 2 h`."""
    if milliseconds is None:
        return _NOTHING
    whole = int(milliseconds)
    if whole < 1000:
        return f"{whole} ms"
    if whole < 60_000:
        return f"{whole / 1000:.1f} s"
    seconds = whole // 1000
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60} s"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} m"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600} h"


def count(number: int, one: str, several: str | None = None) -> str:
    """`1 run`, `2 runs`, `12 345 runs`; `several` is the plural if that is not the same with an s."""
    return f"{grouped(number)} {one if number == 1 else several or one + 's'}"


def grouped(number: int) -> str:
    """`12 345`."""
    return f"{number:,}".replace(",", "\u202f")


def share(part: float) -> str:
    """`42 %`; what is not nothing and less than one is shown as such."""
    return "< 1\u202f%" if 0 < part < 0.01 else f"{int(part * 100)}\u202f%"


def byte_size(size: int | None) -> str:
    """`512 bytes`, `48 kB`, `1.2 MB`."""
    if size is None:
        return _NOTHING
    if size < 1000:
        return f"{size} bytes"
    if size < 1_000_000:
        return f"{size / 1000:.0f} kB"
    return f"{size / 1_000_000:.1f} MB" if size < 1_000_000_000 else f"{size / 1_000_000_000:.2f} GB"


def money(dollars: float | None) -> str:
    """`$0.42`; what is less than a cent but not nothing is shown as such."""
    if dollars is None:
        return _NOTHING
    return "< $0.01" if 0 < dollars < 0.01 else f"${dollars:,.2f}"


def pretty(value: Any) -> str:
    """A payload to read: text as it is, anything else as indented JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def line(value: Any, length: int = 160) -> str:
    """A payload or prompt on one line; nothing for what is not there."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(plain(text).split())
    return text if len(text) <= length else text[: length - 1] + "…"


def exact(text: object) -> object:
    """The text as it is, escaped but not made visible: for fields whose content is sent back."""
    from markupsafe import Markup, escape

    return Markup(escape("" if text is None else text))  # noqa: S704  # Escaped in the same line.


def segment(text: str) -> str:
    """The text as one segment of an address."""
    return quote(text, safe="")


def shell(word: str) -> str:
    """A word as a shell takes it."""
    import shlex

    return shlex.quote(word)


FILTERS: dict[str, Callable[..., Any]] = {
    "exact": exact,
    "segment": segment,
    "plain": plain,
    "tone": tone,
    "words": words,
    "duration": duration,
    "bytes": byte_size,
    "money": money,
    "pretty": pretty,
    "line": line,
    "shell": shell,
}
