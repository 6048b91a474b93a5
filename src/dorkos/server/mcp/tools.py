"""Tools from the operations: names, schemas and calls, without the protocol around them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Operation
from dorkos.server.deadline import REQUEST_S, answered
from dorkos.server.inputs import from_json, validation_failed
from dorkos.server.mcp.schemas import Schema, input_schema, output_schema
from dorkos.storable import check_storable

# How work that waits is done for as long as somebody waits for it.
Waiting = Callable[[Awaitable[Any]], Awaitable[Any]]


@dataclass(frozen=True)
class Tool:
    """One tool and the operation behind it."""

    operation: Operation[Any, Any, Any]
    spec: McpTool
    takes: Schema
    answers: Schema
    answer_type: TypeAdapter[Any]
    within_s: float

    @property
    def name(self) -> str:
        """What it is called by."""
        return self.spec.name

    async def call(
        self, part: object, caller: Caller, arguments: Mapping[str, object], *, waiting: Waiting
    ) -> dict[str, Any]:
        """Ask the operation; the answer is JSON-ready and follows `answers`.

        Raises `forbidden`, `invalid_text` and `validation_failed` before anything is done, and what the
        operation raises.
        """
        caller.require(self.operation.scope)
        check_storable(arguments)
        given = from_json(self.spec.input or self.operation.input, arguments)
        handling = self.operation.handler(part, caller, self._asked(given))
        if self.operation.waits:
            found = await waiting(handling)
        else:
            found = await answered(self.within_s, handling, changes=not self.spec.read_only)
        if self.spec.present is not None:
            found = self.spec.present(given, found)
        answer: dict[str, Any] = json.loads(self.answer_type.dump_json(found, by_alias=True))
        return answer

    def _asked(self, given: Any) -> Any:
        if self.spec.ask is None:
            return given
        try:
            return self.spec.ask(given)
        except ValidationError as fault:
            raise validation_failed(fault) from fault


def tools_of(
    operations: Iterable[Operation[Any, Any, Any]], *, within_s: float = REQUEST_S
) -> dict[str, Tool]:
    """Every tool by its name, in the order of the operations. Those that do not wait answer `within_s`."""
    return {
        operation.mcp.name: _tool(operation, operation.mcp, within_s)
        for operation in operations
        if isinstance(operation.mcp, McpTool)
    }


def _tool(operation: Operation[Any, Any, Any], spec: McpTool, within_s: float) -> Tool:
    answer = operation.answer if spec.answer is None else spec.answer
    return Tool(
        operation,
        spec,
        input_schema(spec.input or operation.input, null_clears=operation.method == "PATCH"),
        output_schema(answer),
        TypeAdapter(answer),
        within_s,
    )
