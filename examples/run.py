"""Start a server with the two example agents at work, and tell what happens as it happens.

`make run` calls this. The data directory is DORK_HOME (`.dork` in the checkout); Ctrl-C stops the
server, and the next start goes on where this one ended.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

AGENTS = Path(__file__).resolve().parent / "agents"
SCHEDULE = "scout looks around"
READY = "DorkOS ready on "
EVERY_TEN_SECONDS = "*/10 * * * * *"


class Api:
    """The few calls this example makes, as the operator."""

    def __init__(self, url: str, token: str) -> None:
        """Speak to the server at `url`."""
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=httpx.Timeout(20, read=None)
        )

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        return self._answer(self._http.get(path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST a JSON object."""
        return self._answer(self._http.post(path, json=body))

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every event from now on: its kind and its document."""
        with self._http.stream("GET", "/api/events") as stream:
            kind = ""
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    yield kind, json.loads(line[6:])

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        body = response.json()
        if response.is_error:
            raise SystemExit(f"{body['error']} ({body['code']})")
        return body


class Story:
    """Turns events into sentences."""

    def __init__(self, api: Api) -> None:
        """Ask `api` for what an event alone does not tell."""
        self._api = api
        self._names: dict[str, str] = {}

    def introduce(self, agent: dict[str, Any]) -> None:
        """Remember how an agent is called."""
        self._names[agent["id"]] = agent["name"]
        self._names[agent["subject"]] = agent["name"]

    def tell(self, kind: str, event: dict[str, Any]) -> str | None:
        """One sentence about an event, or None if it says nothing to a newcomer."""
        data = event.get("data", {})
        match kind:
            case "pulse.slot.decided" if data.get("verdict") == "run":
                return "The schedule is due: a run is queued."
            case "pulse.slot.decided":
                return f"The schedule was due, but: {data.get('verdict')} ({data.get('reason')})."
            case "pulse.run.started":
                return f"{self._who(data.get('agentId'))} starts to run."
            case "pulse.run.finished":
                return (
                    f"{self._who(data.get('agentId'))} ends: {data['state']} in {data.get('durationMs')} ms."
                )
            case "relay.message.published":
                message = self._api.get(f"/api/relay/messages/{event['entityId']}")
                text = (
                    (message["payload"] or {}).get("content")
                    if isinstance(message["payload"], dict)
                    else message["payload"]
                )
                return f"{self._who(message['from'])} -> {self._who(message['subject'])}: {text}"
            case "relay.delivery.acked":
                return f"Delivered: {self._who(data.get('subject'))} acknowledged the message."
            case "relay.message.dead_lettered":
                return f"A message stopped: {data.get('reason')}."
        return None

    def _because(self, run_id: str, data: dict[str, Any]) -> str:
        if data["state"] == "completed":
            return f" in {data['durationMs']} ms."
        return f" ({self._api.get(f'/api/pulse/runs/{run_id}')['error']})."

    def _who(self, key: str | None) -> str:
        return self._names.get(key or "", key or "somebody")


def start_server(home: Path) -> tuple[subprocess.Popen[str], str]:
    """Start `dorkos up` and wait for its ready line. Returns the process and the address."""
    environment = {**os.environ, "DORK_HOME": str(home), "DORKOS_BOUNDARY": str(AGENTS)}
    server = subprocess.Popen(
        [sys.executable, "-m", "dorkos", "up"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    for line in server.stdout:
        print(line, end="", flush=True)
        if line.startswith(READY):
            return server, line.removeprefix(READY).strip()
    raise SystemExit(server.wait())


def pass_on(server: subprocess.Popen[str]) -> None:
    """Print what the server says until it ends; a pipe that nobody reads would block it one day."""
    assert server.stdout is not None
    for line in server.stdout:
        print(line, end="", flush=True)


def set_up(api: Api, story: Story) -> None:
    """Discover and register the agents, and schedule scout, unless an earlier start did."""
    found = api.post("/api/mesh/discover", {"roots": [str(AGENTS)]})["candidates"]
    print(f"Looked in {AGENTS} and found {len(found)} agents that are not registered yet.")
    for candidate in found:
        agent = api.post("/api/mesh/agents", {"path": candidate["path"], "approver": "examples"})
        print(f"Registered {agent['name']}: {agent['description']}")
    agents = {agent["name"]: agent for agent in api.get("/api/mesh/agents")["agents"]}
    for agent in agents.values():
        story.introduce(agent)
    if any(schedule["name"] == SCHEDULE for schedule in api.get("/api/pulse/schedules")):
        runs = api.get("/api/pulse/runs?limit=500")
        print(f"The schedule from last time goes on; {len(runs)} runs are in the history.")
        return
    api.post(
        "/api/pulse/schedules",
        {
            "name": SCHEDULE,
            "cron": EVERY_TEN_SECONDS,
            "agentId": agents["scout"]["id"],
            "prompt": agents["scribe"]["subject"],
            "maxRuntime": 60_000,
        },
    )
    print("Scheduled scout every ten seconds. It will report to scribe, whose mailbox starts a run.")


def command_line(home: Path) -> str:
    """What to type before a noun to reach this server from the current directory."""
    program = Path(sys.executable).parent / "dorkos"
    return shlex.join([os.path.relpath(program), "--home", os.path.relpath(home)])


def follow(api: Api, story: Story) -> None:
    """Print the story until the server stops."""
    try:
        for kind, event in api.events():
            sentence = story.tell(kind, event)
            if sentence is not None:
                print(f"{datetime.now().astimezone():%H:%M:%S}  {sentence}", flush=True)
    except httpx.HTTPError:
        pass  # The server stopped; whoever stopped it sees the reason there.


def main() -> int:
    """Run until Ctrl-C."""
    home = Path(os.environ.get("DORK_HOME") or ".dork").resolve()
    try:
        server, url = start_server(home)
    except KeyboardInterrupt:
        print("\nStopped before it was ready.")
        return 130
    voice = threading.Thread(target=pass_on, args=(server,), daemon=True)
    voice.start()
    try:
        token = (home / "token").read_text(encoding="ascii").strip()
        api = Api(url, token)
        story = Story(api)
        set_up(api, story)
        print(f"Stop with Ctrl-C. Look around in another terminal: {command_line(home)} status\n", flush=True)
        threading.Thread(target=follow, args=(api, story), daemon=True).start()
        return server.wait()
    except KeyboardInterrupt:
        code = server.wait()  # Ctrl-C reached the server as well.
        voice.join()
        return code
    except SystemExit:
        server.send_signal(signal.SIGTERM)
        server.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
