"""The real Claude Code CLI uses the tools: it is the client that most agents come with."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import claude_agent_sdk
import httpx
import pytest

from tests.model_endpoint import MODEL, Say, Use, serve
from tests.server_process import ServerProcess

CLAUDE = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
_SEND = {"subject": "relay.human.kim", "payload": {"text": "the tests pass"}}
_SCHEDULE = {"name": "nightly", "prompt": "Tidy up", "cron": "0 3 * * *", "reason": "The folder fills up"}


def _talk(folder: Path, url: str, token: str, *, environment: dict[str, str]) -> Any:
    """One conversation of the CLI, without a person, with our tools alone."""
    servers = {
        "dorkos": {"type": "http", "url": f"{url}/mcp", "headers": {"Authorization": f"Bearer {token}"}}
    }
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}), "utf-8")
    command = [
        str(CLAUDE),
        *("-p", "Tell Kim, and look after the folder from now on."),
        *("--output-format", "json", "--model", MODEL, "--max-turns", "5"),
        *("--mcp-config", str(config), "--strict-mcp-config"),
        *("--allowedTools", "mcp__dorkos"),
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """The folder of an agent, within the boundary."""
    folder = tmp_path / "scout"
    folder.mkdir()
    return folder


def test_an_agent_sends_and_proposes_a_schedule_in_its_own_name(tmp_path: Path, agent: Path) -> None:
    """The rows are there, stamped by the token; the schedule waits, and no agent can approve it."""
    with (
        ServerProcess(tmp_path / "home", boundary=tmp_path) as server,
        server.client() as operator,
        serve() as model,
    ):
        made = operator.post(
            "/api/mesh/agents",
            json={"path": str(agent), "overrides": {"name": "scout", "runtime": "claude-code"}},
        ).json()
        operator.post("/api/relay/endpoints", json={"subject": "relay.human.kim"})
        proposal = {**_SCHEDULE, "agentId": made["id"]}
        model.replies += [
            Use("mcp__dorkos__relay_send", _SEND),
            Use("mcp__dorkos__create_schedule", proposal),
            Say("Done."),
        ]

        said = _talk(agent, server.url, made["token"], environment=model.environment)

        assert said["result"] == "Done.", said
        [message] = _messages(operator)
        assert (message["from"], message["payload"]) == (made["subject"], _SEND["payload"])
        [schedule] = operator.get("/api/pulse/schedules").json()
        assert (schedule["name"], schedule["status"]) == ("nightly", "pending_approval")
        assert schedule["createdBy"] == made["subject"]
        assert schedule["nextRun"] is None
        [approval] = operator.get("/api/approvals").json()
        assert (approval["scheduleId"], approval["proposedBy"]) == (schedule["id"], made["subject"])
        with server.client(made["token"]) as same_agent:
            for path, body in (
                (f"/api/approvals/{approval['id']}/approve", {"contentHash": approval["contentHash"]}),
                (f"/api/pulse/schedules/{schedule['id']}/trigger", {}),
            ):
                assert same_agent.post(path, json=body).status_code == 403
            active = {"status": "active"}
            assert same_agent.patch(f"/api/pulse/schedules/{schedule['id']}", json=active).status_code == 403
        assert operator.get("/api/pulse/schedules").json()[0]["status"] == "pending_approval"


def _messages(client: httpx.Client) -> Any:
    """The messages to Kim, with what they say."""
    page = client.get("/api/relay/messages", params={"subject": "relay.human.kim"}).json()
    return [client.get(f"/api/relay/messages/{row['id']}").json() for row in page["messages"]]
