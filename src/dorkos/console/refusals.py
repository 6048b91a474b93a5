"""Refusals as pages, for whoever asked for a page; everybody else gets JSON."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.answers import refusal
from dorkos.server.cookies import clear_cookie, session_secret

_LOGGED_OUT = (ErrorCode.TOKEN_MISSING, ErrorCode.TOKEN_INVALID, ErrorCode.LINK_INVALID)


def answer_refusal(scope: Scope, error: DorkError, headers: Mapping[str, str] | None = None) -> Response:
    """The refusal as who asked can read it."""
    asked = Headers(scope=scope)
    is_api = scope["path"].startswith(("/api/", "/mcp", "/metrics")) and scope["path"] != "/api/docs"
    if is_api or "text/html" not in asked.get("accept", ""):
        return refusal(error, headers)
    from dorkos.console.render import html

    if error.code not in _LOGGED_OUT:
        return html("refused.html", {"error": error}, status=error.http_status)
    answer = html("login.html", {"refused": _told(error)}, status=error.http_status)
    if error.code is ErrorCode.TOKEN_INVALID and session_secret(asked) is not None:
        answer.headers.append("set-cookie", clear_cookie(asked))
    return answer


def _told(error: DorkError) -> str | None:
    if error.code is ErrorCode.LINK_INVALID:
        return error.message
    return (
        "You were logged out, or your session has ended." if error.code is ErrorCode.TOKEN_INVALID else None
    )
