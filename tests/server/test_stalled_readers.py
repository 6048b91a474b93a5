"""Readers of streams that take nothing: they cost a bounded amount of memory, and for a bounded time."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx

from dorkos.db.database import Transaction
from tests.server.kit import TOKEN, Served, frames, serving

_EVENTS, _SIZE = 300, 20_000
# What the transport holds back at most before it asks to wait, and one frame more.
_HELD_MAX = 64 * 1024 + 2 * _SIZE


async def _open(served: Served) -> tuple[socket.socket, bytes]:
    """A connection to the stream of events that has read the greeting, and will read nothing more."""
    loop = asyncio.get_running_loop()
    address = httpx.URL(served.http.url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.setblocking(False)
    await loop.sock_connect(reader, (address.host, address.port))
    head = f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    await loop.sock_sendall(reader, head.encode("ascii"))
    seen = b""
    while b"event: hello" not in seen:
        seen += await loop.sock_recv(reader, 4096)
    return reader, seen


async def _everything_after(served: Served, last_id: str) -> AsyncIterator[str]:
    """The entities of the events behind an id, as a client reads them that comes back whenever it is cut."""
    while True:
        headers = {"Last-Event-ID": last_id}
        try:
            async with served.client.stream("GET", "/api/events", headers=headers) as stream:
                assert stream.status_code in (200, 429)
                async for found in frames(stream):
                    last_id = found.id or last_id
                    if found.event not in (None, "hello"):
                        yield found.data["entityId"]
        except httpx.TransportError:
            continue


async def test_a_reader_that_takes_nothing_is_cut_and_misses_nothing_when_it_comes_back() -> None:
    """Its seat is free again, what waited for it was bounded all the time, and its last id leads on."""
    async with serving(max_streams=1, stall_s=0.5) as served:
        reader, seen = await _open(served)

        def tell_all(tx: Transaction) -> None:
            for number in range(_EVENTS):
                tx.emit("system.node.started", f"event-{number}", {"text": "x" * _SIZE})

        await served.db.write(tell_all)
        held = [0]
        while (await served.client.head("/api/events")).status_code == 429:
            held += _held(served)
        assert max(held) <= _HELD_MAX
        last_id = re.findall(rb"\nid: (\S+)", seen)[0].decode("ascii")
        found: list[str] = []
        async for entity in _everything_after(served, last_id):
            found.append(entity)
            if len(found) == _EVENTS:
                break
        assert found == [f"event-{number}" for number in range(_EVENTS)]
        reader.close()


def _held(served: Served) -> list[int]:
    """What waits in each connection's buffer. From inside: no answer tells it."""
    server = served.http._server
    assert server is not None
    connections: set[Any] = server.server_state.connections
    return [each.transport.get_write_buffer_size() for each in connections]
