"""Payloads: any JSON value, kept as the text that goes to the receiver."""

from __future__ import annotations

import json
import re

from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import check_storable, clean_text

# Readers of JSON end at different depths, some below 200; what is stored must be readable by all.
DEPTH_MAX = 100
_SURROGATE = re.compile("[\ud800-\udfff]")


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


def shown(payload: str) -> object:
    """The value of a stored payload, as an answer can carry it.

    An imported one may hold half an emoji: no answer in UTF-8 could say it, so U+FFFD stands there.
    """
    value = json.loads(payload)
    return _without_surrogates(value) if "\\ud" in payload.lower() else value


def prompt_of(payload: str | None) -> str:
    """What a run is asked when a message starts it: the text, its `content`, or else the JSON itself.

    U+FFFD stands for what a run could not be given, which only an imported payload holds.
    """
    if payload is None:
        return ""
    value = json.loads(payload)
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return clean_text(value["content"])
    return payload


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


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
