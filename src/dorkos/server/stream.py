"""`GET /api/events` and `GET /api/relay/stream`: what was committed, in order and without gaps."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from dorkos import __version__
from dorkos.clock import Clock, iso
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EVENT_KINDS, Cursor, Event, EventFeed
from dorkos.relay.subjects import matches, validate_pattern
from dorkos.server.address import query_values
from dorkos.server.auth import caller_of_request
from dorkos.server.rest import Endpoint
from dorkos.server.sse import EventStream, StreamLimits, frame
from dorkos.vocabulary import Scope

TOPICS = tuple(dict.fromkeys(kind.split(".", 1)[0] for kind in EVENT_KINDS))

# Frames that are kept, for all who watch to send.
_SHARED = 200
# How long a watcher rests after a piece, for each that watches; at most a second.
_REST_S, _REST_MAX_S = 0.002, 1.0
_PIECE_BYTES = 64 * 1024

_PRESSURE = "relay.endpoint.pressure"
_WATCHED = frozenset({"relay.message.published", _PRESSURE})

# How many events of a page are made ready at once: one of their frames may have megabytes.
_AT_ONCE = 20

# Events with the ids of their frames.
Events = Sequence[tuple[Event, str]]
# Makes the frames of events, in their order; None leaves one out.
Render = Callable[[Events], Awaitable[Sequence[bytes | None]]]
# Reads messages by their ids, as they are shown; those that are gone are left out.
ReadMessages = Callable[[Sequence[str]], Awaitable[Mapping[str, BaseModel]]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where streams come from. `span` tells the positions between which the database holds every event."""

    feed: EventFeed
    span: Callable[[], Awaitable[tuple[int, int]]]
    limits: StreamLimits


class SharedFrames:
    """Frames of the newest events, each made once for all who watch."""

    def __init__(self, render: Render) -> None:
        """None was made; `render` makes them."""
        self._render = render
        self._made: OrderedDict[str, asyncio.Future[bytes | None]] = OrderedDict()
        self._making: set[asyncio.Task[None]] = set()

    def begin(self, events: Events) -> None:
        """Make the frames of several events together, where nobody has begun to. `get` waits for them."""
        new = [each for each in events if each[1] not in self._made]
        if not new:
            return
        loop = asyncio.get_running_loop()
        promised = [loop.create_future() for _ in new]
        for (_, event_id), future in zip(new, promised, strict=True):
            self._made[event_id] = future
            if len(self._made) > _SHARED:
                self._made.popitem(last=False)
        task = asyncio.create_task(self._fulfil(new, promised))
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def get(self, event: Event, event_id: str) -> bytes | None:
        """The frame of an event. Raises what kept it from being made; it is made again for the next."""
        self.begin([(event, event_id)])
        # Whoever asked first may go away; the others go on waiting.
        return await asyncio.shield(self._made[event_id])

    async def _fulfil(self, new: Events, promised: Sequence[asyncio.Future[bytes | None]]) -> None:
        try:
            made = await self._render(new)
        except Exception as fault:  # noqa: BLE001  # Whoever waits for one of them is told.
            for (_, event_id), future in zip(new, promised, strict=True):
                self._made.pop(event_id, None)
                future.set_exception(fault)
                future.exception()  # Nobody may have waited for this one.
            return
        for (_, event_id), future, one in zip(new, promised, made, strict=True):
            future.set_result(one)
            if one is not None and len(one) > _PIECE_BYTES:
                # Few of these would fill the memory: who comes to it later has it made again.
                self._made.pop(event_id, None)


class Watch:
    """One watcher's way through the events: what it sends, and how far it has come."""

    def __init__(
        self,
        source: Source,
        after: Cursor,
        opening: Sequence[bytes],
        frames: SharedFrames,
        is_wanted: Callable[[Event], bool],
    ) -> None:
        """Send `opening`, then the frames of those events after `after` that are wanted."""
        self._feed = source.feed
        self._seats = source.limits.seats
        self._opening = opening
        self._frames = frames
        self._is_wanted = is_wanted
        self.cursor = after

    def position(self) -> str:
        """The id to resume from. Events that were left out count as seen."""
        return str(self.cursor)

    async def frames(self) -> AsyncGenerator[bytes]:
        """Frames until the feed stops."""
        for greeting in self._opening:
            yield greeting
        async with aclosing(self._feed.pages(self.cursor)) as pages:
            async for page in pages:
                async for piece in self._pieces(page):
                    yield piece
                    # With many who watch each sees more at once instead of waking for each event, so that
                    # all of them together take a bounded part of the server's time.
                    await asyncio.sleep(min(_REST_S * self._seats.taken, _REST_MAX_S))

    async def _pieces(self, page: Sequence[Event]) -> AsyncGenerator[bytes]:
        """Whole frames of the events, many of them in one piece."""
        epoch, waiting, cursor = self.cursor.epoch, b"", self.cursor
        for number, event in enumerate(page):
            if number % _AT_ONCE == 0:
                ahead = filter(self._is_wanted, page[number : number + _AT_ONCE])
                self._frames.begin([(each, str(Cursor(epoch, each.position))) for each in ahead])
            cursor = Cursor(epoch, event.position)
            if self._is_wanted(event):
                waiting += await self._frames.get(event, str(cursor)) or b""
            if len(waiting) >= _PIECE_BYTES:
                # Moves only here and below, in one step with handing the frames over: a sign of life sent in
                # between must not name a position whose frame is still on its way.
                self.cursor = cursor
                yield waiting
                waiting = b""
        self.cursor = cursor
        if waiting:
            yield waiting


def events_endpoint(source: Source) -> Endpoint:
    """What answers `GET /api/events`."""

    async def render(events: Events) -> list[bytes | None]:
        return [frame(event.kind, wire(event), frame_id=event_id) for event, event_id in events]

    frames = SharedFrames(render)

    async def answer(request: Request) -> Response:
        caller_of_request(request).require(Scope.OBSERVE)
        query = query_values(request.scope["query_string"])
        topics = _choice(query, "topics", TOPICS)
        kinds = _choice(query, "kinds", tuple(EVENT_KINDS))

        def is_wanted(event: Event) -> bool:
            return (not topics or event.topic in topics) and (not kinds or event.kind in kinds)

        start, is_reset = await _start(request, query, source)
        greeting = {"cursor": str(start), "version": __version__}
        names = ("reset", "hello") if is_reset else ("hello",)
        opening = [frame(name, greeting, frame_id=str(start)) for name in names]
        return _stream(request, source, Watch(source, start, opening, frames, is_wanted))

    return answer


def messages_endpoint(source: Source, scope: Scope | None, read: ReadMessages, clock: Clock) -> Endpoint:
    """What answers `GET /api/relay/stream`: messages whose subject matches a pattern, and the warnings of
    mailboxes that fill up. Nothing is consumed.

    Whoever has `scope` may watch. What `read` finds is shown to everybody alike, so it is read once for all,
    and for a page of events at once.
    """

    async def render(events: Events) -> list[bytes | None]:
        published = [event.entity_id for event, _ in events if event.kind != _PRESSURE]
        # A message may have been deleted since; its event outlives it.
        found = await read(published) if published else {}
        return [_frame_of(event, event_id, found.get(event.entity_id)) for event, event_id in events]

    frames = SharedFrames(render)

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request)
        caller.require(scope)
        query = query_values(request.scope["query_string"])
        pattern = query.get("subject") or ">"
        validate_pattern(pattern)

        def is_wanted(event: Event) -> bool:
            if event.kind not in _WATCHED:
                return False
            subject = event.data.get("subject")
            return isinstance(subject, str) and matches(subject, pattern)

        start, is_reset = await _start(request, query, source)
        # With `reset` the place that was asked for does not exist, and messages may be missing before this.
        greeting = {"pattern": pattern, "connectedAt": iso(clock.now()), "reset": is_reset}
        opening = [frame("relay_connected", greeting, frame_id=str(start))]
        return _stream(request, source, Watch(source, start, opening, frames, is_wanted))

    return answer


def _frame_of(event: Event, event_id: str, message: BaseModel | None) -> bytes | None:
    if event.kind == _PRESSURE:
        return frame("relay_backpressure", _signal(event), frame_id=event_id)
    if message is None:
        return None
    return frame("relay_message", message.model_dump(mode="json", by_alias=True), frame_id=event_id)


def _signal(event: Event) -> dict[str, object]:
    """A warning in the words of the lineage, where it was a signal: told, and never stored."""
    return {
        "type": "backpressure",
        "state": event.data["state"],
        "endpointSubject": event.data["subject"],
        "timestamp": iso(event.at),
        "data": {"pressure": event.data["pressure"], "currentSize": event.data["pendingCount"]},
    }


def wire(event: Event) -> dict[str, object]:
    """An event as it is sent."""
    return {
        "position": event.position,
        "kind": event.kind,
        "entityId": event.entity_id,
        "actor": event.actor,
        "at": iso(event.at),
        "data": event.data,
    }


def place_of(request: Request, query: dict[str, str]) -> str | None:
    """Where the client wants to go on. One that reconnects repeats its address and adds the header."""
    return request.headers.get("last-event-id") or query.get("after") or None


def _stream(request: Request, source: Source, watch: Watch) -> Response:
    return EventStream(request, watch.frames(), limits=source.limits, position=watch.position)


async def _start(request: Request, query: dict[str, str], source: Source) -> tuple[Cursor, bool]:
    """Where to begin, and whether that is not the place that was asked for since there is none such.

    Decided before the first frame is read: what is committed in between must not be left out.
    """
    head = source.feed.head
    place = place_of(request, query)
    if place is None:
        return head, False
    after = Cursor.parse(place)
    if after.epoch != head.epoch:
        return head, True
    oldest, newest = await source.span()
    # What came next may have been taken away. Or it is ahead: this server may be a moment behind the
    # database, but a place ahead of both was never given out.
    if after.position < oldest or after.position > max(head.position, newest):
        return head, True
    return after, False


def _choice(query: dict[str, str], name: str, known: tuple[str, ...]) -> frozenset[str]:
    chosen = frozenset(word.strip() for word in query.get(name, "").split(",") if word.strip())
    for word in sorted(chosen):
        if word not in known:
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                "Validation failed",
                hint=f"`{name}`: there is no {word[:100]!r}; known are {', '.join(known)}.",
                details={"formErrors": [], "fieldErrors": {name: [f"Unknown: {word[:100]}"]}},
            )
    return chosen
