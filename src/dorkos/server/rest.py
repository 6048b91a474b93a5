"""REST from the operations: each becomes one route, and none has code of its own here."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from dorkos.operation import Operation
from dorkos.server.address import path_values, query_values
from dorkos.server.answers import json_answer
from dorkos.server.auth import caller_of_request
from dorkos.server.body import read_object
from dorkos.server.deadline import REQUEST_S, answered, arriving
from dorkos.server.inputs import from_json, from_query
from dorkos.server.waiting import while_there

Endpoint = Callable[[Request], Awaitable[Response]]

_PATH_NAME = re.compile(r"\{(\w+)\}")
NEXT_CURSOR = "X-Next-Cursor"
_QUERY_METHODS = ("GET", "DELETE")


def endpoint_of(
    operation: Operation[Any, Any, Any], part: object, *, max_body_bytes: int, within_s: float = REQUEST_S
) -> Endpoint:
    """What answers this operation. `part` is the subsystem that its handler works on.

    The request has `within_s` seconds to arrive, and as many to be answered, unless the operation waits.
    """
    answer_type = TypeAdapter[Any](operation.answer)
    wire_names = {name: _wire_name(operation, name) for name in path_names(operation.path)}

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request)
        caller.require(operation.scope)
        given = await arriving(within_s, _given(request, operation, max_body_bytes))
        for name, value in path_values(request.path_params).items():
            # The address decides what a request is about. Under its wire name it wins over either
            # spelling in the body.
            given[wire_names[name]] = value
        read = from_query if takes_query(operation) else from_json
        asked = read(operation.input, given)
        handling = operation.handler(part, caller, asked)
        if operation.waits:
            found = await while_there(request, handling)
        else:
            found = await answered(within_s, handling, changes=operation.method != "GET")
        return json_answer(
            answer_type.dump_json(found, by_alias=True), operation.status, _headers(operation, asked, found)
        )

    return answer


def in_order(operations: Iterable[Operation[Any, Any, Any]]) -> list[Operation[Any, Any, Any]]:
    """The operations with fixed segments before parameters, so that `/runs/latest` is not read as an id."""
    return sorted(operations, key=lambda o: [segment.startswith("{") for segment in o.path.split("/")])


def path_names(path: str) -> list[str]:
    """The parameters in a path such as `/api/pulse/runs/{id}`."""
    return _PATH_NAME.findall(path)


def takes_query(operation: Operation[Any, Any, Any]) -> bool:
    """Whether the input comes from the query rather than from a body."""
    return operation.method in _QUERY_METHODS


async def _given(
    request: Request, operation: Operation[Any, Any, Any], max_body_bytes: int
) -> dict[str, object]:
    if takes_query(operation):
        return {**query_values(request.scope["query_string"])}
    body = await read_object(request, limit=max_body_bytes)
    if operation.in_query:
        query = query_values(request.scope["query_string"])
        body |= {key: query[key] for key in operation.in_query & query.keys()}
    return body


def _headers(operation: Operation[Any, Any, Any], asked: Any, found: Any) -> dict[str, str]:
    cursor = None if operation.next_page is None else operation.next_page(asked, found)
    return {} if cursor is None else {NEXT_CURSOR: cursor}


def _wire_name(operation: Operation[Any, Any, Any], name: str) -> str:
    """The key by which the input takes this path parameter."""
    for field_name, field in operation.input.model_fields.items():
        wire_name: str = field.alias or field_name
        if name in (field_name, wire_name):
            return wire_name
    raise ValueError(f"operation {operation.name}: {operation.input.__name__} has no field for {{{name}}}")
