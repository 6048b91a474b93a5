"""HTTP/1.1 as uvicorn speaks it, with our shape for the answers it writes itself, and a limit on patience."""

from __future__ import annotations

import asyncio
import sys

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.address import HEADERS_TOO_LARGE
from dorkos.server.answers import to_bytes

_NOT_HTTP = DorkError(
    ErrorCode.VALIDATION_FAILED,
    "This is not an HTTP request that can be read.",
    hint="Look at what sent it: a request begins with a line such as `GET /api/health HTTP/1.1`.",
)
_TOO_SLOW = DorkError(
    ErrorCode.REQUEST_TIMEOUT,
    "The headers of the request did not arrive in time.",
    hint="Nothing was done; send it again.",
)

_NO_ROOM = DorkError(
    ErrorCode.TOO_MANY_CONNECTIONS,
    "More connections are open than this server has room for.",
    hint="Nothing was done. Close some, or let the server open more files (`ulimit -n`).",
)
# Files that are left to runs, the database and the log, however many want to speak.
_FILES_KEPT = 256

# A connection that is closed while bytes still arrive is reset, and a reset may overtake the answer.
_LINGER_S = 1.0
# Whoever opens a connection says within this time what they want, or makes room for others.
HEADERS_WITHIN_S = 30.0


def room_for_connections() -> int:
    """How many may be open at once, by how many files this process may open."""
    if sys.platform == "win32":
        return 10_000
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return 100_000
    return max(files - _FILES_KEPT, files // 2)


class Protocol(H11Protocol):
    """Refuses what is not HTTP in JSON, like everything else, and what does not come to the point.

    When there is no room, whoever has waited longest without asking for anything makes it.
    """

    _is_refused = False
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn's.
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()
        if len(self.connections) > room_for_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what arrives; after a refusal nothing means anything any more."""
        if self._is_refused:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._patience is None and not self._is_refused:
            self._wait_for_headers()  # A further request on the same connection has begun.

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that cannot be understood, then close: where the next request begins is unknown."""
        fault = sys.exc_info()[1]
        is_long = isinstance(fault, h11.RemoteProtocolError) and fault.error_status_hint == 431
        self._refuse(HEADERS_TOO_LARGE if is_long else _NOT_HTTP)

    @property
    def patience_ends(self) -> float | None:
        """When it has been waited long enough for a request, by the loop's clock; None while there is one."""
        return None if self._patience is None else self._patience.when()

    def give_way(self) -> None:
        """Say that there is no room, and close."""
        self._refuse(_NO_ROOM)
        self.transport.close()

    def _make_room(self) -> None:
        silent = [
            (other.patience_ends, other)
            for other in self.connections
            if isinstance(other, Protocol) and other.patience_ends is not None
        ]
        min(silent, key=lambda entry: entry[0])[1].give_way()  # This connection is among them.

    def _wait_for_headers(self) -> None:
        self._patience = self.loop.call_later(HEADERS_WITHIN_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        self._refuse(_TOO_SLOW)

    def _refuse(self, refusal: DorkError) -> None:
        self._stop_waiting()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # In the middle of an answer there is no place for another.
            return
        body = to_bytes(refusal.body())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=refusal.http_status, headers=headers, reason=b"Refused"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._is_refused = True
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
