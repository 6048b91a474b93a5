"""What a bridge has to know of MCP's messages: which are requests, and with which headers HTTP carries them.

The SDK knows all of it, and costs half a second before the first answer; this is the part that is needed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from dorkos.errors import DorkError

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

# Since the revision of 2026-07-28 each request says its own version here; before, only `initialize` did.
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
# The methods whose subject HTTP repeats in a header, and the parameter that holds it.
NAMED_METHODS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

_PLAIN_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WRAPPED_HEADER = re.compile(r"=\?base64\?.*\?=")


@dataclass(frozen=True)
class RpcRequest:
    """A JSON-RPC request: a message that is owed an answer. `body` is what the client wrote."""

    id: str | int
    method: str
    params: Mapping[str, Any]
    body: bytes

    def headers(self, negotiated: str | None) -> dict[str, str]:
        """How HTTP carries it. `negotiated` is the version that an `initialize` led to."""
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
        if self.method == "initialize":
            return headers
        meta = self.params.get("_meta")
        version = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
        if isinstance(version, str):
            headers |= {"MCP-Protocol-Version": _header(version), "Mcp-Method": _header(self.method)}
            name = self.params.get(NAMED_METHODS.get(self.method, ""))
            if isinstance(name, str):
                headers["Mcp-Name"] = _header(name)
        elif negotiated is not None:
            headers["MCP-Protocol-Version"] = negotiated
        return headers


def request_of(message: object, line: bytes) -> RpcRequest | None:
    """The request in this message, or None if nothing is owed for it: a notification, or an answer."""
    if not isinstance(message, dict):
        return None
    request_id, method, params = message.get("id"), message.get("method"), message.get("params")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int) or not isinstance(method, str):
        return None
    return RpcRequest(request_id, method, params if isinstance(params, dict) else {}, line)


def is_message(message: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is any JSON-RPC message."""
    return isinstance(message, dict) and ("method" in message or "id" in message)


def cancelled_id(message: dict[str, Any]) -> str | int | None:
    """The id of the request that this message cancels, or None."""
    params = message.get("params")
    if message.get("method") != "notifications/cancelled" or not isinstance(params, dict):
        return None
    request_id = params.get("requestId")
    return request_id if isinstance(request_id, str | int) else None


def version_of(answer: Mapping[str, Any]) -> str | None:
    """The version that an `initialize` led to, or None if it was refused."""
    result = answer.get("result")
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return version if isinstance(version, str) else None


def error_message(request_id: str | int | None, code: int, text: str, data: object = None) -> bytes:
    """A JSON-RPC error as a line."""
    error: dict[str, object] = {"code": code, "message": text}
    if data is not None:
        error["data"] = data
    return line_of({"jsonrpc": "2.0", "id": request_id, "error": error})


def refusal_message(request_id: str | int, refusal: DorkError) -> bytes:
    """A refusal as a JSON-RPC error; what a model reads of it is the message alone, so the hint is in it."""
    text = f"{refusal.message} {refusal.hint}" if refusal.hint else refusal.message
    return error_message(request_id, INTERNAL_ERROR, text, refusal.body())


def line_of(message: object) -> bytes:
    """A message as one line. All but ASCII is escaped, so that no text can fail to encode."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _header(value: str) -> str:
    """The value as a header may carry it, wrapped as the protocol says where it may not."""
    if _PLAIN_HEADER.fullmatch(value) and not _WRAPPED_HEADER.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode('utf-8', 'surrogatepass')).decode('ascii')}?="
