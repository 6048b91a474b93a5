"""Request bodies: read with a limit while they arrive, and understood as one JSON object."""

from __future__ import annotations

from starlette.requests import Request

from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import parse_json

_KINDS: dict[type, str] = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


async def read_object(request: Request, *, limit: int) -> dict[str, object]:
    """The body as a JSON object; an empty body is an empty object. The content type is not looked at.

    Raises `body_too_large` as soon as it is known, so that memory holds at most `limit` bytes and what
    arrived with them; `invalid_json` and `invalid_text` as `parse_json` does.
    """
    body = await read_bytes(request, limit=limit)
    if not body.strip():
        return {}
    value = parse_json(body)
    if not isinstance(value, dict):
        raise DorkError(
            ErrorCode.INVALID_JSON,
            f"The body is {_KINDS.get(type(value), 'null')}, not a JSON object.",
            hint='Send an object such as {"name": "value"}.',
        )
    return value


async def read_bytes(request: Request, *, limit: int) -> bytes:
    """The body as it is. Raises `body_too_large` as soon as it is known."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> DorkError:
    return DorkError(
        ErrorCode.BODY_TOO_LARGE,
        f"The body is larger than {limit} bytes.",
        hint="Send less, or raise `server.maxBodyBytes`.",
        details={"limit": limit},
    )
