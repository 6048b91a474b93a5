"""The real Claude Code CLI uses the tools: it is the client that most agents come with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def _over_http(server: ServerProcess, token: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}"}
    return {"type": "http", "url": f"{server.url}/mcp", "headers": headers}


def _over_stdio(server: ServerProcess, token: str) -> dict[str, Any]:
    environment = {"DORK_HOME": str(server.home), "DORKOS_TOKEN": token}
    return {"type": "stdio", "command": sys.executable, "args": ["-m", "dorkos", "mcp"], "env": environment}


def _talk(folder: Path, tools: dict[str, Any], *, environment: dict[str, str]) -> Any:
    """One conversation of the CLI, without a person, with our tools alone."""
    config = folder / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"dorkos": tools}}), "utf-8")
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
    """The rows are there, stamped by the token; the schedule waits, and no agent can approve it. Over HTTP,
    and by the program that speaks on standard input."""
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

        said = _talk(agent, _over_http(server, made["token"]), environment=model.environment)

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

        again = {**_SEND, "payload": {"text": "by another way"}}
        model.replies += [
            Use("mcp__dorkos__relay_send", again),
            Use("mcp__dorkos__create_schedule", {**proposal, "name": "weekly"}),
            Say("Done again."),
        ]
        said = _talk(agent, _over_stdio(server, made["token"]), environment=model.environment)

        assert said["result"] == "Done again.", said
        [latest, _] = _messages(operator)
        assert (latest["from"], latest["payload"]) == (made["subject"], again["payload"])
        found = {each["name"]: each for each in operator.get("/api/pulse/schedules").json()}
        assert (found["weekly"]["status"], found["weekly"]["createdBy"]) == (
            "pending_approval",
            made["subject"],
        )


def _messages(client: httpx.Client) -> Any:
    """The messages to Kim, with what they say."""
    page = client.get("/api/relay/messages", params={"subject": "relay.human.kim"}).json()
    return [client.get(f"/api/relay/messages/{row['id']}").json() for row in page["messages"]]
