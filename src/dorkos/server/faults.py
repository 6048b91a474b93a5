"""The outermost layer: whatever goes wrong inside becomes one of our answers.

A `DorkError` is answered as it says. Anything else is a fault of ours: outside it is `internal_error`
with an id, and the log has the rest under the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import new_id
from dorkos.logs import REQUEST
from dorkos.server.sse import StalledReaderError

log = logging.getLogger("dorkos.server")

# An address may be megabytes of nonsense; an answer that repeats it need not be.
_SHOWN_MAX = 200

# Makes the answer of a refusal, in the form that suits who asked. The headers are to be sent along.
Answer = Callable[[Scope, DorkError, Mapping[str, str] | None], Response]


class Faults:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, *, answer: Answer) -> None:
        """Wrap everything else."""
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and answer what was raised unless an answer has begun already."""
        begun = False

        async def watching_send(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watching_send)
        except StalledReaderError:
            raise  # The connection has to be cut, which is not for an application to do.
        except ClientDisconnect:
            return  # Nobody is left to be answered.
        except Exception as fault:
            if scope["type"] != "http":
                raise
            response = self._answer(scope, as_refusal(fault, f"{scope['method']} {scope['path']}"), None)
            if not begun:
                await response(scope, receive, send)


def http_refusals(answer: Answer) -> Callable[[Request, Exception], Coroutine[Any, Any, Response]]:
    """What the framework refuses by itself (no such address, no such method), in our shape."""

    async def respond(request: Request, fault: Exception) -> Response:
        assert isinstance(fault, HTTPException)
        asked = f"{request.method} {request.scope['path']}"[:_SHOWN_MAX]
        if fault.status_code == 405:
            allowed = ", ".join(sorted(_methods(request)))
            hint = f"This address takes: {allowed}."
            error = DorkError(ErrorCode.METHOD_NOT_ALLOWED, f"{asked} is not possible.", hint=hint)
            return answer(request.scope, error, {"Allow": allowed})
        if fault.status_code == 404:
            hint = "GET /api/docs lists every address."
            error = DorkError(ErrorCode.NOT_FOUND, f"There is nothing at {asked}.", hint=hint)
            return answer(request.scope, error, None)
        error = DorkError(ErrorCode.VALIDATION_FAILED, f"{asked} was refused: {fault.detail}")
        return answer(request.scope, error, None)

    return respond


def as_refusal(fault: Exception, asked: str) -> DorkError:
    """What the caller is told of `fault`; what is our own fault goes to the log with what was asked."""
    if isinstance(fault, DorkError):
        return fault
    fault_id = REQUEST.get() or new_id()
    log.error("fault %s while answering %s", fault_id, asked[:_SHOWN_MAX], exc_info=fault)
    return DorkError(
        ErrorCode.INTERNAL_ERROR,
        "DorkOS failed to answer this request; the fault is its own.",
        hint=f"The log of the server has the details under {fault_id}.",
        details={"id": fault_id},
    )


def _methods(request: Request) -> set[str]:
    """Every method of this address: the routes of one path stand side by side, one a method."""
    found: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            found |= route.methods
    return found
