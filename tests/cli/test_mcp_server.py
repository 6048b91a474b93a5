"""Whom the bridge asks, and what it makes of answers that a real server does not give."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dorkos.cli.mcp_messages import RpcRequest
from dorkos.cli.mcp_server import McpServer
from dorkos.cli.options import Options
from dorkos.errors import DorkError, ErrorCode
from tests.cli.scripted_server import ScriptedServer

LIST = RpcRequest(7, "tools/list", {}, b'{"jsonrpc":"2.0","id":7,"method":"tools/list"}')
CALL = RpcRequest(8, "tools/call", {"name": "ping"}, b'{"jsonrpc":"2.0","id":8,"method":"tools/call"}')


def server_at(url: str, home: Path) -> McpServer:
    """The server that a person named."""
    environment = {"DORKOS_URL": url, "DORKOS_TOKEN": "secret", "DORK_HOME": str(home)}
    return McpServer(Options(), environment, say=lambda _line: None)


def is_untouched(home: Path) -> bool:
    """Whether nobody made the directory."""
    return not home.exists()


async def refusal_of(server: McpServer, request: RpcRequest = LIST) -> DorkError:
    """What it raises."""
    with pytest.raises(DorkError) as refused:
        await server.ask(request, None)
    return refused.value


async def test_it_sends_what_the_client_wrote(scripted: ScriptedServer, home: Path) -> None:
    """Byte for byte, to the address of the tools, with the token."""
    scripted.answer({"jsonrpc": "2.0", "id": 7, "result": {}})
    assert await server_at(scripted.url, home).ask(LIST, "2025-06-18") == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {},
    }
    [request] = scripted.requests
    head, _, body = request.partition("\r\n\r\n")
    assert head.startswith("POST /mcp HTTP/1.1\r\n")
    assert "Authorization: Bearer secret" in head
    assert "MCP-Protocol-Version: 2025-06-18" in head
    assert body.encode() == LIST.body
    assert is_untouched(home)


async def test_an_error_without_an_id_belongs_to_who_asked(scripted: ScriptedServer, home: Path) -> None:
    """A client waits for its id; what could not be understood carries none."""
    error = {"code": -32600, "message": "No."}
    scripted.answer({"jsonrpc": "2.0", "id": None, "error": error}, 400)
    answer = await server_at(scripted.url, home).ask(LIST, None)
    assert (answer["id"], answer["error"]) == (7, error)


async def test_a_refusal_of_the_gate_is_one(scripted: ScriptedServer, home: Path) -> None:
    """With its code and its hint."""
    scripted.answer({"error": "No.", "code": "token_invalid", "hint": "Get another."}, 401)
    refusal = await refusal_of(server_at(scripted.url, home))
    assert (refusal.code, refusal.hint) == (ErrorCode.TOKEN_INVALID, "Get another.")


@pytest.mark.parametrize("answer", [b"hello", b"[]", b'{"jsonrpc":"1.0"}', b"\xff", b""])
async def test_a_stranger_is_told_as_such(scripted: ScriptedServer, home: Path, answer: bytes) -> None:
    """Whatever it says in whatever type."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
    scripted.raw(head.encode() + answer)
    assert "not a DorkOS server" in (await refusal_of(server_at(scripted.url, home))).message


async def test_a_lost_answer_leaves_a_call_open(scripted: ScriptedServer, home: Path) -> None:
    """What a call changes may have happened; what only looks can be asked again."""
    for request, code in ((CALL, ErrorCode.OUTCOME_UNKNOWN), (LIST, ErrorCode.NOT_RUNNING)):
        scripted.raw(b"")
        assert (await refusal_of(server_at(scripted.url, home), request)).code is code


async def test_a_named_server_that_is_away_is_not_replaced(home: Path) -> None:
    """The data directory is another one's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    refusal = await refusal_of(server_at(url, home))
    assert (refusal.code, url in refusal.message) == (ErrorCode.NOT_RUNNING, True)
    assert is_untouched(home)


async def test_a_directory_without_a_server_so_far_is_left_alone(home: Path) -> None:
    """The first start is a person's: it makes the token and the database."""
    server = McpServer(Options(), {"DORK_HOME": str(home)}, say=lambda _line: None)
    refusal = await refusal_of(server)
    assert refusal.code is ErrorCode.NOT_RUNNING
    assert "dorkos up" in str(refusal.hint)
    assert is_untouched(home)
