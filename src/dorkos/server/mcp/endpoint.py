"""`POST /mcp`: Streamable HTTP. What is checked here holds before the SDK sees a byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.operation import Operation
from dorkos.server.body import read_bytes
from dorkos.server.deadline import arriving
from dorkos.server.mcp.messages import asks_without_an_id, handshake_or_cancellation, message_in
from dorkos.server.mcp.waits import Waits, naming

if TYPE_CHECKING:
    from dorkos.server.mcp.protocol import Protocol

PATH = "/mcp"
_INVALID_REQUEST = -32600  # JSON-RPC's number for what is JSON and no request.


class McpEndpoint:
    """ASGI application; see the module. Host, Origin and token were looked at by the gate in front of it."""

    def __init__(
        self,
        operations: Sequence[Operation[Any, Any, Any]],
        parts: Mapping[str, object],
        *,
        version: str,
        max_body_bytes: int,
        within_s: float,
    ) -> None:
        """Nothing is imported yet."""
        self._within_s = within_s
        self._operations = operations
        self._parts = parts
        self._version = version
        self._max_body_bytes = max_body_bytes
        self._waits = Waits()
        self._loading = asyncio.Lock()
        self._protocol: Protocol | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises `body_too_large` as soon as that is known."""
        request = Request(scope, receive)
        body = await arriving(self._within_s, read_bytes(request, limit=self._max_body_bytes))
        message = message_in(body)
        # The SDK would answer the first in plain words; the second it would take for a notification, answer
        # 202 and drop.
        problem = _NOT_JSON if not _is_json(request) else _NO_ID if asks_without_an_id(message) else None
        if problem is not None:
            await _invalid(problem)(scope, receive, send)
            return
        match handshake_or_cancellation(message):
            case ("initialize", _):
                send = naming(send)
            case ("notifications/cancelled", request_id):
                self._waits.break_off(request, request_id)
        protocol = await self._loaded()
        await protocol.answer(scope, _replayed(body, receive), send)

    async def _loaded(self) -> Protocol:
        async with self._loading:
            if self._protocol is None:
                # A third of a second of imports, during which other requests are answered.
                self._protocol = await asyncio.to_thread(self._load)
            return self._protocol

    def _load(self) -> Protocol:
        from dorkos.server.mcp.protocol import Protocol
        from dorkos.server.mcp.tools import tools_of

        return Protocol(
            tools_of(self._operations, within_s=self._within_s),
            self._parts,
            self._waits,
            version=self._version,
            max_body_bytes=self._max_body_bytes,
        )


_NO_ID = DorkError(
    ErrorCode.VALIDATION_FAILED,
    "A request must have an `id` that is a text or a whole number.",
    hint="Only `notifications/…` come without an id, and they are not answered.",
)
_NOT_JSON = DorkError(
    ErrorCode.VALIDATION_FAILED,
    "A message must say that it is JSON.",
    hint="Send the header `Content-Type: application/json`.",
)


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").split(";")[0].strip() == "application/json"


def _invalid(problem: DorkError) -> JSONResponse:
    error = {"code": _INVALID_REQUEST, "message": problem.message, "data": problem.body()}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=400)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, then what comes: the client going away, or the server stopping."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
