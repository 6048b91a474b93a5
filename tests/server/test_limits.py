"""Each limit of a request: its code, what to do about it, and that nothing slips past it."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import annotated_types
import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.operation import McpTool, Operation
from dorkos.server import protocol
from dorkos.server.deadline import answered, arriving
from dorkos.server.operations import OPERATIONS
from tests.db.room import only_more_files
from tests.server.kit import TOKEN, connected, raw, serving

_PAGE_MAX = 1000
# What changes much at once is no page.
_READING = [operation for operation in OPERATIONS if operation.method == "GET"]
HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"


@pytest.mark.parametrize("operation", _READING, ids=lambda operation: operation.name)
def test_every_page_has_a_largest_size(operation: Operation[Any, Any, Any]) -> None:
    """For REST, and for the tool where that takes something else."""
    models = [operation.input]
    if isinstance(operation.mcp, McpTool) and operation.mcp.input is not None:
        models.append(operation.mcp.input)
    for model in models:
        field = model.model_fields.get("limit")
        if field is not None:
            bounds = [bound.le for bound in field.metadata if isinstance(bound, annotated_types.Le)]
            assert bounds, f"{model.__name__}.limit has no largest value"
            assert bounds[0] <= _PAGE_MAX


@pytest.mark.parametrize("place", ["query", "header", "path"])
async def test_an_address_or_headers_beyond_64_kib_are_refused(place: str) -> None:
    """With a code of their own, and a hint what to do with long values."""
    long = "x" * 70_000
    path = {"query": f"/api/status?a={long}", "path": f"/api/{long}"}.get(place, "/api/status")
    extra = f"X-Long: {long}\r\n" if place == "header" else ""
    async with serving() as served:
        answer = await raw(served.http.url, f"GET {path} HTTP/1.1\r\n{HEAD}{extra}\r\n".encode("ascii"))
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"headers_too_large"' in answer
        assert (await served.client.get("/api/status")).status_code == 200


async def test_headers_that_do_not_come_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at first nor later on a connection; one that has asked is not hurried."""
    monkeypatch.setattr(protocol, "HEADERS_WITHIN_S", 0.05)
    async with serving() as served:
        for begun in (b"", b"GET /api/status HT", b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n"):
            assert b'"request_timeout"' in await raw(served.http.url, begun)
        # Longer than a busy machine lets us wait for our own turn to ask.
        monkeypatch.setattr(protocol, "HEADERS_WITHIN_S", 1.0)
        async with connected(served.http.url) as (reader, writer):
            writer.write(f"GET /api/ping HTTP/1.1\r\n{HEAD}\r\nGET /api".encode("ascii"))
            answers = await reader.read()
        assert answers.startswith(b"HTTP/1.1 200 ")
        asking = asyncio.ensure_future(served.client.post("/api/shelf/poll"))
        await served.shelf.entered.wait()
        assert b'"request_timeout"' in await raw(served.http.url, b"")
        served.shelf.released.set()
        assert (await asking).status_code == 200


async def test_whoever_says_nothing_makes_room_for_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has waited longest, and nobody who is being answered."""
    monkeypatch.setattr(protocol, "room_for_connections", lambda: 3)
    ask = f"GET /api/health HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode("ascii")
    async with serving() as served:
        asking = asyncio.ensure_future(served.client.post("/api/shelf/poll"))
        await served.shelf.entered.wait()
        async with connected(served.http.url) as first, connected(served.http.url) as second:
            assert (await raw(served.http.url, ask)).startswith(b"HTTP/1.1 200 ")
            told = await first[0].read()
            assert told.startswith(b"HTTP/1.1 503 ")
            assert b'"too_many_connections"' in told
            second[1].write(ask)
            assert (await second[0].read()).startswith(b"HTTP/1.1 200 ")
        served.shelf.released.set()
        assert (await asking).status_code == 200


def test_room_for_connections_leaves_files_for_the_work() -> None:
    """Runs and the database need some, and with few files connections get half."""
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert 0 < protocol.room_for_connections() <= max(now - 256, now // 2)
    with only_more_files(50):
        few = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert protocol.room_for_connections() == max(few - 256, few // 2) < few


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    """By REST; whoever asked for a wait goes on waiting. The hint tells that a change may be stored."""
    async with serving(request_s=0.05) as served:
        asking = asyncio.ensure_future(served.client.post("/api/shelf/poll"))
        await served.shelf.entered.wait()
        answer = await served.client.post("/api/shelf/wait")
        body = answer.json()
        assert (answer.status_code, body["code"]) == (503, "request_timeout")
        assert "look before you repeat it" in body["hint"]
        assert served.shelf.cancelled.is_set()
        served.shelf.released.set()
        assert (await asking).status_code == 200


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    """Nothing was done, and the answer says so; for a tool as well."""
    async with serving(request_s=0.05) as served:
        for path in ("/api/shelf/items", "/mcp"):
            request = f"POST {path} HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n{{"
            async with connected(served.http.url) as (reader, writer):
                writer.write(request.encode("ascii"))
                said = await reader.readuntil(b"}")
            assert b'"request_timeout"' in said
        assert served.shelf.asked == []


async def test_a_deadline_further_inside_is_not_taken_for_this_one() -> None:
    """It is a fault of its own, whose message says something else."""

    async def inner() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await answered(60, inner(), changes=False)
    with pytest.raises(DorkError) as refusal:
        await arriving(0, asyncio.Event().wait())
    assert refusal.value.code is ErrorCode.REQUEST_TIMEOUT
