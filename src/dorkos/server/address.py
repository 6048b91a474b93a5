"""Paths and queries of requests: decoded strictly, or refused.

Routing works on the path as it was sent, escapes and all, so that a `/` written as `%2F` stays within
its segment: `DELETE /api/mesh/denied/%2Fsrv%2Fbot` names one path. Each parameter is decoded on its own.
Servers usually decode leniently and first; then two different requests look the same, and bytes that
are not UTF-8 turn into U+FFFD unseen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote

from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import check_storable

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FIELDS_MAX = 100
HEAD_MAX = 64 * 1024
HEADERS_TOO_LARGE = DorkError(
    ErrorCode.HEADERS_TOO_LARGE,
    "The address and the headers of the request are longer than 64 KiB together.",
    hint="Put long values into the body.",
)


def check_head(raw_path: bytes, query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise `headers_too_large` for more than 64 KiB of address and headers together."""
    size = len(raw_path) + len(query) + sum(len(name) + len(value) + 4 for name, value in headers)
    if size > HEAD_MAX:
        raise HEADERS_TOO_LARGE


def routed_path(raw: bytes) -> str:
    """The path as it was sent, once it is known that each of its segments can be decoded."""
    _check(raw, "path")
    return raw.decode("ascii")


def path_values(parameters: Mapping[str, str]) -> dict[str, str]:
    """The path parameters, decoded. Raises `invalid_text` for what cannot be stored."""
    values = {name: unquote(value, errors="strict") for name, value in parameters.items()}
    check_storable(values)
    return values


def query_values(raw: bytes) -> dict[str, str]:
    """The query, decoded. A key given twice is refused: which of the two was meant cannot be known."""
    _check(raw, "query")
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except ValueError as fault:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The query has more than {_FIELDS_MAX} fields.",
            hint="Leave out what this address does not know.",
        ) from fault
    values = dict(pairs)
    check_storable(values)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The query names {repeated!r} more than once.",
            hint=f"Give {repeated!r} once; where it takes several values, separate them by commas.",
            details={"formErrors": [], "fieldErrors": {repeated: ["Given more than once"]}},
        )
    return values


def _check(raw: bytes, what: str) -> None:
    broken = _BROKEN_ESCAPE.search(raw)
    if broken is None:
        try:
            unquote(raw.decode("ascii"), errors="strict")
        except UnicodeDecodeError:
            pass
        else:
            return
    raise DorkError(
        ErrorCode.INVALID_TEXT,
        f"The {what} of the address is not percent-encoded UTF-8.",
        hint="Encode it again; a `%` that means itself is written `%25`.",
    )
