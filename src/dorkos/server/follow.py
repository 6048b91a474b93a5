"""`GET /api/pulse/runs/{id}/output/stream`: what a run prints, from any place, until it is over.

`GET …/output` gives the same stream to whoever accepts `text/event-stream` rather than JSON.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.operation import Operation
from dorkos.server.address import path_values, query_values
from dorkos.server.auth import caller_of_request
from dorkos.server.inputs import from_query
from dorkos.server.rest import Endpoint
from dorkos.server.sse import EventStream, StreamLimits, frame
from dorkos.server.stream import place_of

_PAGE = 100
# After these there may be more to read.
_NEWS = ("pulse.run.output", "pulse.run.finished")


def output_endpoint(
    page: Operation[Any, Any, Any],
    run: Operation[Any, Any, Any],
    pulse: object,
    *,
    feed: EventFeed,
    limits: StreamLimits,
) -> Endpoint:
    """Follow the operation `page`, which reads output behind a number; `run` shows the run itself.

    Frames are `output` {seq, stream, at, text} with `seq` as id, and at last `end` {state}.
    """

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request)
        caller.require(page.scope)
        run_id = path_values(request.path_params)["id"]
        after = _number(place_of(request, query_values(request.scope["query_string"])))
        # Raised here, a run that does not exist is a refusal; later it would be a broken stream.
        await run.handler(pulse, caller, from_query(run.input, {"id": run_id}))
        frames = follow(run_id, after, caller)
        return EventStream(request, frames, limits=limits, position=lambda: None)

    async def follow(run_id: str, after: int, caller: Caller) -> AsyncGenerator[bytes]:
        # The place in the events is taken before the first look, so that no news falls in between.
        async with aclosing(feed.watch(feed.head)) as events:
            while True:
                given = page.input(id=run_id, after=after, limit=_PAGE)
                found = await page.handler(pulse, caller, given)
                for chunk in found.chunks:
                    after = chunk.seq
                    yield frame("output", chunk.model_dump(mode="json", by_alias=True), frame_id=str(after))
                if found.final:
                    state = (await run.handler(pulse, caller, run.input(id=run_id))).state
                    yield frame("end", {"state": state})
                    return
                if len(found.chunks) == _PAGE:
                    continue
                async for event in events:
                    if event.entity_id == run_id and event.kind in _NEWS:
                        break
                else:
                    return  # The server stops; the client goes on after the last id.

    return answer


def by_accept(page: Endpoint, stream: Endpoint) -> Endpoint:
    """`stream` for whoever asks for `text/event-stream` rather than for JSON, `page` for all others.

    Only what is named counts: `*/*` is as well served by the page.
    """

    async def answer(request: Request) -> Response:
        weights = _weights(",".join(request.headers.getlist("accept")))
        streamed = weights.get("text/event-stream", 0.0) > weights.get("application/json", 0.0)
        return await (stream if streamed else page)(request)

    return answer


def _weights(accept: str) -> dict[str, float]:
    """The media types of an Accept header, each with its weight; one that cannot be read weighs nothing."""
    weights = {}
    for entry in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            weights[kind] = float(weight)
        except ValueError:
            weights[kind] = 0.0
    return weights


def _number(place: str | None) -> int:
    if place is None:
        return 0
    if not place.isascii() or not place.isdigit() or len(place) > 18:
        raise DorkError(
            ErrorCode.INVALID_CURSOR,
            f"{place[:100]!r} is not the number of a piece of output.",
            hint="Use the `id` of the last frame you received, or leave it out to begin at the start.",
        )
    return int(place)
