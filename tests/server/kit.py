"""A server with a small subsystem of its own, on a real database and a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from pydantic import Field

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.node import Node
from dorkos.operation import Nothing, Operation, Success, Wire
from dorkos.server.asgi import create_app
from dorkos.server.auth import Authenticator
from dorkos.server.health import ReadinessCheck
from dorkos.server.http import HttpServer
from dorkos.server.sessions import SESSIONS, BrowserSessions
from dorkos.server.sse import KEEPALIVE_S, STALL_S
from dorkos.server.status import SYSTEM
from dorkos.server.system import SystemService
from dorkos.setting_groups.server import ServerSettings
from dorkos.testing import create_test_db
from dorkos.vocabulary import Scope

TOKEN = "dork_operator-of-the-tests"
BODY_LIMIT = 2 * 1024 * 1024


@dataclass
class Shelf:
    """The subsystem: it remembers what it was asked, and stands still when told to."""

    asked: list[Any] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


class Item(Wire):
    item_id: str
    page_size: int | None = Field(default=None, ge=1, le=100)
    is_open: bool | None = None
    note: str | None = None


class NewItem(Wire):
    display_name: str = Field(min_length=1, max_length=20)
    copies: int = 1
    due_at: datetime | None = None
    payload: Any = None
    place: Place | None = None


class Place(Wire):
    room: str


class Renamed(Wire):
    item_id: str
    display_name: str


class Seen(Wire):
    item_id: str | None = None
    display_name: str | None = None
    note: str | None = None
    payload: Any = None


async def _look(shelf: Shelf, caller: Caller, asked: Item) -> Seen:
    shelf.asked.append(asked)
    shelf.callers.append(caller)
    return Seen(item_id=asked.item_id, note=asked.note)


async def _add(shelf: Shelf, caller: Caller, asked: NewItem) -> Seen:
    shelf.asked.append(asked)
    return Seen(display_name=asked.display_name, payload=asked.payload)


async def _rename(shelf: Shelf, caller: Caller, asked: Renamed) -> Seen:
    shelf.asked.append(asked)
    return Seen(item_id=asked.item_id, display_name=asked.display_name)


async def _several(shelf: Shelf, caller: Caller, asked: Nothing) -> list[Seen]:
    return [Seen(note="one"), Seen(note="two")]


async def _break(shelf: Shelf, caller: Caller, asked: Nothing) -> Success:
    raise RuntimeError("the password is swordfish")


async def _refuse(shelf: Shelf, caller: Caller, asked: Nothing) -> Success:
    raise DorkError(ErrorCode.CONFLICT, "Taken.", hint="Take another.", details={"by": "kim"})


async def _wait(shelf: Shelf, caller: Caller, asked: Nothing) -> Success:
    shelf.entered.set()
    try:
        await shelf.released.wait()
    except asyncio.CancelledError:
        shelf.cancelled.set()
        raise
    return Success()


_ITEMS = "/api/shelf/items"


def _operation(
    name: str, address: tuple[Any, str], shapes: tuple[Any, Any], handler: Any, **more: Any
) -> Operation[Any, Any, Any]:
    scope = more.pop("scope", Scope.OPERATE)
    return Operation(f"shelf.{name}", name, "shelf", *address, scope, *shapes, handler, **more)


SHELF = (
    _operation("look", ("GET", f"{_ITEMS}/{{itemId}}"), (Item, Seen), _look, scope=Scope.OBSERVE),
    _operation("add", ("POST", _ITEMS), (NewItem, Seen), _add, status=201),
    _operation("rename", ("PATCH", f"{_ITEMS}/{{itemId}}"), (Renamed, Seen), _rename),
    _operation("remove", ("DELETE", f"{_ITEMS}/{{itemId}}"), (Item, Seen), _look),
    _operation("all", ("GET", f"{_ITEMS}/all"), (Nothing, list[Seen]), _several),
    _operation("break", ("POST", "/api/shelf/break"), (Nothing, Success), _break),
    _operation("refuse", ("POST", "/api/shelf/refuse"), (Nothing, Success), _refuse),
    _operation("wait", ("POST", "/api/shelf/wait"), (Nothing, Success), _wait),
    _operation("poll", ("POST", "/api/shelf/poll"), (Nothing, Success), _wait, waits=True),
)


@dataclass
class Served:
    """A running server and what it stands on."""

    http: HttpServer
    client: httpx.AsyncClient
    shelf: Shelf
    db: Database
    feed: EventFeed
    clock: ManualClock
    authenticate: Authenticator

    async def emit(self, *names: str, kind: str = "system.node.started") -> None:
        """One commit with an event for each name."""
        for name in names:
            await self.tell(name, kind=kind)

    async def tell(self, name: str, *, kind: str, text: str = "") -> None:
        """One commit with an event of this size."""
        await self.db.write(lambda tx: tx.emit(kind, name, {"text": text}))

    def stranger(self, **headers: str) -> httpx.AsyncClient:
        """A client that sends these headers and no token of its own."""
        return httpx.AsyncClient(
            base_url=self.http.url, headers=headers, timeout=30, trust_env=False, verify=False
        )


def _settings(host: str, max_streams: int, request_s: float) -> ServerSettings:
    settings = ServerSettings(host=host, max_streams=max_streams, max_body_bytes=BODY_LIMIT)
    # Less than a person may set, so that no test waits for a second.
    return settings.model_copy(update={"request_seconds": request_s})


@asynccontextmanager
async def serving(
    *,
    operations: Sequence[Any] = (*SYSTEM, *SESSIONS, *SHELF),
    parts: Mapping[str, object] | None = None,
    readiness: Sequence[ReadinessCheck] = (),
    host: str = "127.0.0.1",
    max_streams: int = 50,
    keepalive_s: float = KEEPALIVE_S,
    stall_s: float = STALL_S,
    request_s: float = 60,
) -> AsyncGenerator[Served]:
    """A server on a free loopback port, stopped at the end of the block."""
    clock, shelf = ManualClock(), Shelf()
    async with create_test_db("sqlite", clock=clock) as db:
        feed = EventFeed(db)
        await feed.start()
        system = SystemService(
            database=db,
            clock=clock,
            node=Node("01HZZZZZZZZZZZZZZZZZZZZZZZ", "host", "boot", 1),
            feed=feed,
            started_at=clock.now(),
            version="1.2.3",
            describe=lambda: {"home": "/srv/dork", "pulse": {"enabled": True}},
        )
        authenticate = Authenticator(db, clock, TOKEN)
        app = create_app(
            {"shelf": shelf, **(parts or {})},
            system=system,
            feed=feed,
            settings=_settings(host, max_streams, request_s),
            authenticate=authenticate,
            sessions=BrowserSessions(db, clock),
            readiness=readiness,
            operations=operations,
            keepalive_s=keepalive_s,
            stall_s=stall_s,
        )
        http = HttpServer(app, "127.0.0.1", 0)
        await http.start()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        # Nobody speaks TLS here: to load whom to trust then would take longer than most tests do.
        client = httpx.AsyncClient(
            base_url=http.url, headers=headers, timeout=30, trust_env=False, verify=False
        )
        try:
            async with client:
                yield Served(http, client, shelf, db, feed, clock, authenticate)
        finally:
            await http.stop()
            await feed.stop()


async def one_turn() -> None:
    """Let everything that can go on do so once."""
    loop = asyncio.get_running_loop()
    turned = loop.create_future()
    loop.call_soon(turned.set_result, None)
    await turned


# Long beside what any stop may take on a busy machine, short beside for ever, which is the alternative.
STOPPED_WITHIN_S = 30.0


async def settled(served: Served, condition: Callable[[], bool]) -> None:
    """Keep the server's loop turning until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await served.client.get("/api/health")


@dataclass(frozen=True)
class Frame:
    """One frame of a stream. A sign of life has neither event nor data."""

    id: str | None
    event: str | None
    data: Any


async def frames(response: httpx.Response) -> AsyncIterator[Frame]:
    """The frames of a stream, comments left out. Ends with the stream."""
    text = ""
    async for chunk in response.aiter_text():
        text += chunk
        *whole, text = text.split("\n\n")
        for block in whole:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if fields:
                data = json.loads(fields["data"]) if "data" in fields else None
                yield Frame(fields.get("id"), fields.get("event"), data)


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection, for what no client library would send."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()


async def raw(url: str, request: bytes) -> bytes:
    """Everything the server says to these bytes, until it closes."""
    async with connected(url) as (reader, writer):
        writer.write(request)
        await writer.drain()
        return await reader.read()
