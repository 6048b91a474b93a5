"""Calls that wait, so that the client who asked can break them off.

Since the revision of 2026-07-28 a client does so by closing its request. Before, it sends a request of its
own that names the call by its id, and ids are counted from 0 by every client. So the handshake of these
revisions gives each client a name, which it sends along from then on. Nothing is kept under the name but
the calls that wait right now, and any name is taken: a restart of the server loses none.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Message, Send

from dorkos.server.auth import caller_of_request
from dorkos.server.waiting import while_there

T = TypeVar("T")

_HEADER = "mcp-session-id"
# The caller, its run, the client's name and the id of the call.
_Key = tuple[str, str | None, str, str]


class BrokenOffError(Exception):
    """The client does not want the answer any more."""


class Waits:
    """The calls that wait on this server."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._under_way: dict[_Key, asyncio.Future[object]] = {}

    async def wait(self, request: Request, request_id: object, handling: Awaitable[T]) -> T:
        """What `handling` gives, while its client is there and wants it. Raises `BrokenOffError` if not."""
        work = asyncio.ensure_future(handling)
        key = _key(request, request_id)
        if key is None:
            return await while_there(request, work)
        self._under_way[key] = work  # type: ignore[assignment]  # What it gives is nobody's business here.
        try:
            return await while_there(request, work)
        except asyncio.CancelledError as cancelled:
            if self._under_way.get(key) is work:
                raise
            raise BrokenOffError from cancelled
        finally:
            if self._under_way.get(key) is work:
                del self._under_way[key]

    def break_off(self, request: Request, request_id: object) -> None:
        """End the call of this client and this caller; one that does not wait goes on."""
        key = _key(request, request_id)
        work = None if key is None else self._under_way.pop(key, None)
        if work is not None:
            work.cancel()


def naming(send: Send) -> Send:
    """`send`, with a name for the client in the head of the answer."""

    async def named_send(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            name = (_HEADER.encode(), secrets.token_urlsafe(16).encode())
            message = {**message, "headers": [*message["headers"], name]}
        await send(message)

    return named_send


def _key(request: Request, request_id: object) -> _Key | None:
    name = request.headers.get(_HEADER)
    if name is None:
        return None
    caller = caller_of_request(request)
    return caller.subject, caller.run_id, name, str(request_id)
