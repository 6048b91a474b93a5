"""`POST /api/mesh/discover/stream`: what a discovery finds, as soon as it is found."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import DorkError
from dorkos.mesh.model import Candidate, Problem, Progress, SearchEnd
from dorkos.mesh.scans import Finding
from dorkos.mesh.service import MeshService
from dorkos.mesh.wire import show_candidate, show_problem
from dorkos.operation import Operation, Wire
from dorkos.server.auth import caller_of_request
from dorkos.server.body import read_object
from dorkos.server.deadline import arriving
from dorkos.server.inputs import from_json
from dorkos.server.rest import Endpoint
from dorkos.server.sse import EventStream, StreamLimits, frame


def search_endpoint(
    discover: Operation[Any, Any, Any],
    mesh: MeshService,
    *,
    limits: StreamLimits,
    max_body_bytes: int,
    within_s: float,
) -> Endpoint:
    """Do what the operation `discover` does, with its input and scope, and tell it piece by piece.

    Frames are `candidate` and `problem` as in the operation's answer; `progress` {directories, waiting,
    candidates, problems} some four times a second; at last `end`, with the same and {truncated,
    truncatedBy}, or `refused`, with a refusal that came too late for a status. Whoever goes away ends the
    search.
    """

    async def answer(request: Request) -> Response:
        caller_of_request(request).require(discover.scope)
        given = await arriving(within_s, read_object(request, limit=max_body_bytes))
        asked = from_json(discover.input, given)
        found = await mesh.explorer.search(asked.roots, max_depth=asked.max_depth)
        return EventStream(request, _frames(found), limits=limits, position=lambda: None)

    return answer


async def _frames(search: AsyncGenerator[Finding]) -> AsyncGenerator[bytes]:
    async with aclosing(search):
        try:
            async for found in search:
                yield _frame(found)
        except DorkError as refusal:
            yield frame("refused", refusal.body())


def _frame(found: Finding) -> bytes:
    if isinstance(found, Candidate):
        return frame("candidate", _wire(show_candidate(found)))
    if isinstance(found, Problem):
        return frame("problem", _wire(show_problem(found)))
    if isinstance(found, SearchEnd):
        by = found.truncated
        end = {**_progress(found.progress), "truncated": by is not None, "truncatedBy": by}
        return frame("end", end)
    return frame("progress", _progress(found))


def _progress(progress: Progress) -> dict[str, object]:
    return {
        "directories": progress.directories,
        "waiting": progress.waiting,
        "candidates": progress.candidates,
        "problems": progress.problems,
    }


def _wire(answer: Wire) -> object:
    return answer.model_dump(mode="json", by_alias=True)
