"""Server-Sent Events: frames, and an answer that goes on until one side has had enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.server.answers import to_bytes
from dorkos.server.auth import verifier_of_request

log = logging.getLogger("dorkos.server")

_HEADERS = {
    "Cache-Control": "no-cache, no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Accel-Buffering": "no",  # Proxies of the nginx kind would hold frames back until a buffer is full.
}

KEEPALIVE_S = 15.0
# Who takes nothing for so long is cut off, to make room for others. Coming back with the last id they have,
# they miss nothing: what they did not take was never queued for them.
STALL_S = 60.0


def frame(event: str, data: object, *, frame_id: str | None = None) -> bytes:
    """One event. Its data is a single line of ASCII, so that no reader can cut it in the wrong place."""
    head = f"id: {frame_id}\n" if frame_id is not None else ""
    return f"{head}event: {event}\ndata: ".encode("ascii") + to_bytes(data) + b"\n\n"


def keepalive(frame_id: str | None) -> bytes:
    """A sign of life. With an id it also moves the place from which the client resumes, and says nothing."""
    return b": keepalive\n\n" + (f"id: {frame_id}\n\n".encode("ascii") if frame_id is not None else b"")


@dataclass
class Seats:
    """How many streams may be open at once. Taking and leaving a seat never waits."""

    limit: int
    taken: int = field(default=0, init=False)

    def take(self) -> None:
        """Raise `too_many_streams` when all are taken."""
        if self.taken >= self.limit:
            raise DorkError(
                ErrorCode.TOO_MANY_STREAMS,
                f"{self.limit} event streams are open already.",
                hint="Close one, read several topics on one stream, or raise `server.maxStreams`.",
                details={"limit": self.limit},
            )
        self.taken += 1

    def leave(self) -> None:
        """Give the seat back."""
        self.taken -= 1


@dataclass(frozen=True)
class StreamLimits:
    """What all streams of a server share: their seats, how often each gives a sign of life, how long one may
    take nothing of what is there for it, and what is set when the next token is ended."""

    seats: Seats
    keepalive_s: float = KEEPALIVE_S
    stall_s: float = STALL_S
    credential_end: Callable[[], asyncio.Event] = asyncio.Event


class StalledReaderError(ClientDisconnect):
    """The reader of a stream takes nothing any more, so that its connection has to be cut."""


class EventStream(Response):
    """An answer made of frames.

    Each frame is written in one piece, as soon as it is there and only as fast as the client reads:
    nothing queues up for a slow one, and one that takes nothing at all is cut off. It ends when `frames`
    ends, when the client goes away or the server stops, or when the token it was opened with no longer
    holds. `position` is the id to send along with each sign of life.
    """

    def __init__(
        self,
        request: Request,
        frames: AsyncGenerator[bytes],
        *,
        limits: StreamLimits,
        position: Callable[[], str | None],
    ) -> None:
        """Nothing is opened or taken until the answer is sent."""
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._frames = frames
        self._limits = limits
        self._position = position
        self._verify = verifier_of_request(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames. Raises `too_many_streams` before anything was sent, `StalledReaderError` after."""
        self._limits.seats.take()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._pump(receive, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._limits.seats.leave()

    async def _pump(self, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(until_gone(receive))
        ended = asyncio.ensure_future(self._limits.credential_end().wait())
        coming = asyncio.ensure_future(self._next())
        beat_at = loop.time() + self._limits.keepalive_s
        try:
            if not await _still_holds(self._verify):
                return  # It was ended since the request was let in, and before its end would be noticed.
            while True:
                wait_s = max(beat_at - loop.time(), 0.0)
                await asyncio.wait({gone, ended, coming}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                if ended.done():
                    # Whoever's it was: what is ready now may be younger than its end.
                    ended = asyncio.ensure_future(self._limits.credential_end().wait())
                    if not await _still_holds(self._verify):
                        return
                if coming.done():
                    piece = coming.result()
                    if piece is None:
                        return
                    await self._write(send, piece)
                    coming = asyncio.ensure_future(self._next())
                if loop.time() >= beat_at:
                    if not await _still_holds(self._verify):
                        return
                    # A frame that has come but is not sent yet is ahead of what the client may resume from.
                    piece = keepalive(None if coming.done() else self._position())
                    await self._write(send, piece)
                    beat_at = loop.time() + self._limits.keepalive_s
        finally:
            await _end(gone, ended, coming)
            await self._frames.aclose()

    async def _write(self, send: Send, piece: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.stall_s):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except TimeoutError as fault:
            log.info("a stream was cut off: its reader took nothing for %.0f s", self._limits.stall_s)
            raise StalledReaderError from fault

    async def _next(self) -> bytes | None:
        return await anext(self._frames, None)


async def until_gone(receive: Receive) -> None:
    """Return when the client has gone away, or the server stops, which looks the same to an answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _still_holds(verify: Callable[[], Awaitable[Caller]]) -> bool:
    try:
        await verify()
    except DorkError as refusal:
        # Only a definite no ends the stream: a database that is busy for a moment says nothing of the token.
        return refusal.code is not ErrorCode.TOKEN_INVALID
    return True


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
