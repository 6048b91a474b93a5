"""JSON values of the lineage as text that both engines and all our readers can take."""

from __future__ import annotations

import json

from dorkos.db.legacy.values import plain_text
from dorkos.db.types import to_json

# As for every payload that is sent today: readers of JSON end at different depths.
_DEPTH_MAX = 100


def text_of(value: object) -> str | None:
    """`value` as compact JSON; None if it is nested too deeply or holds a number beyond a double.

    Parsed again it equals `value`: a lone surrogate stays the escape it was, and U+0000 is one anyway.
    """
    if _is_deep(value):
        return None
    try:
        text = to_json(value)
    except ValueError:  # Such a number is read as an infinity, for which JSON has no word.
        return None
    return text if plain_text(text) == text else json.dumps(value, separators=(",", ":"))


def fits(value: object) -> bool:
    """Whether a JSON column can hold `value` as it is."""
    text = text_of(value)
    return text is not None and text == to_json(value)


def fitted(value: object) -> object:
    """`value` if a JSON column can hold it, else its texts with U+FFFD, or at last its text as a whole."""
    if fits(value):
        return value
    plain = _plain(value) if text_of(value) is not None else None
    return json.dumps(value) if plain is None else plain


def _plain(value: object) -> object:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, dict):
        return {plain_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEPTH_MAX + 1):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
