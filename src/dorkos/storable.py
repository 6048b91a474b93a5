"""What may be stored: the check that every outside value passes at the edge.

PostgreSQL's text refuses U+0000, UTF-8 has no lone surrogates, JSON has no NaN, and both engines'
integers end at 64 bits. Refusing these here keeps both engines equal and keeps them from failing later.
"""

from __future__ import annotations

import json
import math
import re

from dorkos.errors import DorkError, ErrorCode

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INTEGER_MAX = 2**63 - 1
_INTEGER_MIN = -(2**63)
# A payload may be a hundred levels deep; a message around it adds a few.
DEPTH_MAX = 120


def parse_json(body: bytes) -> object:
    """Parse a JSON text from outside. Raises `invalid_json` or `invalid_text`."""
    try:
        value: object = json.loads(body, object_pairs_hook=unambiguous)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise DorkError(
            ErrorCode.INVALID_JSON, f"The body is not JSON: {fault}", hint="Send a JSON object in UTF-8."
        ) from fault
    except ValueError as fault:  # So many digits that Python does not even read them.
        raise _refusal("A number is beyond 64 bits.") from fault
    check_storable(value)
    return value


def unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object. Which of two values under one key was meant cannot be known, and readers differ in it."""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise DorkError(
            ErrorCode.INVALID_JSON,
            f"The body is ambiguous: one object has the key {repeated[:100]!r} more than once.",
            hint="Give each key once.",
        )
    return value


def check_storable(value: object) -> None:
    """Raise `invalid_text` if any text, key or number inside `value` cannot be stored on both engines.

    Raises `invalid_json` for what is nested deeper than DEPTH_MAX levels: whoever reads it later, in whatever
    language, may read it by recursion.
    """
    level, depth = [value], 0
    while level:
        if depth > DEPTH_MAX:
            message = f"It is nested more than {DEPTH_MAX} levels deep."
            raise DorkError(ErrorCode.INVALID_JSON, message, hint="Send a flatter value.")
        level, depth = _checked_level(level), depth + 1


def _checked_level(level: list[object]) -> list[object]:
    """Check the values themselves; what is inside them is the next level."""
    waiting: list[object] = []
    for item in level:
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list | tuple):
            waiting.extend(item)
        elif isinstance(item, bool) or item is None:
            continue
        elif isinstance(item, int):
            if not _INTEGER_MIN <= item <= _INTEGER_MAX:
                raise _refusal("A number is beyond 64 bits.")
        elif isinstance(item, float) and not math.isfinite(item):
            raise _refusal("A number is NaN or infinite.")
    return waiting


def clean_text(text: str) -> str:
    """`text` with what cannot be stored shown as U+FFFD: for program output, which is never refused."""
    return _UNSTORABLE.sub("\ufffd", text)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _refusal("A text holds the character U+0000.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as fault:
        raise _refusal("A text holds a lone surrogate.") from fault


def _refusal(message: str) -> DorkError:
    return DorkError(ErrorCode.INVALID_TEXT, message, hint="Remove it, or send such data as Base64.")
