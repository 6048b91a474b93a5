"""Payloads: any JSON value, kept as the text that goes to the receiver."""

from __future__ import annotations

import json

from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import check_storable

# Readers of JSON end at different depths, some below 200; what is stored must be readable by all.
DEPTH_MAX = 100


def encode(value: object) -> str:
    """`value` as compact JSON text in UTF-8.

    Raises `invalid_text` for what cannot be stored and `invalid_json` for what is nested too deeply.
    """
    check_storable(value)
    if _is_deep(value):
        raise DorkError(
            ErrorCode.INVALID_JSON,
            f"The payload is nested deeper than {DEPTH_MAX} levels.",
            hint="Flatten it, or send the inner part as a JSON text.",
        )
    return to_json(value)


def prompt_of(payload: str | None) -> str:
    """What a run is asked when a message starts it: the text, its `content`, or else the JSON itself."""
    if payload is None:
        return ""
    value = json.loads(payload)
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return str(value["content"])
    return payload


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list | tuple)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
