"""The application that the HTTP server serves: all routes, behind one gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dorkos.console.desk import Desk
from dorkos.console.refusals import answer_refusal
from dorkos.console.site import add_console
from dorkos.events import EventFeed
from dorkos.mesh.service import MeshService
from dorkos.operation import Operation
from dorkos.relay.adapters.service import AdapterService
from dorkos.relay.operations import messages_of
from dorkos.relay.service import RelayService
from dorkos.server import docs, openapi
from dorkos.server.answers import HEADERS, json_answer, to_bytes
from dorkos.server.auth import Authenticate, Gate, caller_of_request, names_of
from dorkos.server.failures import Failures
from dorkos.server.faults import Faults, http_refusals
from dorkos.server.follow import by_accept, output_endpoint
from dorkos.server.health import ReadinessCheck, health_endpoint, ready_endpoint
from dorkos.server.mcp.endpoint import PATH as MCP_PATH
from dorkos.server.mcp.endpoint import McpEndpoint
from dorkos.server.metrics import PATH as METRICS_PATH
from dorkos.server.metrics import EventCounts, Sources, metrics_endpoint
from dorkos.server.operations import OPERATIONS
from dorkos.server.paths import OTHER_PATHS
from dorkos.server.requests import Requests, Traffic
from dorkos.server.rest import endpoint_of, in_order
from dorkos.server.search import search_endpoint
from dorkos.server.sessions import BrowserSessions
from dorkos.server.sse import KEEPALIVE_S, STALL_S, Seats, StreamLimits
from dorkos.server.stream import Source, events_endpoint, messages_endpoint
from dorkos.server.system import SystemService
from dorkos.server.webhooks import PATH as WEBHOOK_PATH
from dorkos.server.webhooks import webhook_endpoint
from dorkos.setting_groups.server import ServerSettings
from dorkos.vocabulary import Scope

_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def create_app(
    parts: Mapping[str, object],
    *,
    system: SystemService,
    feed: EventFeed,
    settings: ServerSettings,
    authenticate: Authenticate,
    sessions: BrowserSessions,
    readiness: Sequence[ReadinessCheck],
    operations: Sequence[Operation[Any, Any, Any]] = OPERATIONS,
    keepalive_s: float = KEEPALIVE_S,
    stall_s: float = STALL_S,
) -> FastAPI:
    """Put the routes together. `parts` holds the subsystems by the names that operations give them.

    `system` and `sessions` are the parts of those names. The feed has to be started before the
    first request. An operation whose part is missing fails here, not when it is first called.
    """
    app = _Api(operations, version=system.version)
    seats, traffic = Seats(settings.max_streams), Traffic()
    streams = StreamLimits(seats, keepalive_s, stall_s, lambda: feed.credential_end)
    source = Source(feed, system.event_span, streams)
    served = {**parts, "system": system, "sessions": sessions}
    app.add_route("/api/health", health_endpoint(system.version, system.uptime_s))
    app.add_route("/api/ready", ready_endpoint(readiness))
    app.add_route("/api/events", events_endpoint(source))
    app.add_route("/api/openapi.json", _page_endpoint(lambda: json_answer(to_bytes(app.openapi()))))
    app.add_route("/api/docs", _page_endpoint(lambda: _html(docs.page(app.openapi()))))
    named = {operation.name: operation for operation in operations}
    sources = Sources(system, readiness, traffic, seats, EventCounts(system), named, served)
    app.add_route(METRICS_PATH, metrics_endpoint(sources))
    # First, since one of them answers for an operation as well.
    _add_followers(app, named, served, source=source, system=system, settings=settings)
    limits = _limits(settings)
    for operation in in_order(operations):
        answer = endpoint_of(operation, served[operation.part], **limits)
        app.add_route(operation.path, answer, methods=[operation.method])
    mcp = McpEndpoint(operations, served, version=system.version, **limits)
    # Without sessions there is nothing that a GET could follow or a DELETE could end.
    app.add_route(MCP_PATH, mcp, methods=["POST"])  # type: ignore[arg-type]  # Starlette takes an application, too.
    if "relay.adapters" in named:
        adapters = cast("AdapterService", served[named["relay.adapters"].part])
        hook = webhook_endpoint(adapters, max_body_bytes=settings.max_body_bytes)
        app.add_route(WEBHOOK_PATH, hook, methods=["POST"])
    add_console(app, Desk(operations, served, feed=feed, clock=system.clock), sessions)
    app.add_middleware(
        Gate,
        authenticate=authenticate,
        browser=sessions.caller,
        names=names_of(settings),
        failures=Failures(system.clock),
    )
    app.add_middleware(Faults, answer=answer_refusal)
    app.add_middleware(Requests, traffic=traffic)  # Added last, it stands outermost.
    return app


def _add_followers(
    app: FastAPI,
    named: Mapping[str, Operation[Any, Any, Any]],
    parts: Mapping[str, object],
    *,
    source: Source,
    system: SystemService,
    settings: ServerSettings,
) -> None:
    """The streams that follow what an operation shows."""
    output, run, message, discover = (
        named.get(name) for name in ("pulse.runs.output", "pulse.runs.get", "relay.message", "mesh.discover")
    )
    if output is not None and run is not None:
        pulse = parts[output.part]
        page = endpoint_of(output, pulse, **_limits(settings))
        stream = output_endpoint(output, run, pulse, feed=source.feed, limits=source.limits)
        app.add_route(f"{output.path}/stream", stream)
        app.add_route(output.path, by_accept(page, stream), methods=[output.method])
    if message is not None:
        read = partial(messages_of, cast("RelayService", parts[message.part]))
        app.add_route("/api/relay/stream", messages_endpoint(source, message.scope, read, system.clock))
    if discover is not None:
        mesh = cast("MeshService", parts[discover.part])
        endpoint = search_endpoint(discover, mesh, limits=source.limits, **_limits(settings))
        app.add_route(f"{discover.path}/stream", endpoint, methods=["POST"])


def _limits(settings: ServerSettings) -> dict[str, int]:
    return {"max_body_bytes": settings.max_body_bytes, "within_s": settings.request_seconds}


class _Api(FastAPI):
    """FastAPI without what it would serve, follow or send by itself, and with our document."""

    def __init__(self, operations: Sequence[Operation[Any, Any, Any]], *, version: str) -> None:
        super().__init__(
            version=version,
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: http_refusals(answer_refusal)},
            # By itself it would send traces to wherever the environment points.
            telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        )
        self._document = cache(lambda: openapi.document(operations, OTHER_PATHS, version=version))

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made when it is first asked for."""
        return self._document()


def _page_endpoint(content: Callable[[], Response]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        caller_of_request(request).require(Scope.OBSERVE)
        return content()

    return answer


def _html(text: str) -> Response:
    return HTMLResponse(text, headers={**HEADERS, "Content-Security-Policy": _PAGE_POLICY})
