"""The protocol around the tools, by the official SDK.

Importing the SDK costs a third of a second and 25 MB, so only `endpoint` imports this, on first use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.streamable_http import REQUEST_CANCELLED
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp.types import Tool as ToolEntry
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from dorkos.errors import DorkError, ErrorCode
from dorkos.server.answers import refusal_body
from dorkos.server.auth import caller_of_request
from dorkos.server.faults import as_refusal
from dorkos.server.mcp.tools import Tool
from dorkos.server.mcp.waits import BrokenOffError, Waits
from dorkos.storable import clean_text

_INSTRUCTIONS = """DorkOS schedules agents, carries messages between them and knows which agents there are.
Your token decides who you are and which tools you see. A message that is claimed stays yours until its lease
ends: acknowledge it when you are done. What a tool refuses is answered with `code` and `hint`."""

Context = ServerRequestContext[Any, Any]


class Protocol:
    """Answers MCP requests, each on its own: no session outlives a request, and none is lost by a restart."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        parts: Mapping[str, object],
        waits: Waits,
        *,
        version: str,
        max_body_bytes: int,
    ) -> None:
        """`parts` holds the subsystems by the names that operations give them."""
        self._tools = tools
        self._parts = parts
        self._waits = waits
        self._entries = [(tool, _entry(tool)) for tool in tools.values()]
        self._max_body_bytes = max_body_bytes
        self._server: Server[Any] = Server(
            "dorkos",
            version=version,
            title="DorkOS",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            # No argument of ours is repeated in a header, so there is nothing to compare.
            get_tool_input_schema=lambda _name: None,
        )
        # By itself it would send traces to wherever the environment points.
        self._server.middleware.clear()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST. Cancelling this cancels whatever the request had begun."""
        manager = StreamableHTTPSessionManager(
            self._server,
            # One JSON body a request: nothing is told before the answer, so there is nothing to stream.
            json_response=True,
            stateless=True,
            max_request_body_size=self._max_body_bytes,
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)

    async def _list(self, context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        """The tools that the caller's token allows."""
        caller = caller_of_request(_request(context))
        return ListToolsResult(
            tools=[entry for tool, entry in self._entries if caller.may(tool.operation.scope)]
        )

    async def _call(self, context: Context, params: CallToolRequestParams) -> CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise _unknown(params.name)
        request = _request(context)
        try:
            answer = await tool.call(
                self._parts[tool.operation.part],
                caller_of_request(request),
                params.arguments or {},
                waiting=partial(self._waits.wait, request, context.request_id),
            )
        except BrokenOffError as broken:
            raise MCPError(code=REQUEST_CANCELLED, message="Request cancelled") from broken
        except Exception as fault:  # noqa: BLE001  # A fault of ours is logged, and told as a refusal.
            return _refused(as_refusal(fault, f"the tool {tool.name}"))
        return CallToolResult(content=[_text(answer)], structured_content=answer)


def _request(context: Context) -> Request:
    """The HTTP request, which the gate has let through."""
    request = context.request
    assert isinstance(request, Request)
    return request


def _entry(tool: Tool) -> ToolEntry:
    spec = tool.spec
    return ToolEntry(
        name=spec.name,
        description=spec.description,
        input_schema=tool.takes,
        output_schema=tool.answers,
        annotations=ToolAnnotations(
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive,
            idempotent_hint=spec.idempotent or spec.read_only,
            open_world_hint=spec.open_world,
        ),
    )


def _text(value: object) -> TextContent:
    """JSON to read, indented as the lineage did, for clients that do not look at the structure."""
    return TextContent(type="text", text=clean_text(json.dumps(value, indent=2, ensure_ascii=False)))


def _refused(refusal: DorkError) -> CallToolResult:
    # Without structure: some clients hold it against the schema of the answer, even in a refusal.
    return CallToolResult(content=[_text(refusal_body(refusal))], is_error=True)


def _unknown(name: str) -> MCPError:
    refusal = DorkError(
        ErrorCode.NOT_FOUND,
        f"There is no tool {name[:100]!r}.",
        hint="List the tools to see which there are.",
    )
    return MCPError(code=INVALID_PARAMS, message=refusal.message, data=refusal.body())
