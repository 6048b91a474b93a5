"""REST from the operations: each becomes one route, and none has code of its own here."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from dorkos.errors import DorkError, ErrorCode
from dorkos.operation import Operation, Wire
from dorkos.server.address import path_values, query_values
from dorkos.server.answers import json_answer
from dorkos.server.auth import caller_of_request
from dorkos.server.body import read_object
from dorkos.server.sse import until_gone

Endpoint = Callable[[Request], Awaitable[Response]]

_PATH_NAME = re.compile(r"\{(\w+)\}")
_QUERY_METHODS = ("GET", "DELETE")


def endpoint_of(operation: Operation[Any, Any, Any], part: object, *, max_body_bytes: int) -> Endpoint:
    """What answers this operation. `part` is the subsystem that its handler works on."""
    answer_type = TypeAdapter[Any](operation.answer)
    wire_names = {name: _wire_name(operation, name) for name in path_names(operation.path)}

    async def answer(request: Request) -> Response:
        caller = caller_of_request(request)
        caller.require(operation.scope)
        given = await _given(request, operation.method, max_body_bytes)
        for name, value in path_values(request.path_params).items():
            # The address decides what a request is about. Under its wire name it wins over either
            # spelling in the body.
            given[wire_names[name]] = value
        handling = operation.handler(part, caller, _validated(operation, given))
        found = await (_while_there(request, handling) if operation.waits else handling)
        return json_answer(answer_type.dump_json(found, by_alias=True), operation.status)

    return answer


async def _while_there(request: Request, handling: Awaitable[Any]) -> Any:
    """What `handling` gives, unless the client goes away first: then it is cancelled.

    The window is small but not closed: an answer that is under way when the client goes is lost.
    """
    work = asyncio.ensure_future(handling)
    gone = asyncio.ensure_future(until_gone(request.receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            # A client that is gone does not see this; one whose server stops does.
            raise DorkError(
                ErrorCode.SHUTTING_DOWN,
                "The server stopped while you waited.",
                hint="Nothing was taken; ask again when it is back.",
            )
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


def in_order(operations: Iterable[Operation[Any, Any, Any]]) -> list[Operation[Any, Any, Any]]:
    """The operations with fixed segments before parameters, so that `/runs/latest` is not read as an id."""
    return sorted(operations, key=lambda o: [segment.startswith("{") for segment in o.path.split("/")])


def path_names(path: str) -> list[str]:
    """The parameters in a path such as `/api/pulse/runs/{id}`."""
    return _PATH_NAME.findall(path)


def takes_query(operation: Operation[Any, Any, Any]) -> bool:
    """Whether the input comes from the query rather than from a body."""
    return operation.method in _QUERY_METHODS


async def _given(request: Request, method: str, max_body_bytes: int) -> dict[str, object]:
    if method in _QUERY_METHODS:
        return {**query_values(request.scope["query_string"])}
    return await read_object(request, limit=max_body_bytes)


def _validated(operation: Operation[Any, Any, Any], given: dict[str, object]) -> Wire:
    try:
        if takes_query(operation):
            # Everything in an address is text; "5" means 5 there.
            valid: Wire = operation.input.model_validate(given)
        else:
            # As JSON, so that "5" is no number while an ISO text is an instant.
            valid = operation.input.model_validate_json(_as_json(given), strict=True)
    except ValidationError as fault:
        raise validation_failed(fault) from fault
    return valid


def _as_json(given: dict[str, object]) -> bytes:
    try:
        return json.dumps(given).encode("ascii")
    except RecursionError as fault:
        raise DorkError(
            ErrorCode.INVALID_JSON, "The body is nested too deeply.", hint="Send a flatter object."
        ) from fault


def validation_failed(fault: ValidationError) -> DorkError:
    """The refusal in the lineage's shape: `details` is `{formErrors, fieldErrors}` by top-level field."""
    form: list[str] = []
    fields: dict[str, list[str]] = {}
    errors = fault.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        # The parser of the models gives up on deep nesting before ours does.
        return DorkError(
            ErrorCode.INVALID_JSON,
            f"The body cannot be read: {errors[0]['msg']}.",
            hint="Send a flatter object.",
        )
    for error in errors:
        where, message = [str(step) for step in error["loc"]], error["msg"].removeprefix("Value error, ")
        if not where:
            form.append(message)
            continue
        inside = f"{'.'.join(where[1:])}: " if len(where) > 1 else ""
        fields.setdefault(where[0], []).append(f"{inside}{message}")
    first = [f"`{name}`: {messages[0]}" for name, messages in fields.items()] + form
    return DorkError(
        ErrorCode.VALIDATION_FAILED,
        "Validation failed",
        hint=f"{first[0]}.",
        details={"formErrors": form, "fieldErrors": fields},
    )


def _wire_name(operation: Operation[Any, Any, Any], name: str) -> str:
    """The key by which the input takes this path parameter."""
    for field_name, field in operation.input.model_fields.items():
        wire_name: str = field.alias or field_name
        if name in (field_name, wire_name):
            return wire_name
    raise ValueError(f"operation {operation.name}: {operation.input.__name__} has no field for {{{name}}}")
