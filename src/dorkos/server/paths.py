"""What is served besides operations, as the OpenAPI document tells it."""

from __future__ import annotations

from typing import Any

from dorkos.events import EVENT_KINDS
from dorkos.server.openapi import REFUSED
from dorkos.server.stream import TOPICS


def _get(
    name: str, summary: str, answers: dict[str, Any], *parameters: dict[str, Any], is_open: bool = False
) -> dict[str, Any]:
    entry = {
        "operationId": name,
        "summary": summary,
        "tags": ["server"],
        "parameters": list(parameters),
        "responses": {**answers, "default": REFUSED},
    }
    return {"get": {**entry, "security": []} if is_open else entry}


def _answer(description: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": False,
        "description": description,
        "schema": {"type": "string"},
    }


_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_LIST = {"type": "array", "items": {"type": "object"}}
_STREAM = {"type": "string", "description": "Server-Sent Events."}
_EVENT_STREAM = "text/event-stream"

_PLACE = (
    _parameter("after", "query", "The cursor after which to begin; without it, what happens from now."),
    _parameter("Last-Event-ID", "header", "The same for a client that reconnects; wins over `after`."),
)

OTHER_PATHS: dict[str, Any] = {
    "/api/health": _get(
        "health",
        "Whether the process is alive; needs no token",
        {"200": _answer("Alive.", _object(status=_TEXT, version=_TEXT, uptime=_NUMBER))},
        is_open=True,
    ),
    "/api/ready": _get(
        "ready",
        "Whether every part works",
        {
            "200": _answer("Ready.", _object(status=_TEXT, checks=_LIST)),
            "503": _answer("Not ready.", _object(status=_TEXT, checks=_LIST, error=_TEXT, code=_TEXT)),
        },
    ),
    "/metrics": _get(
        "metrics",
        "Numbers for Prometheus, in its text format",
        {"200": _answer("Numbers.", _TEXT, "text/plain")},
    ),
    "/api/events": _get(
        "events",
        "Committed events as they happen: first `hello` (or `reset`, when the place asked for does not "
        "exist) with the cursor, then each event under its kind, with the cursor as its id",
        {"200": _answer(f"Events of these kinds: {', '.join(EVENT_KINDS)}.", _STREAM, _EVENT_STREAM)},
        *_PLACE,
        _parameter("topics", "query", f"Only these, separated by commas: {', '.join(TOPICS)}."),
        _parameter("kinds", "query", "Only these kinds, separated by commas."),
    ),
    "/api/relay/stream": _get(
        "relay.stream",
        "Messages as they are published: first `relay_connected`, then `relay_message` with each envelope, "
        "and `relay_backpressure` when a mailbox fills up. Watching consumes nothing",
        {"200": _answer("Messages.", _STREAM, _EVENT_STREAM)},
        _parameter("subject", "query", "Only those sent to subjects of this pattern; `>` means all."),
        *_PLACE,
    ),
    "/api/relay/webhooks/{adapterId}": {
        "post": {
            "operationId": "relay.webhook",
            "summary": "Report to an adapter of the type `webhook`: a JSON body, signed as docs/adapters.md "
            "says. Needs no token. A 2xx means that the message reached a mailbox",
            "tags": ["server"],
            "security": [],
            "parameters": [
                {**_parameter("adapterId", "path", "The adapter's id."), "required": True},
                {**_parameter("X-Timestamp", "header", "Unix seconds."), "required": True},
                {**_parameter("X-Nonce", "header", "Never used before."), "required": True},
                {**_parameter("X-Signature", "header", "HMAC-SHA256, in hex."), "required": True},
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
            "responses": {
                "200": _answer(
                    "It is stored.", _object(ok={"type": "boolean"}, messageId=_TEXT, recipients=_LIST)
                ),
                "default": REFUSED,
            },
        }
    },
    "/api/pulse/runs/{id}/output/stream": _get(
        "pulse.runs.output.stream",
        "What a run prints, as it prints it: `output` {seq, stream, at, text}, at last `end` {state}. "
        "`/api/pulse/runs/{id}/output` answers the same to `Accept: text/event-stream`",
        {"200": _answer("Output.", _STREAM, _EVENT_STREAM)},
        {**_parameter("id", "path", "The run's id."), "required": True},
        _parameter("after", "query", "The `seq` after which to begin; without it, at the start."),
        _parameter("Last-Event-ID", "header", "The same for a client that reconnects; wins over `after`."),
    ),
    "/api/mesh/discover/stream": {
        "post": {
            "operationId": "mesh.discover.stream",
            "summary": "The same as `mesh.discover`, told as it goes: `candidate` and `problem` as they are "
            "found, `progress` {directories, waiting, candidates, problems}, at last `end` with the same and "
            "{truncated, truncatedBy}, or `refused` {error, code}. Whoever goes away ends the search",
            "tags": ["server"],
            "parameters": [],
            "requestBody": {
                "required": False,
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "roots": {"type": "array", "items": _TEXT},
                                "maxDepth": {"type": "integer"},
                            },
                        }
                    }
                },
            },
            "responses": {"200": _answer("Findings.", _STREAM, _EVENT_STREAM), "default": REFUSED},
        }
    },
    "/mcp": {
        "post": {
            "operationId": "mcp",
            "summary": "The tools for agents: Model Context Protocol over Streamable HTTP, one JSON-RPC "
            "message a request, no sessions",
            "tags": ["server"],
            "parameters": [],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "responses": {
                "200": _answer("The answer to a request.", {"type": "object"}),
                "202": {"description": "A notification was taken.", "content": {}},
                "default": REFUSED,
            },
        }
    },
    "/api/openapi.json": _get(
        "openapi", "This document", {"200": _answer("OpenAPI 3.1.", {"type": "object"})}
    ),
    "/api/docs": _get("docs", "This document to read", {"200": _answer("A page.", _TEXT, "text/html")}),
}
