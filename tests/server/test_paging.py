"""Lists that go on: the next place is in a header, the list itself stays bare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dorkos.identity.model import OPERATOR, Caller
from dorkos.operation import Operation, Wire
from dorkos.server.rest import endpoint_of
from dorkos.vocabulary import Scope


class Numbers(Wire):
    """How many, from behind which."""

    cursor: int = 0
    limit: int = 2


async def _numbers(_part: object, _caller: Caller, asked: Numbers) -> list[int]:
    return list(range(asked.cursor + 1, 6))[: asked.limit]


LIST: Operation[Any, Any, Any] = Operation(
    "numbers", "Count", "any", "GET", "/numbers", Scope.OBSERVE, Numbers, list[int], _numbers
)


def _next(asked: Numbers, page: list[int]) -> str | None:
    return str(page[-1]) if len(page) == asked.limit else None


async def _get(operation: Operation[Any, Any, Any], cursor: str) -> httpx.Response:
    async def answer(request: Request) -> Response:
        request.state.caller = OPERATOR  # What the gate in front of every operation leaves there.
        return await endpoint_of(operation, None, max_body_bytes=1000)(request)

    transport = httpx.ASGITransport(app=Starlette(routes=[Route("/numbers", answer)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get("/numbers", params={"cursor": cursor})


async def test_a_list_says_where_it_goes_on() -> None:
    """Following the header reads everything once; the last page names no next."""
    seen: list[int] = []
    cursor: str | None = "0"
    while cursor is not None:
        answer = await _get(replace(LIST, next_page=_next), cursor)
        seen += answer.json()
        cursor = answer.headers.get("X-Next-Cursor")
    assert seen == [1, 2, 3, 4, 5]


async def test_other_lists_have_no_such_header() -> None:
    """Only what can be gone on with says so."""
    assert "X-Next-Cursor" not in (await _get(LIST, "0")).headers
