"""From a project's own words to a description that can be shown anywhere."""

from __future__ import annotations

import unicodedata

_MAX_CHARACTERS = 200
_UNNAMED = "agent"


def first_paragraph(start: bytes) -> str | None:
    """The first paragraph of a Markdown text that is not a heading, on one line; None if there is none.

    Shortened; the bytes may end within a character.
    """
    lines: list[str] = []
    for line in start.decode("utf-8-sig", errors="replace").splitlines():
        text = _printable(line).strip()
        if text and not text.startswith("#"):
            lines.append(text)
        elif lines:
            break
    return shortened(" ".join(lines)) or None


def shortened(text: str) -> str:
    """At most 200 characters, the last three of them dots if there were more."""
    return text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 3] + "..."


def shown_name(folder_name: str) -> str:
    """An agent's name from its folder's: what cannot be shown is replaced, and it is never empty."""
    return _printable(folder_name).strip()[:_MAX_CHARACTERS] or _UNNAMED


def _printable(text: str) -> str:
    # A file is free to hold escape sequences; a terminal that shows its description must not obey them.
    if text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text.expandtabs(1))
