"""A listener that plays back answers written by a test: for faults that a real server does not commit."""

from __future__ import annotations

import json
import socket
import threading
from types import TracebackType
from typing import Self


class ScriptedServer:
    """Takes one connection after the other; each gets the next answer and is closed."""

    def __init__(self) -> None:
        """Listens at once, on a free port of the loopback address."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.requests: list[str] = []
        self._answers: list[bytes] = []
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Self:
        """Begin to take connections."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def answer(self, body: object, status: int = 200) -> None:
        """Add an answer with a JSON document."""
        self.raw(_head(status, "application/json", close=True) + json.dumps(body).encode())

    def stream(self, *frames: str, promise: int = 0) -> None:
        """Add an event stream; `promise` bytes more than there are make it end as a broken one."""
        text = "".join(frames).encode()
        self.raw(_head(200, "text/event-stream", length=len(text) + promise) + text)

    def raw(self, answer: bytes) -> None:
        """Add an answer byte for byte."""
        self._answers.append(answer)

    def _play(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(_read_request(connection))
                connection.sendall(self._answers.pop(0) if self._answers else b"")


def _head(status: int, kind: str, *, length: int | None = None, close: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Type: {kind}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _read_request(connection: socket.socket) -> str:
    """Head and body of a request."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    wanted = 0
    for line in head.decode("latin-1").splitlines():
        if line.lower().startswith("content-length:"):
            wanted = int(line.partition(":")[2])
    while len(body) < wanted:
        body += _more(connection)
    return (head + b"\r\n\r\n" + body).decode("utf-8")


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the client left in the middle of its request")
    return piece
