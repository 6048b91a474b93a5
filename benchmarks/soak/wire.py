"""A connection that asks one thing after the other, in so little time that it is not what is measured."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self
from urllib.parse import urlsplit


class RefusedError(Exception):
    """An answer that is not a yes."""


class Line:
    """JSON over one HTTP connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        """See `open`."""
        self._reader, self._writer, self._head = reader, writer, head

    @classmethod
    async def open(cls, url: str, token: str) -> Self:
        """Connect."""
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        return cls(reader, writer, f"Host: {place.netloc}\r\nAuthorization: Bearer {token}\r\n")

    async def post(self, path: str, body: object) -> Any:
        """The answer. Raises `RefusedError`, or what a broken connection raises."""
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\n{self._head}"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self._writer.write(head.encode("ascii") + content)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.split("content-length:", 1)[1].split("\r\n", 1)[0])
        said = await self._reader.readexactly(length)
        if answer.split(" ", 2)[1][0] != "2":
            raise RefusedError(f"{path}: {said.decode()[:300]}")
        return json.loads(said)

    async def follow(self, path: str) -> asyncio.StreamReader:
        """Begin a stream of events, whose bytes are read from the answer. It serves for no more."""
        self._writer.write(
            f"GET {path} HTTP/1.1\r\n{self._head}Accept: text/event-stream\r\n\r\n".encode("ascii")
        )
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if answer.split(" ", 2)[1] != "200":
            raise RefusedError(f"{path}: {answer.splitlines()[0]}")
        return self._reader

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
