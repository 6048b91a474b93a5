"""What the bridge knows of MCP's messages is what the SDK says."""

from __future__ import annotations

import json

import mcp_types
import pytest
from mcp.shared import inbound

from dorkos.cli import mcp_messages
from dorkos.cli.mcp_messages import (
    cancelled_id,
    error_message,
    is_message,
    refusal_message,
    request_of,
    version_of,
)
from dorkos.errors import DorkError, ErrorCode

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


def headers_of(message: dict[str, object], negotiated: str | None = None) -> dict[str, str]:
    """The headers of a request."""
    request = request_of({"id": 1, **message}, b"")
    assert request is not None
    return request.headers(negotiated)


def test_its_words_are_those_of_the_sdk() -> None:
    """The bridge does not import it; should a word change, this fails."""
    assert mcp_messages.VERSION_KEY == mcp_types.PROTOCOL_VERSION_META_KEY
    assert mcp_messages.NAMED_METHODS == inbound.NAME_BEARING_METHODS
    assert (mcp_messages.PARSE_ERROR, mcp_messages.INVALID_REQUEST, mcp_messages.INTERNAL_ERROR) == (
        mcp_types.PARSE_ERROR,
        mcp_types.INVALID_REQUEST,
        mcp_types.INTERNAL_ERROR,
    )


@pytest.mark.parametrize(
    "name", ["relay_send", "", " a", "a ", "ümlaut", "a\nb", "=?base64?eA==?=", "\x7f", "a b"]
)
def test_a_modern_request_passes_the_checks_of_the_server(name: str) -> None:
    """Whatever the tool is called: the headers repeat the body as the server compares them."""
    message = {"id": 1, "method": "tools/call", "params": {"name": name, "_meta": META}}
    headers = {key.lower(): value for key, value in headers_of(message).items()}
    assert headers["mcp-protocol-version"] == "2026-07-28"
    assert headers["mcp-method"] == "tools/call"
    assert headers["mcp-name"].isascii()
    assert inbound.decode_header_value(headers["mcp-name"]) == name


def test_a_legacy_request_carries_what_was_negotiated() -> None:
    """And nothing before that, also not with the handshake itself."""
    plain = {"Accept", "Content-Type"}
    assert set(headers_of({"method": "tools/list"})) == plain
    assert set(headers_of({"method": "initialize", "params": {"_meta": META}}, "2025-06-18")) == plain
    negotiated = headers_of({"method": "tools/call", "params": {"name": "ping"}}, "2025-06-18")
    assert negotiated["MCP-Protocol-Version"] == "2025-06-18"
    assert set(negotiated) == plain | {"MCP-Protocol-Version"}


@pytest.mark.parametrize("request_id", [0, 7, "a", ""])
def test_a_request_is_owed_an_answer(request_id: str | int) -> None:
    """By the id it came with."""
    request = request_of({"id": request_id, "method": "ping"}, b"line")
    assert request is not None
    assert (request.id, request.method, request.params, request.body) == (request_id, "ping", {}, b"line")


@pytest.mark.parametrize(
    "message",
    [None, 1, "a", [], {}, {"method": "a"}, {"id": 1, "result": {}}, {"id": True, "method": "a"}],
    ids=json.dumps,
)
def test_what_is_no_request_is_owed_none(message: object) -> None:
    """A notification, an answer to us, and nonsense."""
    assert request_of(message, b"") is None


def test_messages_are_told_from_nonsense() -> None:
    """Silence is an answer to the one, not to the other."""
    assert is_message({"method": "notifications/initialized"})
    assert is_message({"id": 1, "result": {}})
    assert not any(map(is_message, ([], {}, None, "method", {"jsonrpc": "2.0"})))


def test_a_cancellation_names_its_request() -> None:
    """Only a cancellation, and only by something that can be an id."""
    named = {"method": "notifications/cancelled", "params": {"requestId": 3}}
    assert cancelled_id(named) == 3
    assert cancelled_id({**named, "method": "notifications/progress"}) is None
    assert cancelled_id({**named, "params": []}) is None
    assert cancelled_id({**named, "params": {"requestId": [3]}}) is None


def test_the_version_is_read_from_the_handshake() -> None:
    """A refused one led to none."""
    assert version_of({"result": {"protocolVersion": "2025-06-18"}}) == "2025-06-18"
    assert version_of({"error": {"code": 1}}) is None
    assert version_of({"result": {"protocolVersion": 7}}) is None


def test_errors_are_lines() -> None:
    """ASCII, one line, with the refusal for programs and the hint for models."""
    refusal = DorkError(ErrorCode.NOT_RUNNING, "Nobody ändert\nthis.", hint="Start one.")
    line = refusal_message("a", refusal)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "jsonrpc": "2.0",
        "id": "a",
        "error": {"code": -32603, "message": "Nobody ändert\nthis. Start one.", "data": refusal.body()},
    }
    assert json.loads(error_message(None, -32700, "No.")) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32700, "message": "No."},
    }
