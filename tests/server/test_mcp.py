"""MCP over HTTP as the official client and as strangers meet it, on a real socket."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import httpx2
import pytest
import sqlalchemy as sa
from mcp import Client, ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client

from dorkos.db.schema.system import tokens
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.operation import McpTool
from dorkos.vocabulary import Scope
from tests.server.kit import BODY_LIMIT, SHELF, STOPPED_WITHIN_S, TOKEN, Served, connected, raw, serving

ERAS = ("legacy", "auto")
TOOLS = [
    replace(operation, mcp=McpTool(operation.name.replace(".", "_"), f"Tool {operation.name}."))
    for operation in SHELF
    if operation.name != "shelf.all"
]
NAMES = {operation.mcp.name for operation in TOOLS if isinstance(operation.mcp, McpTool)}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server whose operations have tools, except one."""
    async with serving(operations=TOOLS) as served:
        yield served


@asynccontextmanager
async def client(served: Served, mode: str = "auto", token: str = TOKEN) -> AsyncGenerator[Client]:
    """The official client."""
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False, verify=False) as http:
        transport = streamable_http_client(f"{served.http.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def minted(served: Served, *scopes: Scope) -> str:
    """The secret of a token that lasts a minute."""
    secret = new_secret()
    token = NewToken(new_id(), secret, "relay.agent.team.a", frozenset(scopes))
    await served.db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(minutes=1)))
    return secret


def call(name: str, /, request_id: object = 1, **arguments: object) -> dict[str, object]:
    """A call as a bare message."""
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


async def post(served: Served, message: object, **headers: str) -> httpx.Response:
    """What a program without the SDK gets, as the operator."""
    return await served.client.post("/mcp", json=message, headers={**HEADERS, **headers})


def refusal_in(result: Any) -> dict[str, Any]:
    """The refusal that a tool answered with."""
    assert result.is_error
    assert result.structured_content is None
    [content] = result.content
    body: dict[str, Any] = json.loads(content.text)
    assert content.text == json.dumps(body, indent=2, ensure_ascii=False)
    return body


@pytest.mark.parametrize("mode", ERAS)
async def test_the_operator_sees_and_calls_every_tool(served: Served, mode: str) -> None:
    """In both eras of the protocol; the answer comes as structure and as the same in words."""
    async with client(served, mode) as mcp:
        listed = await mcp.list_tools()
        result = await mcp.call_tool("shelf_add", {"displayName": "Zoë", "payload": {"a": [None, 1]}})

    assert {tool.name for tool in listed.tools} == NAMES
    assert not result.is_error
    expected = {"itemId": None, "displayName": "Zoë", "note": None, "payload": {"a": [None, 1]}}
    assert result.structured_content == expected
    [content] = result.content
    assert content.type == "text"
    assert content.text == json.dumps(expected, indent=2, ensure_ascii=False)


async def test_the_session_class_of_the_sdk_speaks_to_it(served: Served) -> None:
    """The handshake names the server."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, verify=False) as http,
        streamable_http_client(f"{served.http.url}/mcp", http_client=http) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        started = await session.initialize()
        assert (started.server_info.name, started.server_info.version) == ("dorkos", "1.2.3")
        assert started.capabilities.tools is not None
        assert started.instructions
        await session.send_ping()
        assert not (await session.call_tool("shelf_look", {"itemId": "7"})).is_error


@pytest.mark.parametrize("mode", ERAS)
async def test_wrong_input_names_the_field(served: Served, mode: str) -> None:
    """As a refusal that a model can mend, and nothing is asked of the operation."""
    async with client(served, mode) as mcp:
        for arguments in ({}, {"displayName": 7}, {"displayName": "x" * 21}, {"displayName": None}):
            body = refusal_in(await mcp.call_tool("shelf_add", arguments))
            assert body["code"] == "validation_failed"
            assert list(body["details"]["fieldErrors"]) == ["displayName"]
            assert "displayName" in body["hint"]
    assert served.shelf.asked == []


@pytest.mark.parametrize("mode", ERAS)
async def test_an_unknown_tool_is_an_error_of_the_protocol(served: Served, mode: str) -> None:
    """Also the operation that has no tool, by whatever name."""
    async with client(served, mode) as mcp:
        for name in ("nothing", "shelf_all", "shelf.all", ""):
            with pytest.raises(MCPError) as refused:
                await mcp.call_tool(name, {})
            assert refused.value.error.code == -32602
            assert refused.value.error.data["code"] == "not_found"


async def test_a_refusal_of_the_operation_is_told_whole(served: Served) -> None:
    """Code, details and hint, as REST tells them."""
    async with client(served) as mcp:
        body = refusal_in(await mcp.call_tool("shelf_refuse", {}))
    told = (await served.client.post("/api/shelf/refuse")).json()
    assert body.pop("requestId") != told.pop("requestId")
    assert body == told


async def test_a_fault_of_ours_tells_an_id_and_no_more(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the rest under it."""
    async with client(served) as mcp:
        body = refusal_in(await mcp.call_tool("shelf_break", {}))
    assert body["code"] == "internal_error"
    assert "swordfish" not in json.dumps(body)
    assert body["details"]["id"] in caplog.text
    assert "shelf_break" in caplog.text


async def test_a_token_sees_the_tools_it_may_call(served: Served) -> None:
    """And is refused the others, as REST refuses them."""
    async with client(served, token=await minted(served, Scope.OBSERVE)) as mcp:
        assert {tool.name for tool in (await mcp.list_tools()).tools} == {"shelf_look"}
        assert not (await mcp.call_tool("shelf_look", {"itemId": "7"})).is_error
        body = refusal_in(await mcp.call_tool("shelf_remove", {"itemId": "7"}))
    assert body["code"] == "forbidden"
    assert len(served.shelf.asked) == 1
    assert served.shelf.callers[0].subject == "relay.agent.team.a"


async def test_a_token_that_allows_nothing_of_it_sees_nothing(served: Served) -> None:
    """An empty list, not a failure."""
    async with client(served, token=await minted(served, Scope.SEND)) as mcp:
        assert (await mcp.list_tools()).tools == []


async def test_a_token_revoked_in_the_middle_is_refused_at_once(served: Served) -> None:
    """Each request proves who it is; nothing is remembered from the handshake."""
    async with client(served, "legacy", await minted(served, Scope.OBSERVE)) as mcp:
        assert not (await mcp.call_tool("shelf_look", {"itemId": "7"})).is_error
        await served.db.write(lambda tx: tx.execute(sa.update(tokens).values(revoked_at=tx.now())))
        with pytest.raises(MCPError):
            await mcp.call_tool("shelf_look", {"itemId": "7"})
    assert len(served.shelf.asked) == 1


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "token_missing"),
        ({"Authorization": "Bearer dork_wrong"}, 401, "token_invalid"),
        ({"Authorization": f"Bearer {TOKEN}", "Origin": "https://example.org"}, 403, "origin_not_allowed"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "rebound.example.org"}, 403, "host_not_allowed"),
    ],
    ids=["no token", "wrong token", "page of another origin", "another name"],
)
async def test_strangers_get_nothing(served: Served, headers: dict[str, str], status: int, code: str) -> None:
    """Neither a list nor a call; the refusal is the gate's."""
    async with served.stranger(**HEADERS, **headers) as stranger:
        for message in (LIST, call("shelf_look", itemId="7")):
            answer = await stranger.post("/mcp", json=message)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert served.shelf.asked == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD"])
async def test_there_is_no_stream_to_follow_and_no_session_to_end(served: Served, method: str) -> None:
    """As the protocol has a server say so."""
    answer = await served.client.request(method, "/mcp", headers=HEADERS)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_a_body_beyond_the_limit_is_refused_unread(served: Served) -> None:
    """With the code of REST, whether its length was declared or not."""
    message = json.dumps(call("shelf_add", displayName="a", payload="x" * BODY_LIMIT)).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(message), 65_536):
            yield message[start : start + 65_536]

    for content in (message, pieces()):
        answer = await served.client.post("/mcp", content=content, headers=HEADERS)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert served.shelf.asked == []


async def test_a_large_payload_below_the_limit_passes(served: Served) -> None:
    """Unchanged."""
    payload = "x" * (BODY_LIMIT - 1000)
    async with client(served) as mcp:
        result = await mcp.call_tool("shelf_add", {"displayName": "a", "payload": payload})
    assert result.structured_content["payload"] == payload


NONSENSE = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"tools/list"',
    b"[" * 100_000,
    b'{"jsonrpc":"2.0","id":1}',
    b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shelf_add","arguments":[]}}',
    b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
    b'{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}',
    b'{"jsonrpc":"2.0","id":1e999,"method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":1' + b"0" * 5000 + b',"method":"tools/list"}',
    b"\xff\xfe",
    b'{"jsonrpc":"2.0","id":"\\ud800","method":"tools/list"}',
    b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}',
    b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"no"}}',
]


@pytest.mark.parametrize("version", [None, "2025-06-18", "2026-07-28", "1999-01-01", "\x7f"], ids=repr)
async def test_no_message_is_a_fault_of_ours(
    served: Served, version: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no request is refused in JSON, in each era and in none."""
    headers = HEADERS if version is None else {**HEADERS, "MCP-Protocol-Version": version}
    for text in NONSENSE:
        answer = await served.client.post("/mcp", content=text, headers=headers)
        assert answer.status_code < 500, text[:60]
        if answer.content:
            json.loads(answer.content)
        assert "Traceback" not in caplog.text, text[:60]
    assert served.shelf.asked == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (b'{"displayName":"a\\u0000"}', "invalid_text"),
        (b'{"displayName":"a","payload":NaN}', "invalid_text"),
        (b'{"displayName":"a","payload":123456789012345678901234567890}', "invalid_text"),
        (b'{"displayName":"a","payload":{"\\u0000":1}}', "invalid_text"),
        (b'{"displayName":"a","dueAt":"yesterday"}', "validation_failed"),
    ],
)
async def test_what_cannot_be_stored_is_refused_as_on_rest(
    served: Served, arguments: bytes, code: str
) -> None:
    """Before the operation sees it."""
    head = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shelf_add","arguments":'
    answer = await served.client.post("/mcp", content=head + arguments + b"}}", headers=HEADERS)
    result = answer.json()["result"]
    assert result["isError"]
    assert json.loads(result["content"][0]["text"])["code"] == code
    assert served.shelf.asked == []


@pytest.mark.parametrize("kind", ["text/plain", "", "application/json-seq", "multipart/form-data"])
async def test_what_does_not_say_that_it_is_json_is_refused_in_json(served: Served, kind: str) -> None:
    """In the shape of the protocol, and before anything is done."""
    answer = await post(served, call("shelf_add", displayName="a"), **{"Content-Type": kind})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
    assert "application/json" in answer.json()["error"]["data"]["hint"]
    assert served.shelf.asked == []
    typed = await post(served, LIST, **{"Content-Type": "application/json; charset=utf-8"})
    assert typed.status_code == 200


async def test_a_key_given_twice_is_refused(served: Served) -> None:
    """In the message and in what a tool is given: neither of the two is done."""
    for arguments in (b'{"displayName":"a","displayName":"b"}', b'{"displayName":"a"}},"id":2,"x":{'):
        head = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"shelf_add","arguments":'
        answer = await served.client.post("/mcp", content=head + arguments + b"}}", headers=HEADERS)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
        assert served.shelf.asked == []


async def test_a_notification_is_taken_without_an_answer(served: Served) -> None:
    """Clients of both eras send some."""
    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    for version in ("2025-11-25", "2026-07-28"):
        answer = await post(served, message, **{"MCP-Protocol-Version": version})
        assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
@pytest.mark.parametrize("with_id", [{}, {"id": None}, {"id": 1.5}, {"id": {}}, {"id": True}], ids=repr)
async def test_what_cannot_be_answered_is_refused(
    served: Served, version: str, with_id: dict[str, object]
) -> None:
    """A call without an id is no notification: taken and dropped, it would look as if it was done."""
    message = {**call("shelf_add", displayName="a"), **with_id}
    if not with_id:
        del message["id"]
    answer = await post(served, message, **{"MCP-Protocol-Version": version})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32600
    assert answer.json()["error"]["data"]["code"] == "validation_failed"
    assert served.shelf.asked == []


async def test_an_answer_belongs_to_its_request(served: Served) -> None:
    """Many at once, of one client and of several with the same ids: none gets another's."""

    async def ask(number: int) -> str:
        answer = await post(served, call("shelf_look", request_id=number % 3, itemId=str(number)))
        assert answer.json()["id"] == number % 3
        found: str = answer.json()["result"]["structuredContent"]["itemId"]
        return found

    assert await asyncio.gather(*map(ask, range(60))) == [str(number) for number in range(60)]
    async with client(served) as one, client(served, "legacy") as other:
        calls = [mcp.call_tool("shelf_look", {"itemId": str(n)}) for n in range(30) for mcp in (one, other)]
        found = [result.structured_content["itemId"] for result in await asyncio.gather(*calls)]
    assert found == [str(n) for n in range(30) for _ in range(2)]


@pytest.mark.parametrize("version", [None, "2026-07-28"], ids=["legacy", "modern"])
async def test_what_waits_is_cancelled_when_its_client_goes_away(served: Served, version: str | None) -> None:
    """Nothing is taken for somebody who is not there any more."""
    message = call("shelf_poll")
    more = ""
    if version is not None:
        meta = {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        message["params"] = {"name": "shelf_poll", "arguments": {}, "_meta": meta}
        more = f"MCP-Protocol-Version: {version}\r\nMcp-Method: tools/call\r\nMcp-Name: shelf_poll\r\n"
    body = json.dumps(message)
    async with connected(served.http.url) as (_, writer):
        writer.write(
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{more}"
            "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        await served.shelf.entered.wait()
    async with asyncio.timeout(30):
        await served.shelf.cancelled.wait()


async def test_what_waits_is_broken_off_when_its_client_says_so(served: Served) -> None:
    """The older revisions say it by a message beside the call; the official client does when it gives up."""
    async with client(served, "legacy") as mcp:
        asked = asyncio.create_task(mcp.call_tool("shelf_poll", {}))
        await served.shelf.entered.wait()
        asked.cancel()
        async with asyncio.timeout(30):
            await served.shelf.cancelled.wait()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not (await mcp.call_tool("shelf_look", {"itemId": "7"})).is_error


async def handshake(served: Served, token: str = TOKEN) -> dict[str, str]:
    """The headers by which the server knows a client from then on."""
    params = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    headers = {"Authorization": f"Bearer {token}"}
    answer = await post(served, message, **headers)
    return {**headers, "Mcp-Session-Id": answer.headers["mcp-session-id"]}


async def test_only_its_own_client_breaks_a_call_off(served: Served) -> None:
    """Ids are counted by each client for itself; neither a neighbour's nor another caller's ends this one."""
    mine, neighbours = await handshake(served), await handshake(served)
    stranger = {**mine, "Authorization": f"Bearer {await minted(served, Scope.OBSERVE)}"}
    asked = asyncio.create_task(post(served, call("shelf_poll", request_id=5), **mine))
    await served.shelf.entered.wait()

    def cancellation(request_id: object) -> dict[str, object]:
        return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}

    for headers, request_id in ((neighbours, 5), (stranger, 5), ({}, 5), (mine, 4), (mine, None)):
        assert (await post(served, cancellation(request_id), **headers)).status_code == 202
    assert not served.shelf.cancelled.is_set()
    assert (await post(served, cancellation(5), **mine)).status_code == 202
    answer = await asked
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (5, -32800)
    assert served.shelf.cancelled.is_set()


async def test_a_name_that_the_server_never_gave_is_taken(served: Served) -> None:
    """A client that outlived a restart goes on as it was."""
    answer = await post(served, LIST, **{"Mcp-Session-Id": "of-another-life"})
    assert len(answer.json()["result"]["tools"]) == len(NAMES)


async def test_what_does_not_wait_goes_on_without_its_client(served: Served) -> None:
    """As on REST: a change that was asked for is not torn in the middle."""
    body = json.dumps(call("shelf_wait"))
    async with connected(served.http.url) as (_, writer):
        writer.write(
            f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Accept: application/json\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        await served.shelf.entered.wait()
    await served.client.get("/api/health")
    assert not served.shelf.cancelled.is_set()
    served.shelf.released.set()


async def test_a_stop_ends_what_waits_and_says_so(served: Served) -> None:
    """Within the deadline, with a refusal instead of a broken connection."""
    asked = asyncio.create_task(post(served, call("shelf_poll")))
    await served.shelf.entered.wait()
    async with asyncio.timeout(STOPPED_WITHIN_S):
        await served.http.stop()
    result = (await asked).json()["result"]
    assert json.loads(result["content"][0]["text"])["code"] == "shutting_down"
    assert served.shelf.cancelled.is_set()


async def test_a_stop_cuts_off_what_hangs(served: Served) -> None:
    """The stop does not wait for it; the client hears that the outcome is open."""
    asked = asyncio.create_task(post(served, call("shelf_wait")))
    await served.shelf.entered.wait()
    async with asyncio.timeout(STOPPED_WITHIN_S):
        await served.http.stop()
    answer = await asked
    assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")


async def test_the_request_line_may_be_anything(served: Served) -> None:
    """A query does no harm, and a neighbour of the path is nothing."""
    assert (await served.client.post("/mcp?a=b", json=LIST, headers=HEADERS)).status_code == 200
    assert (await served.client.post("/mcp/", json=LIST, headers=HEADERS)).status_code == 404
    half = (
        f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        'Content-Length: 2\r\nConnection: close\r\n\r\n{"'
    )
    assert b" 400 " in (await raw(served.http.url, half.encode())).split(b"\r\n")[0]


def test_the_sdk_is_imported_on_first_use() -> None:
    """A server that no agent asks starts faster and stays smaller."""
    program = "import sys, dorkos.serving; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "dorkos.server.mcp.endpoint" in loaded
    assert not loaded & {"mcp", "mcp_types", "httpx2", "sse_starlette", "jsonschema"}
