"""The listening server: what it binds, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.token_list import TokenService
from dorkos.server import waiting
from dorkos.server.http import HttpServer
from dorkos.vocabulary import TokenKind
from tests.server.kit import STOPPED_WITHIN_S, TOKEN, Served, connected, frames, one_turn, serving, settled


async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that has nothing to say."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    """Not started yet; stopped at the end."""
    server = HttpServer(quiet, "127.0.0.1", 0)
    yield server
    await server.stop()


async def refusal_of(host: str, port: int) -> DorkError:
    """What starting there is refused with."""
    with pytest.raises(DorkError) as refusal:
        await HttpServer(quiet, host, port).start()
    return refusal.value


async def test_it_accepts_when_start_returns(server: HttpServer) -> None:
    """At the address it tells, with the port it got."""
    await server.start()
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        assert (await client.get(server.url)).status_code == 204
    assert server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "prefix"), [("localhost", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")]
)
async def test_its_url_is_one_that_can_be_used(host: str, prefix: str) -> None:
    """Names are resolved, and "every address" is no address to call."""
    server = HttpServer(quiet, host, 0)
    await server.start()
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        assert (await client.get(server.url)).status_code == 204
    await server.stop()
    assert server.url.startswith(prefix)


async def test_a_port_in_use_is_refused_with_a_way_out() -> None:
    """Whoever holds it goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = await refusal_of("127.0.0.1", port)

    assert refusal.code == ErrorCode.PORT_IN_USE
    assert str(port) in refusal.message
    assert "--port" in str(refusal.hint)


async def test_two_servers_never_share_a_port(server: HttpServer) -> None:
    """Not even for a moment: half of the requests would go to the wrong one."""
    await server.start()
    port = int(server.url.rsplit(":", 1)[1])

    assert (await refusal_of("127.0.0.1", port)).code == ErrorCode.PORT_IN_USE


@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "192.0.2.1", "not a host", "a" * 300, "..", "127.0.0.1:80"]
)
async def test_an_address_that_is_not_of_this_machine_is_refused(host: str) -> None:
    """As a setting to mend, by name."""
    refusal = await refusal_of(host, 0)

    assert refusal.code == ErrorCode.INVALID_SETTING
    assert repr(host) in refusal.message


async def test_it_starts_once(server: HttpServer) -> None:
    """A second start would leave a socket that nobody closes."""
    await server.start()
    with pytest.raises(RuntimeError):
        await server.start()


async def test_what_needs_a_moment_to_end_still_hears_that_it_was_cut_off() -> None:
    """Its connection is not closed under it while it cleans up."""
    entered = asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, _send: Send) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await one_turn()

    server = HttpServer(slow, "127.0.0.1", 0)
    await server.start()
    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as client:
        asked = asyncio.create_task(client.get(server.url))
        await entered.wait()
        await server.stop()
        answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


async def test_the_port_is_free_again_after_a_stop(server: HttpServer) -> None:
    """Also while old connections time out."""
    await server.start()
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        await client.get(server.url)
        await server.stop()
    again = HttpServer(quiet, "127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    await again.start()
    await again.stop()


async def test_stopping_is_idempotent_and_harmless_before_the_start(server: HttpServer) -> None:
    """Two signals are one."""
    await HttpServer(quiet, "127.0.0.1", 0).stop()
    await server.start()
    await asyncio.gather(server.stop(), server.stop())
    await server.stop()
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient(trust_env=False, verify=False).get(server.url)


async def test_signals_and_logging_stay_with_the_process(server: HttpServer) -> None:
    """Uvicorn by itself would take over SIGINT and configure the root of logging."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    root = list(logging.getLogger().handlers)
    await server.start()

    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert root == logging.getLogger().handlers
    assert not logging.getLogger("uvicorn").handlers


async def test_answers_are_not_held_back_by_the_socket(served: Served) -> None:
    """With Nagle's algorithm each answer would wait 40 ms for an acknowledgement."""
    await served.client.get("/api/health")
    inner = served.http._server
    assert inner is not None
    [connection] = inner.server_state.connections
    ours = connection.transport.get_extra_info("socket")

    assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_stopping_ends_open_streams_in_good_order(served: Served) -> None:
    """Many at once, well under five seconds; each arrives at its end, none is broken off."""

    async def read_to_the_end() -> list[str | None]:
        async with served.client.stream("GET", "/api/events") as response:
            seen = []
            async for frame in frames(response):
                seen.append(frame.event)
                greeted.release()
            return seen

    greeted = asyncio.Semaphore(0)
    readers = [asyncio.ensure_future(read_to_the_end()) for _ in range(20)]
    for _ in readers:
        await greeted.acquire()
    async with asyncio.timeout(STOPPED_WITHIN_S):
        await served.http.stop()

    assert await asyncio.gather(*readers) == [["hello"]] * 20


async def test_stopping_lets_a_short_request_finish(served: Served) -> None:
    """Whoever was let in gets an answer."""
    asking = asyncio.ensure_future(served.client.post("/api/shelf/wait"))
    await served.shelf.entered.wait()
    stopping = asyncio.ensure_future(served.http.stop())
    await asyncio.wait([stopping], timeout=0)
    served.shelf.released.set()
    await stopping

    assert (await asking).json() == {"success": True}


async def test_a_request_whose_body_still_arrives_is_let_in(served: Served) -> None:
    """It is not mistaken for a stream that waits for its client to go away."""
    body = b'{"displayName": "late"}'
    head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with connected(served.http.url) as (reader, writer):
        writer.write(b"POST /api/shelf/items HTTP/1.1\r\n" + head.encode("ascii") + body[:5])
        await writer.drain()
        while not _busy(served):
            await served.client.get("/api/health")
        stopping = asyncio.ensure_future(served.http.stop())
        await asyncio.wait([stopping], timeout=0)
        writer.write(body[5:])
        answer = await reader.read()
        await stopping

    assert answer.startswith(b"HTTP/1.1 201 ")


def _busy(served: Served) -> bool:
    inner = served.http._server
    return inner is not None and bool(inner.server_state.tasks)


async def test_a_request_that_does_not_end_is_cut_off_and_told(served: Served) -> None:
    """In our shape, with the advice to look before repeating it."""
    asking = asyncio.ensure_future(served.client.post("/api/shelf/wait"))
    await served.shelf.entered.wait()
    async with asyncio.timeout(STOPPED_WITHIN_S):
        await served.http.stop()
    answer = await asking

    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


async def test_a_wait_ends_when_its_caller_goes_away(served: Served) -> None:
    """What came afterwards would be taken for somebody who is not there any more."""
    async with asyncio.timeout(30):
        async with connected(served.http.url) as (_, writer):
            head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 0\r\n"
            writer.write(f"POST /api/shelf/poll HTTP/1.1\r\n{head}\r\n".encode("ascii"))
            await served.shelf.entered.wait()
        await served.shelf.cancelled.wait()


async def test_a_wait_that_ends_by_itself_is_answered(served: Served) -> None:
    """Watching for the caller changes nothing for one who stays."""
    asking = asyncio.ensure_future(served.client.post("/api/shelf/poll"))
    await served.shelf.entered.wait()
    served.shelf.released.set()

    assert (await asking).json() == {"success": True}


async def test_a_wait_is_not_answered_when_the_token_has_ended(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came meanwhile is nobody's any more."""
    monkeypatch.setattr(waiting, "TRUSTED_S", 0.0)
    service = TokenService(served.db, served.clock)
    made, secret = await service.create(
        kind=TokenKind.OPERATOR, name="lost", lifetime=timedelta(days=1), actor="a"
    )
    async with served.stranger(Authorization=f"Bearer {secret}") as holder:
        asking = asyncio.ensure_future(holder.post("/api/shelf/poll"))
        await served.shelf.entered.wait()
        await service.revoke(made.id, actor="a")
        served.shelf.released.set()
        answer = await asking

    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")


async def test_a_client_that_never_reads_does_not_hold_up_the_stop(served: Served) -> None:
    """Nor does one that never finishes its request, nor one that sends none."""
    for number in range(30):  # More than the sockets of both sides hold.
        await served.tell(f"{number}", kind="mesh.path.denied", text="x" * 1_000_000)
    head = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    epoch = served.feed.head.epoch
    async with (
        connected(served.http.url) as (_, deaf),
        connected(served.http.url) as (_, slow),
        connected(served.http.url),
    ):
        deaf.write(f"GET /api/events?after={epoch}:0 HTTP/1.1\r\n{head}\r\n".encode("ascii"))
        slow.write(f"POST /api/shelf/items HTTP/1.1\r\n{head}Content-Length: 9\r\n\r\n".encode("ascii"))
        inner = served.http._server
        assert inner is not None
        open_now = inner.server_state.connections
        await settled(served, lambda: any(one.transport.get_write_buffer_size() for one in open_now))
        async with asyncio.timeout(STOPPED_WITHIN_S):
            await served.http.stop()
            while open_now:
                await one_turn()


async def test_a_start_that_fails_leaves_nothing_open() -> None:
    """The port can be taken by others at once."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        await refusal_of("127.0.0.1", port)
    async with serving() as served:
        assert json.loads((await served.client.get("/api/health")).content)["status"] == "ok"
    later = HttpServer(quiet, "127.0.0.1", port)
    await later.start()
    await later.stop()
