"""Answers as bytes: JSON, and refusals in the one shape that every error has."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from dorkos.errors import DorkError, ErrorCode
from dorkos.logs import REQUEST

# Answers belong to whoever holds the token: no cache keeps them, and no browser guesses another type.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def json_answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON text as an answer."""
    return Response(body, status, {**HEADERS, **(headers or {})}, "application/json")


def to_bytes(value: object) -> bytes:
    """A JSON value as bytes. All but ASCII is escaped, so that no text, however odd, can fail to encode."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def refusal(error: DorkError, headers: Mapping[str, str] | None = None) -> Response:
    """`{error, code, details?, hint?, requestId?}` with the status of the code."""
    body = to_bytes(refusal_body(error))
    return json_answer(body, error.http_status, {**_challenge(error), **(headers or {})})


def refusal_body(error: DorkError) -> dict[str, object]:
    """What every refusal says, with the id of the request that is refused: the log has it as well."""
    request = REQUEST.get()
    return {**error.body(), **({} if request is None else {"requestId": request})}


def _challenge(error: DorkError) -> dict[str, str]:
    # RFC 6750: a request without credentials is told the scheme, one with bad ones is told that they are.
    if error.code is ErrorCode.TOKEN_MISSING:
        return {"WWW-Authenticate": "Bearer"}
    if error.code is ErrorCode.TOKEN_INVALID:
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    if error.code is ErrorCode.TOO_MANY_FAILURES and error.details is not None:
        return {"Retry-After": str(error.details["retryAfterSeconds"])}
    return {}
