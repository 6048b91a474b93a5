"""The tools as agents use them: the official client against the whole program, over HTTP and over stdio."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

import dorkos
from tests.e2e.mcp_tour import Tour
from tests.server_process import ServerProcess

ERAS = ("legacy", "auto")
# Those that share a server.
TOGETHER = pytest.mark.xdist_group("standing")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server of this test's own."""
    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        with server.client() as client:
            inbound = {"subject": "relay.human.hook", "secret": "0123456789abcdef"}
            hook = {"id": "hook", "type": "webhook", "enabled": False, "config": {"inbound": inbound}}
            assert client.post("/api/relay/adapters", json=hook).status_code == 201
        yield server


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running server for all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("standing")
    with ServerProcess(folder / "home", boundary=folder) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder within the boundary."""
    folder = tmp_path / "projects"
    folder.mkdir()
    return folder


@asynccontextmanager
async def over_http(server: ServerProcess, mode: str = "auto") -> AsyncGenerator[Client]:
    """A client of the server, as the operator."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=40, trust_env=False, verify=False) as http:
        transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@asynccontextmanager
async def over_stdio(server: ServerProcess, mode: str = "auto", **more: str) -> AsyncGenerator[Client]:
    """A client of `dorkos mcp`, which finds the server by its data directory."""
    environment = {name: value for name, value in server.environment.items() if name != "DORKOS_URL"}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "dorkos", "mcp"], env={**environment, **more}
    )
    async with Client(stdio_client(command), mode=mode) as client:
        yield client


async def subject_of(client: Client) -> str:
    """As whom the server takes the client, by a message to nobody."""
    sent = await client.call_tool("relay_send", {"subject": "relay.human.nobody", "payload": 1})
    message_id = sent.structured_content["messageId"]
    found = await client.call_tool("relay_get_message", {"id": message_id})
    subject: str = found.structured_content["from"]
    return subject


async def test_every_tool_works_over_http(server: ServerProcess, folder: Path) -> None:
    """With real data, and every answer follows its schema; some of each part in the older era as well."""
    async with over_http(server) as client:
        await Tour(client, folder).everything()
    async with over_http(server, "legacy") as client:
        await Tour(client, folder).a_few(live=True)
    assert server.stop() == 0
    assert "Traceback" not in "".join(server.output)


async def test_every_tool_works_over_stdio(server: ServerProcess, folder: Path) -> None:
    """The same, through `dorkos mcp` to the running server, with the eras exchanged."""
    async with over_stdio(server, "legacy") as client:
        await Tour(client, folder).everything()
    async with over_stdio(server) as client:
        await Tour(client, folder).a_few(live=True)


async def test_the_tools_work_without_a_server(server: ServerProcess, folder: Path) -> None:
    """What needs none; a server that is started in between is found, and sees all that was done."""
    server.stop()
    async with over_stdio(server) as client:
        tour = Tour(client, folder)
        await tour.a_few(live=False)
        assert (await tour.call("get_server_info"))["port"] is None
        [schedule] = (await tour.call("list_schedules"))["schedules"]
        server.start()
        assert (await tour.call("get_server_info"))["port"] == int(server.url.rsplit(":", 1)[1])
        assert (await tour.call("trigger_schedule", id=schedule["id"]))["runId"]


async def test_two_clients_without_a_server_take_turns(server: ServerProcess) -> None:
    """The data directory is held for a call, not for a conversation."""
    server.stop()

    async def four(client: Client, mailbox: str) -> None:
        await client.call_tool("relay_register_endpoint", {"subject": mailbox})
        sent = [client.call_tool("relay_send", {"subject": mailbox, "payload": n}) for n in range(4)]
        assert [result.structured_content["deliveredTo"] for result in await asyncio.gather(*sent)] == [1] * 4

    async with over_stdio(server) as one, over_stdio(server, "legacy") as other:
        await asyncio.gather(four(one, "relay.human.kim"), four(other, "relay.human.lee"))
        listed = await one.call_tool("relay_list_messages", {})
        assert len(listed.structured_content["messages"]) == 8


async def test_clients_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    """A crash of it, too: the next call works without a new handshake, since no session was lost."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = {"DORKOS_PORT": str(port)}
    with ServerProcess(tmp_path / "home", boundary=tmp_path, environment=fixed) as server:
        async with AsyncExitStack() as open_clients:
            web = [await open_clients.enter_async_context(over_http(server, era)) for era in ERAS]
            piped = [await open_clients.enter_async_context(over_stdio(server, era)) for era in ERAS]
            for client in (*web, *piped):
                assert not (await client.call_tool("ping", {})).is_error
            server.kill()
            # No server is no obstacle to these: they open what the dead one left.
            for client in piped:
                assert not (await client.call_tool("ping", {})).is_error
            server.start()
            for client in (*web, *piped):
                assert not (await client.call_tool("ping", {})).is_error


@TOGETHER
async def test_over_stdio_the_person_is_the_operator(standing: ServerProcess) -> None:
    """By the token in the data directory."""
    async with over_stdio(standing) as client:
        assert await subject_of(client) == "relay.human.operator"


async def test_over_stdio_the_server_may_come_back_elsewhere(server: ServerProcess) -> None:
    """Its address is looked up for each request."""
    async with over_stdio(server) as client:
        before = (await client.call_tool("get_server_info", {})).structured_content["port"]
        server.stop()
        server.start()
        after = (await client.call_tool("get_server_info", {})).structured_content["port"]
    assert (f":{before}" in server.url, f":{after}" in server.url) == (before == after, True)


def answers_over_stdio(environment: Mapping[str, str], *requests: Mapping[str, object]) -> list[Any]:
    """What `dorkos mcp` answers to these requests; at the end of its input it has to end well.

    Its input ends when all is answered: after that it waits for seconds only, which a busy machine may need.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "dorkos", "mcp"],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as bridge:
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        bridge.stdin.writelines(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests)
        bridge.stdin.flush()
        answers = [json.loads(bridge.stdout.readline()) for _ in requests]
        assert bridge.communicate(timeout=60) == ("", "")
    assert bridge.returncode == 0
    return answers


def test_over_stdio_a_credential_that_fails_is_never_the_operators(server: ServerProcess) -> None:
    """A wrong one, an empty one, a run without one; with a server and without: each request is told why."""
    environment = {name: value for name, value in server.environment.items() if name != "DORKOS_URL"}
    for running in (True, False):
        for more, code in (
            ({"DORKOS_TOKEN": "dork_wrong"}, "token_invalid"),
            ({"DORKOS_TOKEN": ""}, "token_missing"),
            ({"DORKOS_RUN_ID": "01JNA0000000000000000000AA"}, "token_missing"),
        ):
            [answer] = answers_over_stdio(environment | more, {"id": "a", "method": "tools/list"})
            assert (answer["id"], answer["error"]["data"]["code"]) == ("a", code)
            assert answer["error"]["data"]["hint"] in answer["error"]["message"]
        if running:
            server.stop()


# A run's environment is clean, so this program would not find a checkout by itself.
_PACKAGE = str(Path(dorkos.__file__).parents[1])
_AGENT = f"""if True:
    import json, os, subprocess, sys

    def ask(number, method, **params):
        return json.dumps({{"jsonrpc": "2.0", "id": number, "method": method, "params": params}})

    lines = [
        ask(0, "initialize", protocolVersion="2025-06-18", capabilities={{}},
            clientInfo={{"name": "agent", "version": "1"}}),
        ask(1, "tools/list"),
        ask(2, "tools/call", name="relay_send", arguments={{"subject": "relay.human.kim", "payload": "hi"}}),
        ask(3, "tools/call", name="create_schedule", arguments={{
            "name": "sweep", "prompt": "Sweep.", "cron": "0 9 * * *", "command": ["true"],
            "reason": "It is dusty."}}),
        ask(4, "tools/call", name="create_schedule", arguments={{
            "name": "secret", "prompt": "Do it.", "command": ["true"]}}),
        ask(5, "tools/call", name="list_schedules", arguments={{}}),
        ask(6, "tools/call", name="relay_send", arguments={{
            "subject": "relay.human.kim", "payload": "hi", "from": "relay.human.operator"}}),
    ]
    bridge = subprocess.Popen([sys.executable, "-m", "dorkos", "mcp"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env={{**os.environ, "PYTHONPATH": {_PACKAGE!r}}})
    for line in lines:
        print(line, file=bridge.stdin, flush=True)
    for _ in lines:
        print(bridge.stdout.readline(), flush=True)
    bridge.communicate()
"""


async def test_an_agent_acts_as_itself_and_waits_for_approval(server: ServerProcess, folder: Path) -> None:
    """From within its run: what it sends has its name, what it schedules waits, and the rest is refused."""
    (folder / ".dork").mkdir()
    entrypoint = [sys.executable, "-c", _AGENT]
    manifest = {"name": "scout", "runtime": "command", "entrypoint": entrypoint}
    (folder / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")

    async with over_http(server) as client:
        tour = Tour(client, folder)
        await tour.call("relay_register_endpoint", subject="relay.human.kim")
        agent = (await tour.call("mesh_register", path=str(folder)))["agent"]
        created = await tour.call("create_schedule", name="go", prompt="Go.", agentId=agent["id"])
        run_id = (await tour.call("trigger_schedule", id=created["schedule"]["id"]))["runId"]
        while not (await tour.call("get_run_output", id=run_id))["final"]:
            pass
        output = await tour.call("get_run_output", id=run_id)
        schedules = (await tour.call("list_schedules"))["schedules"]
        messages = (await tour.call("relay_inbox", endpoint_subject="relay.human.kim"))["messages"]

    printed = "".join(chunk["text"] for chunk in output["chunks"])
    answers: dict[int, Any] = {}
    for line in filter(None, map(str.strip, printed.splitlines())):
        answer = json.loads(line)
        answers[answer["id"]] = answer["result"]
    assert set(answers) == set(range(7)), printed
    names = {tool["name"] for tool in answers[1]["tools"]}
    assert {"relay_send", "relay_claim", "create_schedule", "ping"} <= names
    assert not names & {"delete_schedule", "trigger_schedule", "mesh_register", "list_schedules"}

    def code(number: int) -> str:
        assert answers[number]["isError"]
        found: str = json.loads(answers[number]["content"][0]["text"])["code"]
        return found

    assert (code(4), code(5), code(6)) == ("reason_required", "forbidden", "sender_mismatch")
    [message] = messages
    assert (message["from"], message["payload"], message["runId"]) == (agent["subject"], "hi", run_id)
    assert answers[3]["structuredContent"]["note"].startswith("It waits for approval")
    [proposed] = [schedule for schedule in schedules if schedule["id"] != created["schedule"]["id"]]
    assert (proposed["name"], proposed["status"], proposed["createdBy"], proposed["reason"]) == (
        "sweep",
        "pending_approval",
        agent["subject"],
        "It is dusty.",
    )
    assert proposed["nextRun"] is None


@TOGETHER
def test_the_bridge_ends_with_its_client(standing: ServerProcess) -> None:
    """At the end of input, after the answers that were owed."""
    ping = {"id": 1, "method": "tools/call", "params": {"name": "ping", "arguments": {}}}
    [answer] = answers_over_stdio(standing.environment, ping)
    assert answer["result"]["structuredContent"]["status"] == "pong"


@TOGETHER
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_bridge_ends_when_told_to(standing: ServerProcess, how: signal.Signals) -> None:
    """Also while its client says nothing, and without a word about it."""
    with subprocess.Popen(
        [sys.executable, "-m", "dorkos", "mcp"],
        env=standing.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as bridge:
        assert bridge.stdin is not None
        assert bridge.stdout is not None
        bridge.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        bridge.stdin.flush()
        assert json.loads(bridge.stdout.readline())["id"] == 1
        bridge.send_signal(how)
        assert bridge.wait(timeout=30) in (130, -signal.SIGTERM)
        assert bridge.stderr is not None
        assert bridge.stderr.read() == b""
