"""The bridge between lines and requests, with a server that answers as the test says."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dorkos.cli import mcp_bridge
from dorkos.cli.mcp_bridge import Bridge
from dorkos.cli.mcp_messages import RpcRequest
from dorkos.errors import DorkError, ErrorCode


class Server:
    """Answers with the method that was asked; holds those called `wait` until told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.entered = asyncio.Event()
        self.released = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def ask(self, request: RpcRequest, negotiated: str | None) -> dict[str, Any]:
        self.asked.append((request.method, negotiated))
        match request.method:
            case "wait":
                self.entered.set()
                try:
                    await self.released.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case "refuse":
                raise DorkError(ErrorCode.NOT_RUNNING, "Nobody is there.", hint="Start one.")
            case "break":
                raise RuntimeError("the password is swordfish")
        result = (
            {"protocolVersion": "2025-06-18"} if request.method == "initialize" else {"said": request.method}
        )
        return {"jsonrpc": "2.0", "id": request.id, "result": result}


class Talk:
    """The client's side of a bridge."""

    def __init__(self, server: Server, sink: int, source: int) -> None:
        self.server = server
        self._sink = sink
        self._source = os.fdopen(source, "rb")
        self._open = True

    def write(self, *lines: bytes) -> None:
        """Lines as they are."""
        os.write(self._sink, b"".join(line + b"\n" for line in lines))

    def say(self, *messages: object) -> None:
        """Messages, a line each."""
        self.write(*(json.dumps(message).encode() for message in messages))

    def ask(self, number: object, method: str) -> None:
        """A request."""
        self.say({"jsonrpc": "2.0", "id": number, "method": method})

    async def heard(self) -> Any:
        """The next answer."""
        async with asyncio.timeout(30):
            return json.loads(await asyncio.to_thread(self._source.readline))

    async def rest(self) -> bytes:
        """All that is still said; only after the end."""
        return await asyncio.to_thread(self._source.read)

    def end(self) -> None:
        """Close the client's end."""
        if self._open:
            os.close(self._sink)
        self._open = False

    def close(self) -> None:
        """Close both."""
        self.end()
        self._source.close()


@asynccontextmanager
async def talking(grace_s: float = 30.0) -> AsyncGenerator[tuple[Talk, Callable[[], Any]]]:
    """A running bridge: the talk, and what waits for its end."""
    source, client_sink = os.pipe()
    client_source, sink = os.pipe()
    server = Server()
    bridge = Bridge(server, source=source, sink=sink, grace_s=grace_s)
    running = asyncio.create_task(bridge.run())
    talk = Talk(server, client_sink, client_source)

    async def ended() -> None:
        talk.end()
        async with asyncio.timeout(30):
            await running
        os.close(sink)

    try:
        yield talk, ended
    finally:
        if not running.done():
            server.released.set()
            await ended()
        talk.close()
        os.close(source)


async def test_answers_come_when_they_are_ready() -> None:
    """A request that takes its time holds up nobody."""
    async with talking() as (talk, _):
        talk.ask(1, "wait")
        talk.ask("b", "ping")
        assert await talk.heard() == {"jsonrpc": "2.0", "id": "b", "result": {"said": "ping"}}
        talk.server.released.set()
        assert (await talk.heard())["id"] == 1


async def test_what_the_handshake_led_to_goes_with_the_rest() -> None:
    """Also when it is made again."""
    async with talking() as (talk, _):
        for number, method in enumerate(("first", "initialize", "second")):
            talk.ask(number, method)
            await talk.heard()
        assert talk.server.asked == [("first", None), ("initialize", None), ("second", "2025-06-18")]


async def test_a_cancelled_request_is_broken_off_and_not_answered() -> None:
    """The place and the id are free again."""
    async with talking() as (talk, ended):
        talk.ask(1, "wait")
        await talk.server.entered.wait()
        talk.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})
        talk.ask(2, "ping")
        assert (await talk.heard())["id"] == 2
        assert not talk.server.cancelled.is_set()
        talk.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        async with asyncio.timeout(30):
            await talk.server.cancelled.wait()
        talk.ask(1, "ping")
        assert (await talk.heard())["result"] == {"said": "ping"}
        await ended()
        assert await talk.rest() == b""


async def test_refusals_and_faults_are_answers() -> None:
    """What a request meets never ends the bridge, and nothing of a fault is told but that it was one."""
    async with talking() as (talk, _):
        talk.ask(1, "refuse")
        refused = (await talk.heard())["error"]
        assert (refused["message"], refused["data"]["code"]) == ("Nobody is there. Start one.", "not_running")
        talk.ask(2, "break")
        broken = await talk.heard()
        assert (broken["id"], broken["error"]["code"]) == (2, -32603)
        assert "swordfish" not in json.dumps(broken)
        talk.ask(3, "ping")
        assert (await talk.heard())["id"] == 3


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"\xff", -32700),
        (b"[" * 20_000, -32700),
        (b"[]", -32600),
        (b"7", -32600),
        (b"{}", -32600),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_what_is_no_message_is_told(line: bytes, code: int) -> None:
    """With no id, since it has none; the next line is read as if nothing had been."""
    async with talking() as (talk, _):
        talk.write(line)
        answer = await talk.heard()
        assert (answer["id"], answer["error"]["code"]) == (None, code)
        talk.ask(1, "ping")
        assert (await talk.heard())["id"] == 1


async def test_notifications_answers_and_empty_lines_get_none() -> None:
    """Nor are they sent on: without a session there is nothing that they could be about."""
    async with talking() as (talk, ended):
        talk.say({"method": "notifications/initialized"}, {"id": 7, "result": {}}, {"id": 8, "error": {}})
        talk.write(b"", b"  \r")
        talk.ask(1, "ping")
        assert (await talk.heard())["id"] == 1
        await ended()
        assert (await talk.rest(), talk.server.asked) == (b"", [("ping", None)])


async def test_a_line_beyond_the_limit_is_refused_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it arrives; the line behind it counts again."""
    monkeypatch.setattr(mcp_bridge, "LINE_MAX", 100)
    monkeypatch.setattr(mcp_bridge, "_CHUNK", 64)
    async with talking() as (talk, ended):
        for size in (101, 128, 1000):
            talk.write(b"x" * size)
            assert (await talk.heard())["error"]["code"] == -32600
        talk.ask(1, "ping")
        assert (await talk.heard())["id"] == 1
        os.write(talk._sink, b"y" * 500)
        await ended()
        assert json.loads(await talk.rest())["error"]["code"] == -32600


async def test_the_last_line_needs_no_end() -> None:
    """What was asked before the client closed its end is answered."""
    async with talking() as (talk, ended):
        os.write(talk._sink, b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        await ended()
        assert json.loads(await talk.rest())["id"] == 1


async def test_what_is_not_done_in_time_is_broken_off_at_the_end() -> None:
    """A client that is gone is not waited for longer than the grace; one that still reads is told."""
    async with talking(grace_s=0.0) as (talk, ended):
        talk.ask(1, "wait")
        await talk.server.entered.wait()
        await ended()
        assert talk.server.cancelled.is_set()
        told = json.loads(await talk.rest())
        assert (told["id"], told["error"]["data"]["code"]) == (1, "outcome_unknown")


async def test_a_client_that_does_not_read_is_no_fault() -> None:
    """Its answers are lost with it; the end comes with the end of its input."""
    async with talking() as (talk, ended):
        talk._source.close()
        for number in range(5):
            talk.ask(number, "ping")
        await ended()
        assert len(talk.server.asked) == 5
