"""`GET /metrics`: how the system does, as Prometheus reads it. Numbers come from what was committed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from dorkos.identity.model import OPERATOR
from dorkos.operation import Operation
from dorkos.server.answers import HEADERS
from dorkos.server.auth import caller_of_request
from dorkos.server.health import ReadinessCheck, look_at
from dorkos.server.requests import Traffic
from dorkos.server.sse import Seats
from dorkos.server.system import SystemService
from dorkos.vocabulary import Scope

PATH = "/metrics"
_KIND = "text/plain; version=0.0.4; charset=utf-8"
# Events that are counted by a word of their data as well.
APART = {
    "pulse.run.finished": "state",
    "pulse.slot.decided": "verdict",
    "relay.message.dead_lettered": "reason",
}


class EventCounts:
    """Committed events since the server began, whichever server made them; counted when somebody asks."""

    def __init__(self, system: SystemService) -> None:
        """Nothing is counted yet. The first `read` begins where the feed stands then."""
        self._system = system
        self._after: int | None = None
        self._one_by_one = asyncio.Lock()
        self.by_kind: Counter[str] = Counter()
        self.apart: dict[str, Counter[str]] = {kind: Counter() for kind in APART}

    async def read(self) -> None:
        """Count what was committed since the last time."""
        async with self._one_by_one:
            if self._after is None:
                self._after = self._system.feed.head.position
            new = await self._system.events_after(self._after, APART)
            self._after = new.position
            self.by_kind.update(new.by_kind)
            for kind, data in new.apart:
                self.apart[kind][str(data.get(APART[kind]))] += 1


@dataclass(frozen=True)
class Sources:
    """What is asked for numbers. `operations` are those that are served, `parts` what they work on."""

    system: SystemService
    readiness: Sequence[ReadinessCheck]
    traffic: Traffic
    seats: Seats
    events: EventCounts
    operations: Mapping[str, Operation[Any, Any, Any]]
    parts: Mapping[str, object]

    async def answer(self, name: str) -> Any:
        """What an operation without arguments answers; None where it is not served."""
        operation = self.operations.get(name)
        if operation is None:
            return None
        return await operation.handler(self.parts[operation.part], OPERATOR, operation.input())


def metrics_endpoint(sources: Sources) -> Callable[[Request], Awaitable[Response]]:
    """What answers `GET /metrics`."""

    async def answer(request: Request) -> Response:
        from dorkos.server import metric_families

        caller_of_request(request).require(Scope.OBSERVE)
        checks = await look_at(sources.readiness)
        await sources.events.read()
        page = metric_families.page(
            status=await sources.answer("status"),
            relay=await sources.answer("relay.delivery_metrics"),
            mesh=await sources.answer("mesh.status"),
            checks=[(check.name, check.ok) for check in checks],
            by_kind=sources.events.by_kind,
            apart={kind: (APART[kind], counts) for kind, counts in sources.events.apart.items()},
            traffic=sources.traffic,
            streams=sources.seats.taken,
        )
        return Response(page, headers={**HEADERS, "Content-Type": _KIND})

    return answer
