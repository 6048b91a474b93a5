"""MCP over standard input and output: each line a message, each request sent on by itself, as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from dorkos.cli.mcp_messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    RpcRequest,
    cancelled_id,
    error_message,
    is_message,
    line_of,
    refusal_message,
    request_of,
    version_of,
)
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.mcp")

# The largest body that a server can be set to take.
LINE_MAX = 64 * 1024 * 1024
# So many requests at once; the next line is read when one of them is done.
_AT_ONCE_MAX = 100
# How long what is under way may take when the client has closed its end.
_GRACE_S = 5.0
_CHUNK = 64 * 1024

_CUT_OFF = DorkError(
    ErrorCode.OUTCOME_UNKNOWN,
    "The input ended, and this was not answered soon after.",
    hint="What it was to change may be stored: look before you repeat it, and leave the input open.",
)

# A line, or None for one that is too long.
Line = bytes | None


class Server(Protocol):
    """Whoever answers the requests."""

    async def ask(self, request: RpcRequest, negotiated: str | None) -> dict[str, Any]:
        """The JSON-RPC answer. Raises a `DorkError` for everything else."""


class Bridge:
    """Reads requests from one file descriptor and writes answers to another, in the order they are ready.

    Notifications are not sent on: the server keeps no session that they could be about. A cancelled
    request is broken off, which the server sees, and gets no answer.
    """

    def __init__(self, server: Server, *, source: int, sink: int, grace_s: float = _GRACE_S) -> None:
        """Nothing is read yet."""
        self._server = server
        self._source = source
        self._sink = sink
        self._grace_s = grace_s
        self._negotiated: str | None = None
        self._under_way: dict[str | int | None, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE_MAX)
        self._answers: asyncio.Queue[bytes | _End] = asyncio.Queue()

    async def run(self) -> None:
        """Until the client has closed its end and what was under way is done, or has had its time."""
        lines: asyncio.Queue[Line | _End] = asyncio.Queue(maxsize=1)
        _read_in_thread(self._source, lines)
        writer = asyncio.create_task(self._write_all())
        while not isinstance(line := await lines.get(), _End):
            await self._take(line)
        under_way = dict(self._under_way)
        if under_way:
            await asyncio.wait(under_way.values(), timeout=self._grace_s)
        for request_id, task in under_way.items():
            if not task.done() and request_id is not None:
                # Whoever closed one end may still read at the other.
                self._say(refusal_message(request_id, _CUT_OFF))
            task.cancel()
        await asyncio.gather(*under_way.values(), return_exceptions=True)
        self._answers.put_nowait(_End())
        await writer

    async def _take(self, line: Line) -> None:
        if line is None:
            self._say(error_message(None, INVALID_REQUEST, f"A line is longer than {LINE_MAX} bytes."))
            return
        if not line.strip():
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._say(error_message(None, PARSE_ERROR, "The line is not JSON."))
            return
        request = request_of(message, line)
        if request is not None:
            await self._places.acquire()
            # Known before the next line is read, so that a cancellation finds it.
            self._under_way[request.id] = asyncio.create_task(self._answer(request))
        elif is_message(message):
            cancelled = self._under_way.get(cancelled_id(message))
            if cancelled is not None:
                cancelled.cancel()
        else:
            self._say(error_message(None, INVALID_REQUEST, "The line is no JSON-RPC message."))

    async def _answer(self, request: RpcRequest) -> None:
        try:
            answer = await self._server.ask(request, self._negotiated)
            if request.method == "initialize":
                self._negotiated = version_of(answer) or self._negotiated
            self._say(line_of(answer))
        except DorkError as refusal:
            self._say(refusal_message(request.id, refusal))
        except Exception:
            log.exception("the request %r failed", request.method)
            self._say(error_message(request.id, INTERNAL_ERROR, "A fault of dorkos itself."))
        finally:
            self._places.release()
            if self._under_way.get(request.id) is asyncio.current_task():
                del self._under_way[request.id]

    def _say(self, line: bytes) -> None:
        self._answers.put_nowait(line)

    async def _write_all(self) -> None:
        """Write the answers, one whole line after another."""
        while not isinstance(line := await self._answers.get(), _End):
            # In a thread: a client that does not read must not stop what else is under way. One that is
            # gone has closed its other end as well, which ends all this.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_write, self._sink, line)


class _End:
    """Nothing more comes."""


def _read_in_thread(source: int, lines: asyncio.Queue[Line | _End]) -> None:
    loop = asyncio.get_running_loop()

    def put(line: Line | _End) -> None:
        # Waits for a place: what is not taken in yet stays with the client.
        asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

    def read() -> None:
        try:
            _read_lines(source, put)
            put(_End())
        except RuntimeError:
            pass  # The loop has ended before the client did.

    # A daemon: it may wait for a client that never says anything again.
    threading.Thread(target=read, name="dorkos.mcp.stdin", daemon=True).start()


def _read_lines(source: int, put: Callable[[Line], None]) -> None:
    """Split what comes into lines. By file descriptor, since a stream's lock would hold up the end."""
    line = bytearray()
    is_too_long = False
    while chunk := os.read(source, _CHUNK):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            put(None if is_too_long or len(line) + len(piece) > LINE_MAX else bytes(line + piece))
            line.clear()
            is_too_long = False
        line += rest
        if len(line) > LINE_MAX:
            line.clear()
            is_too_long = True
    if line or is_too_long:
        put(None if is_too_long else bytes(line))


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
