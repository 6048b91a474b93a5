"""Agents of different products at work for one another, and what is left when a part of it is killed.

Everything is real: the server, Claude Code's own program, an agent of the Agent Client Protocol. Only the
model behind Claude is a script.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests import model_endpoint as model
from tests.runtimes.kits import ACP_AGENT
from tests.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[2]


class Place:
    """A server whose runs talk to a scripted model, and its stream of events from the beginning."""

    def __init__(self, server: ServerProcess, client: httpx.Client, lines: Iterator[str]) -> None:
        self.server = server
        self.client = client
        self._lines = lines

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def register(self, folder: Path, **manifest: Any) -> dict[str, Any]:
        """An agent of one namespace, so that they may speak to one another."""
        folder.mkdir()
        overrides = {"name": folder.name, "namespace": "team", **manifest}
        found: dict[str, Any] = self.post("/api/mesh/agents", {"path": str(folder), "overrides": overrides})
        return found

    def schedule(self, **fields: Any) -> dict[str, Any]:
        """One that fires once, in a moment; asked for anew where that has passed when the server looks."""
        while True:
            at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
            body = {"name": "once", "runAt": at, "permissionMode": "acceptEdits", **fields}
            answer = self.client.post("/api/pulse/schedules", json=body)
            if answer.json().get("code") != "invalid_instant":
                assert answer.is_success, answer.text
                made: dict[str, Any] = answer.json()
                return made

    def event(self, kind: str) -> dict[str, Any]:
        """The next event of this kind."""
        for line in self._lines:
            if line.startswith("data: ") and f'"{kind}"' in line:
                told: dict[str, Any] = json.loads(line.removeprefix("data: "))
                if told.get("kind") == kind:
                    return told
        raise AssertionError(f"the stream ended before {kind}")


@contextmanager
def place(tmp_path: Path, environment: dict[str, str]) -> Iterator[Place]:
    person = tmp_path / "person"
    person.mkdir(exist_ok=True)
    given = {**environment, "HOME": str(person), "DORKOS_RUN_ENVIRONMENT": ":".join(environment)}
    with (
        ServerProcess(tmp_path / "home", boundary=tmp_path, environment=given) as server,
        server.client() as client,
        server.client() as watcher,
        watcher.stream("GET", "/api/events", timeout=None) as stream,
    ):
        yield Place(server, client, stream.iter_lines())


def started_by(server: ServerProcess) -> list[psutil.Process]:
    """Every process that the server has started, however far down."""
    return psutil.Process(server.pid).children(recursive=True)


def named(processes: list[psutil.Process], name: str) -> list[psutil.Process]:
    """Those of this name. One that has ended meanwhile has none any more."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.name() == name:
                found.append(process)
    return found


def test_a_scheduled_claude_run_gets_an_answer_from_an_agent_of_another_product(tmp_path: Path) -> None:
    """One chain leads from the slot over our tool and the other agent's turn to its reply in the mailbox."""
    with model.serve() as endpoint, place(tmp_path, endpoint.environment) as at:
        lead = at.register(tmp_path / "lead", runtime="claude-code")
        writer = at.register(tmp_path / "writer", runtime="acp", entrypoint=list(ACP_AGENT))
        asked = {"subject": writer["subject"], "payload": json.dumps({"reply": "Here it is."})}
        endpoint.replies += [model.Use("mcp__dorkos__relay_send", asked), model.Say("I asked for it.")]

        schedule = at.schedule(agentId=lead["id"], prompt="Ask the writer for the report.")
        first, second = at.event("pulse.run.finished"), at.event("pulse.run.finished")
        assert (first["data"]["state"], second["data"]["state"]) == ("completed", "completed")

        runs = [at.get(f"/api/pulse/runs/{told['entityId']}") for told in (first, second)]
        claude, acp = sorted(runs, key=lambda run: run["runtime"], reverse=True)
        assert (claude["runtime"], claude["trigger"]) == ("claude", "scheduled")
        assert claude["scheduleId"] == schedule["id"]
        assert claude["slotId"]
        assert claude["sessionId"]
        assert claude["usage"]["outputTokens"] == 2 * model.OUTPUT_TOKENS
        assert claude["costMicrousd"] > 0
        assert (acp["runtime"], acp["trigger"]) == ("acp", "message")

        messages = at.get("/api/relay/messages")["messages"]
        told = {(message["from"], message["subject"]) for message in messages}
        assert told == {(lead["subject"], writer["subject"]), (writer["subject"], lead["subject"])}
        chains = {run["chainId"] for run in runs} | {message["chainId"] for message in messages}
        assert chains == {claude["chainId"]}


def test_a_server_that_is_killed_leaves_no_agent_behind(tmp_path: Path) -> None:
    """What it had started ends by itself; the next server says that the run was interrupted."""
    with model.serve(model.Hang("working")) as endpoint, place(tmp_path, endpoint.environment) as at:
        at.schedule(runtime="claude", cwd=str(tmp_path), prompt="Work.")
        assert endpoint.hanging.wait(60)
        run_id = at.event("pulse.run.started")["entityId"]
        left = started_by(at.server)
        assert len(left) >= 2  # The driver and the program of Claude.
        # It was told before the model was asked, and is stored a moment later.
        while not at.get(f"/api/pulse/runs/{run_id}")["sessionId"]:
            pass
        at.server.kill()
        _, alive = psutil.wait_procs(left, timeout=60)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []

        at.server.start()
        with at.server.client() as client:
            # A server is ready before it has looked at what others left: the stream ends with the run.
            client.get(f"/api/pulse/runs/{run_id}/output/stream")
            run = client.get(f"/api/pulse/runs/{run_id}").json()
        assert (run["state"], run["reason"]) == ("interrupted", "lease_expired")
        assert run["sessionId"]


def test_a_killed_agent_program_is_a_failed_run(tmp_path: Path) -> None:
    """What it had said is kept, and so is its session."""
    with model.serve(model.Hang("working")) as endpoint, place(tmp_path, endpoint.environment) as at:
        at.schedule(runtime="claude", cwd=str(tmp_path), prompt="Work.")
        assert endpoint.hanging.wait(60)
        at.event("pulse.run.output")
        [program] = named(started_by(at.server), "claude")
        program.kill()
        run = at.get(f"/api/pulse/runs/{at.event('pulse.run.finished')['entityId']}")
        assert (run["state"], run["reason"]) == ("failed", "agent_error")
        assert run["sessionId"]
        assert started_by(at.server) == []


def test_a_killed_model_is_a_failed_run(tmp_path: Path) -> None:
    """The turn does not hang on a connection that is gone."""
    script = json.dumps([{"hang": "working"}])
    served = subprocess.Popen(
        [sys.executable, "-m", "tests.model_endpoint"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert served.stdin is not None
    assert served.stdout is not None
    with served:
        served.stdin.write(script)
        served.stdin.close()
        url = served.stdout.readline().strip()
        with place(tmp_path, model.ModelEndpoint([], url).environment) as at:
            at.schedule(runtime="claude", cwd=str(tmp_path), prompt="Work.")
            at.event("pulse.run.output")
            os.kill(served.pid, signal.SIGKILL)
            run = at.get(f"/api/pulse/runs/{at.event('pulse.run.finished')['entityId']}")
    assert (run["state"], run["reason"]) == ("failed", "agent_error")
    assert run["error"]
