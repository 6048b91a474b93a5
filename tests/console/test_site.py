"""A page, and the place in the stream of events from which it is to be kept up."""

from __future__ import annotations

import re
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from dorkos.clock import ManualClock
from dorkos.console.desk import Desk
from dorkos.console.site import page_endpoint
from dorkos.console.visit import Page, Visit
from dorkos.db.database import Database
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.operation import Operation
from dorkos.pulse.operations import OPERATIONS
from dorkos.vocabulary import Scope as Right


async def _nothing(*_: object) -> Any:
    return []


async def _running(*_: object) -> Any:
    return {"mode": "running"}


def _frame_operations() -> list[Operation[Any, Any, Any]]:
    """What every page asks for, answered without the subsystems."""
    approvals = next(each for each in OPERATIONS if each.name == "pulse.approvals.list")
    return [
        Operation(name, name, "pulse", "GET", "/x", Right.OBSERVE, approvals.input, object, handler)
        for name, handler in (("pulse.approvals.list", _nothing), ("fleet.show", _running))
    ]


async def test_what_happens_while_a_page_is_made_comes_after_it(db: Database, clock: ManualClock) -> None:
    """The page may show the state of before, so the event has to make it load anew."""
    feed = EventFeed(db, interval_s=3600)
    await feed.start()
    before = feed.head

    async def handler(visit: Visit) -> Page:
        seen = feed.watch(before)
        await db.write(lambda tx: tx.emit("pulse.run.cancelled", "a run"))
        await anext(seen)
        return Page("search.html", "A page", {"words": "", "groups": {}})

    desk = Desk(_frame_operations(), {"pulse": object()}, feed=feed, clock=clock)
    site = Starlette()
    site.add_route("/page", page_endpoint(handler, desk))

    async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        request.state.caller = Caller("relay.human.kim", frozenset({Right.OBSERVE}))
        request.state.session = None
        await site(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=let_in), base_url="http://x") as client:
        shown = (await client.get("/page")).text
    cursor = re.search('data-cursor="([^"]+)"', shown)
    assert cursor is not None
    assert cursor[1] == str(before)
    assert feed.head != before
    await feed.stop()
