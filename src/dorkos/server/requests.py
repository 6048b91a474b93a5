"""Every request has an id: in its answer, in what it is refused with, and in what is logged meanwhile."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dorkos.ids import new_id
from dorkos.logs import REQUEST

log = logging.getLogger("dorkos.requests")

HEADER = "X-Request-Id"
# What a proxy in front of this server may have called the request already.
_GIVEN = re.compile(r"[0-9A-Za-z._-]{8,64}")
_PATH_MAX = 200


@dataclass
class Traffic:
    """Requests since the start, counted by method and status, and the seconds that they took in all.

    A stream counts when it ends, and its seconds do not: they say how long somebody watched.
    """

    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: float = 0.0
    timed: int = 0


class Requests:
    """ASGI middleware, the outermost: names each request, and tells what became of it."""

    def __init__(self, app: ASGIApp, *, traffic: Traffic) -> None:
        """`traffic` is counted on."""
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, under an id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _GIVEN.fullmatch(given) else new_id()
        token = REQUEST.set(request_id)
        answer: Message = {}
        begun = time.perf_counter()

        async def naming_send(message: Message) -> None:
            nonlocal answer
            if message["type"] == "http.response.start":
                answer = message
                MutableHeaders(raw=message["headers"])[HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, receive, naming_send)
        finally:
            self._tell(scope, answer, time.perf_counter() - begun)
            REQUEST.reset(token)

    def _tell(self, scope: Scope, answer: Message, seconds: float) -> None:
        status = answer.get("status", 0)  # 0: nobody was left to be answered.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._traffic.answered[(method, status)] += 1
        if not _is_stream(answer):
            self._traffic.seconds += seconds
            self._traffic.timed += 1
        # The query is left out: it may hold what is nobody's business.
        told = {"method": method, "path": scope["path"][:_PATH_MAX], "status": status}
        log.debug("request", extra={**told, "ms": round(seconds * 1000, 1)})


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _is_stream(answer: Message) -> bool:
    return (b"content-type", b"text/event-stream") in [
        (name.lower(), value.split(b";")[0]) for name, value in answer.get("headers", ())
    ]
