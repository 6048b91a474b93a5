"""The other side of a webhook: a small HTTP server on loopback that answers as it is told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Received:
    """A request, its headers by their lower-case names."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Target:
    """Answers with the next of `answers`, else with 200; `hang` waits for ever, `drop` cuts the line."""

    url: str = ""
    answers: deque[str] = field(default_factory=deque)
    received: asyncio.Queue[Received] = field(default_factory=asyncio.Queue)
    count: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> Received:
        """The next request that came."""
        async with asyncio.timeout(60):
            return await self.received.get()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.split(": ", 1) for line in head[1:] if line)
                headers = {name.lower(): value for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                said = self.answers.popleft() if self.answers else "200"
                self.count += 1
                self.received.put_nowait(Received(head[0].split(" ")[1], headers, body))
                if said == "drop":
                    return
                if said == "hang":
                    await self.released.wait()
                status, _, more = said.partition(" ")
                writer.write(f"HTTP/1.1 {status} So\r\n{more}Content-Length: 2\r\n\r\nok".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def target() -> AsyncIterator[Target]:
    """A target that listens on a free port."""
    made = Target()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield made
    finally:
        made.released.set()
        server.close()
