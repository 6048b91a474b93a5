"""The wire of DorkOS for Node, compared field by field with that of a running server."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from dorkos.workspace.transcripts import project_folder
from tests.e2e.contract import Row, deviations, filled, iso
from tests.e2e.contract_rest import REST
from tests.e2e.contract_shapes import ENVELOPE, SIGNAL
from tests.e2e.contract_tools import TOOLS
from tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("contract")

_SESSION = "0b9a3c1e-7d52-4f0e-9a57-2f1c3d4e5f60"
_SAID = {
    "type": "user",
    "uuid": "u1",
    "timestamp": "2026-03-01T10:00:00.000Z",
    "message": {"role": "user", "content": "Tidy up"},
}
# Longer than anything takes; a row that never agrees ends with what it last said.
_PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all rows, since asking costs nothing and starting does."""
    root = tmp_path_factory.mktemp("contract")
    (root / "plain").mkdir()
    claude = root / "claude"
    environment = {"CLAUDE_CONFIG_DIR": str(claude), "HOME": str(root)}
    environment["DORKOS_PRESSURE_WARNING_AT"] = "0.002"  # At the second of a thousand messages.
    with ServerProcess(root / "home", boundary=root, environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def kept(server: ServerProcess) -> dict[str, Any]:
    """What rows refer to: a folder with a project of each kind, and later what was answered."""
    folder = server.home.parent / "projects"
    (folder / "scout").mkdir(parents=True)
    (folder / "scout" / "CLAUDE.md").write_text("# Scout\n\nLooks around.\n", "utf-8")
    (folder / "porter").mkdir()
    (folder / "finder").mkdir()
    command = folder / ".claude" / "commands" / "docs" / "write.md"
    command.parent.mkdir(parents=True)
    command.write_text(
        '---\ndescription: "Write"\nargument-hint: FILE\nallowed-tools: Read\n---\nText', "utf-8"
    )
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    transcript = project_folder(server.home.parent / "claude" / "projects", folder) / f"{_SESSION}.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.write_text(json.dumps(_SAID), "utf-8")
    return {"folder": str(folder), "quoted": quote(str(folder), safe=""), "session": _SESSION}


def test_every_answer_over_http_has_the_shape_that_clients_know(
    server: ServerProcess, kept: dict[str, Any]
) -> None:
    """Paths, methods, keys and types, bare arrays against objects, and the statuses of refusals."""
    found: list[str] = []
    with server.client() as client:
        for row in REST:
            answer, faults = _asked(client, row, kept)
            found += [f"{row.call} {row.given or ''}: {fault}" for fault in faults]
            if row.keep:
                kept[row.keep] = answer
    assert not found, "\n".join(found)


async def test_every_tool_of_the_lineage_takes_and_answers_what_it_did(
    server: ServerProcess, kept: dict[str, Any]
) -> None:
    """One text of JSON each, and an error only where there is one."""
    found: list[str] = []
    assert len({row.call for row in TOOLS}) == 26
    with server.client() as operator:
        hook = {"url": "https://example.org/hook", "secret": "0123456789abcdef"}
        adapter = {"id": "hook", "type": "webhook", "enabled": False, "config": {"outbound": hook}}
        assert operator.post("/api/relay/adapters", json=adapter).status_code in (201, 409)
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx2.AsyncClient(headers=headers, timeout=40, trust_env=False, verify=False) as http:
        transport = streamable_http_client(f"{server.url}/mcp", http_client=http)
        async with Client(transport) as client:
            for row in TOOLS:
                result = await client.call_tool(row.call, filled(row.given, kept) or {})
                [content] = result.content
                assert content.type == "text"
                answer = json.loads(content.text)
                faults = deviations(answer, row.shape)
                if bool(result.is_error) != (row.status != 200):
                    faults = [f"it is {'an' if result.is_error else 'no'} error: {content.text[:300]}"]
                found += [f"{row.call} {row.given or ''}: {fault}" for fault in faults]
                if row.keep:
                    kept[row.keep] = answer
    assert not found, "\n".join(found)


def test_the_stream_of_messages_frames_them_as_clients_read_them(server: ServerProcess) -> None:
    """The greeting first, each frame whole, the envelope under its own event with an id; a warning when the
    mailbox fills up. Signals of other kinds had no sender, so that there is no `relay_signal`."""
    address, eve = "/api/relay/stream?subject=relay.human.*", "relay.human.eve"
    with server.client() as client, server.client() as sender, client.stream("GET", address) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        pieces = (frame for piece in stream.iter_text() for frame in _frames(piece))
        connected = next(pieces)
        assert connected["event"] == "relay_connected"
        assert not deviations(connected["data"], {"pattern": "relay.human.*", "connectedAt": iso})
        assert sender.post("/api/relay/endpoints", json={"subject": eve}).status_code == 201
        sent = sender.post("/api/relay/messages", json={"subject": eve, "payload": "é\n"}).json()
        assert sent["deliveredTo"] == 1
        message = next(pieces)
        sender.post("/api/relay/messages", json={"subject": eve, "payload": 2})
        more = {one["event"]: one for one in (next(pieces), next(pieces))}
    assert not deviations(more["relay_backpressure"]["data"], SIGNAL)
    assert more["relay_backpressure"]["data"]["endpointSubject"] == eve
    assert more["relay_message"]["data"]["payload"] == 2
    assert (message["event"], message["data"]["payload"]) == ("relay_message", "é\n")
    assert message["id"]
    assert not deviations(message["data"], ENVELOPE)


def _frames(text: str) -> Iterator[dict[str, Any]]:
    """The frames of one read, the way the lineage's client splits them: by lines, one of data each."""
    assert text.endswith("\n\n")
    for frame in text[:-2].split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n"))
        if "event" in lines:  # Not a sign of life.
            yield {**lines, "data": json.loads(lines["data"])}


def _asked(client: httpx.Client, row: Row, kept: dict[str, Any]) -> tuple[Any, list[str]]:
    method, address = filled(row.call, kept).split(" ", 1)
    given = filled(row.given, kept)
    until = time.monotonic() + (_PATIENCE_S if row.patient else 0)
    while True:
        # As the lineage's client sends it: with a type also where there is no body.
        headers = {"Content-Type": "application/json"}
        content = given if given is None or isinstance(given, bytes) else json.dumps(given)
        answer = client.request(method, address, headers=headers, content=content)
        if answer.headers["content-type"] != "application/json":
            return None, [f"{answer.status_code} {answer.headers['content-type']}"]
        body = answer.json()
        faults = deviations(body, row.shape)
        if answer.status_code != row.status:
            faults = [f"{answer.status_code} instead of {row.status}: {answer.text[:300]}"]
        if not faults or time.monotonic() > until:
            return body, faults
