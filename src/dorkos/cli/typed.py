"""What people type for programs: texts from standard input, JSON, and paths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import parse_json


def text_or_stdin(text: str) -> str:
    """The text itself, or all of standard input for `-`. Raises `invalid_text` if that is not UTF-8."""
    if text != "-":
        return text
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as fault:
        raise DorkError(
            ErrorCode.INVALID_TEXT,
            f"Standard input is not UTF-8: {fault}.",
            hint="Convert it first, or send Base64.",
        ) from fault


def json_value(text: str) -> Any:
    """A JSON value typed by hand. Raises `invalid_json` or `invalid_text`."""
    return parse_json(text.encode("utf-8", errors="surrogatepass"))


def absolute(path: str) -> str:
    """A path as the server can use it, whose working directory is another. Links are not followed here."""
    if not path:
        raise DorkError(ErrorCode.USAGE, "A path must not be empty.", hint="Write `.` for this directory.")
    return str(Path(path).absolute())


def payload_of(text: str | None, json_text: str | None) -> dict[str, object]:
    """The payload of a message given as a text or as JSON, `-` meaning standard input; nothing if neither is
    given. Raises `usage` if both are."""
    if text is not None and json_text is not None:
        raise DorkError(
            ErrorCode.USAGE, "Both a text and --json-payload are given.", hint="Leave one of them out."
        )
    if text is not None:
        return {"payload": text_or_stdin(text)}
    return {} if json_text is None else {"payload": json_value(text_or_stdin(json_text))}
