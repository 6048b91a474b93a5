"""The listening socket and its server: started once, stopped within three seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.answers import refusal
from dorkos.server.protocol import Protocol
from dorkos.server.sse import StalledReaderError

log = logging.getLogger("dorkos.server")

# Short requests get this long to finish; what is left then is cancelled.
_GRACE_S = 2
_STOP_WITHIN_S = 2.8
# What was cut off needs a few turns of the loop to say so, before its connection is closed under it.
_LAST_WORDS_S = 0.2
_BACKLOG = 2048


class HttpServer:
    """Serves one ASGI application on one address. Signals and logging stay with whoever runs it."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """`port` 0 picks a free one. Nothing is opened yet."""
        self._app = app
        self._host = host
        self._port = port
        self._stopping = asyncio.Event()
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._answering: set[asyncio.Task[Any]] = set()
        self.url = ""

    async def start(self) -> None:
        """Bind, then serve; returns when requests are accepted.

        Raises `port_in_use`, or `invalid_setting` for an address that cannot be bound; nothing is left
        open then. Starting twice is a fault of the caller.
        """
        if self._task is not None:
            raise RuntimeError("the HTTP server was started twice")
        listener = await _bind(self._host, self._port)
        self.url = _url(listener)
        self._server = _Server(self._serve)
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]), name="dorkos.http")
        accepting = asyncio.create_task(self._server.accepting.wait())
        await asyncio.wait({self._task, accepting}, return_when=asyncio.FIRST_COMPLETED)
        accepting.cancel()
        if self._task.done():
            listener.close()
            await self._task

    async def stop(self) -> None:
        """Accept nothing more, end the streams, let short requests finish, then cut off what is left.

        Returns within three seconds. Safe to call again, at once, and before start.
        """
        self._stopping.set()
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=_STOP_WITHIN_S)
        self._server.force_exit = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._answering:
            await asyncio.wait(self._answering, timeout=_LAST_WORDS_S)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()  # Clients that do not read what they asked for.

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application; to a stream, the stopping of the server looks like its client going away."""
        complete = begun = False
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

        async def receive_until_stopped() -> Message:
            nonlocal complete
            if complete:
                return await self._message_or_stop(receive)
            # A request that is still arriving is let in: it is not a stream.
            message = await receive()
            complete = not message.get("more_body", False)
            return message

        async def watching_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive_until_stopped, watching_send)
        except StalledReaderError:
            self._cut(scope)
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
            if not begun:
                await refusal(_CUT_OFF)(scope, receive, send)

    def _cut(self, scope: Scope) -> None:
        """End the connection of a request without waiting for what was written to be read."""
        assert self._server is not None
        for connection in list(self._server.server_state.connections):
            if getattr(connection, "scope", None) is scope:
                connection.transport.abort()

    async def _message_or_stop(self, receive: Receive) -> Message:
        message = asyncio.ensure_future(receive())
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({message, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            stopped.cancel()


_CUT_OFF = DorkError(
    ErrorCode.SHUTTING_DOWN,
    "The server stopped before this request was finished.",
    hint="What it was to change may or may not be stored: look before you repeat it.",
)


class _Server(uvicorn.Server):
    """Uvicorn's server, told apart from its process: no signal handlers, and a sign when it accepts."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="warning",
                access_log=False,
                # Where a request comes from is what the socket says, not what a header claims.
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_S,
                backlog=_BACKLOG,
            )
        )
        self.accepting = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield


async def _bind(host: str, port: int) -> socket.socket:
    family, address = await _resolve(host, port)
    # The protocol is named: asyncio turns Nagle's algorithm off only for sockets that say they are TCP, and
    # with it on, every answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            # A restart must not wait for old connections to time out. On Windows it would share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening belongs to taking the port: two sockets may both be bound as long as neither listens.
        listener.listen(_BACKLOG)
    except OSError as fault:
        listener.close()
        raise _cannot_bind(host, port, fault) from fault
    listener.setblocking(False)
    return listener


async def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as fault:
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"`server.host` {host!r} is not an address of this machine: {fault}.",
            hint="Use 127.0.0.1 for this machine only, or 0.0.0.0 for every address it has.",
        ) from fault
    # A name such as localhost may have several; the one that programs try without being asked comes first.
    found.sort(key=lambda entry: entry[0] is not socket.AF_INET)
    return found[0][0], found[0][4]


def _cannot_bind(host: str, port: int, fault: OSError) -> DorkError:
    if fault.errno == errno.EADDRINUSE:
        return DorkError(
            ErrorCode.PORT_IN_USE,
            f"Port {port} on {host} is taken by another program.",
            hint="Stop it, or choose another port with --port (0 picks a free one).",
            details={"host": host, "port": port},
        )
    if fault.errno == errno.EACCES:
        return DorkError(
            ErrorCode.INVALID_SETTING,
            f"`server.port` {port} is reserved for the system.",
            hint="Choose a port above 1023.",
        )
    return DorkError(
        ErrorCode.INVALID_SETTING,
        f"`server.host` {host!r} cannot be bound: {fault.strerror}.",
        hint="Use 127.0.0.1 for this machine only, or 0.0.0.0 for every address it has.",
    )


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if listener.family is socket.AF_INET6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
