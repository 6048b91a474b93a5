"""Every operation on each of its faces: REST, a tool and a command, all asked of a running server.

What was called is read from the log of the server, so that nothing counts that did not arrive and succeed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dorkos.operation import Operation
from dorkos.server.operations import OPERATIONS
from dorkos.server.rest import in_order
from dorkos.workspace.transcripts import project_folder
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

# What no command asks a server for, and what people use instead.
_CLIENT = "It is what the web client of DorkOS for Node asks at its start; a shell has commands of its own."
_DATABASE = "`dorkos db` works on the files themselves, and needs no server."
NO_COMMAND = {
    "config.show": "`dorkos config list` asks for every setting, with its source.",
    "db.backup": _DATABASE,
    "db.backups": _DATABASE,
    "db.growth": "It is drawn by the console.",
    "db.verify": _DATABASE,
    "mesh.create": "`dorkos mesh register` does it.",
    "mesh.current": "`dorkos mesh list --text FOLDER` finds it.",
    "mesh.me": "`dorkos token whoami` tells an agent who it is.",
    "mesh.resolve": _CLIENT,
    "mesh.update_current": "`dorkos mesh update` does it.",
    "mesh.discover": "`dorkos mesh discover` follows the same search as a stream, to show it as it goes.",
    "mesh.get": "`dorkos mesh inspect` shows more.",
    "mesh.health": "`dorkos mesh inspect` shows it.",
    "mesh.heartbeat": "It is the sign of life of a program; a person's would say nothing of it.",
    "mesh.manifest_schema": "`dorkos mesh schema` prints the one that it was installed with.",
    "mesh.reach": "`dorkos mesh topology` shows who reaches whom.",
    "ping": "`dorkos status` says more.",
    "pulse.schedules.get": "Commands take names, and `dorkos pulse list --json` tells every field.",
    "pulse.schedules.slots": "`dorkos pulse missed` and `dorkos pulse stats` tell of slots.",
    "pulse.timeline": "It is drawn by the console.",
    "relay.extend": "Whoever works with messages for longer than a lease is a program.",
    "relay.message": "`dorkos relay trace` shows a message with its way.",
    "relay.metrics": "`dorkos relay metrics` shows those of deliveries, which hold the same counts.",
    "relay.traffic": "It is drawn by the console.",
    "relay.request_state": "`dorkos relay await` tells where a request stands.",
    "workspace.commands": _CLIENT,
    "workspace.default": _CLIENT,
    "workspace.directory": _CLIENT,
    "workspace.files": _CLIENT,
    "workspace.git": _CLIENT,
    "workspace.messages": _CLIENT,
    "workspace.session": _CLIENT,
    "workspace.session_count": _CLIENT,
    "workspace.sessions": _CLIENT,
}

_WAITS = (sys.executable, "-c", "import signal; signal.pause()")
_ASKS = "#!scripted\nsession\nask Which one, then? | red | blue"
_KIM = "relay.human.kim"
_SESSION = "0b9a3c1e-7d52-4f0e-9a57-2f1c3d4e5f60"


class Walk:
    """A server with everything on it, commands that speak to it, and its log."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        """`folder` lies within the boundary and is empty."""
        self.server = server
        self.folder = folder
        self._log = server.home / "logs" / "dorkos.log"
        self._addresses = [(operation, _pattern(operation)) for operation in in_order(OPERATIONS)]

    def cli(self, *words: str, code: int = 0) -> Done:
        """A command that ends with this exit code."""
        done = call(*words, environment={"DORK_HOME": str(self.server.home)})
        assert done.code == code, f"{words}: {done.code}\n{done.out}{done.err}"
        return done

    def ask(self, *words: str, code: int = 0) -> Any:
        """What a command answers in JSON."""
        return self.cli(*words, "--json", code=code).json

    def ended(self) -> set[str]:
        """End the server, and tell which operations were called and answered, by what its log says.

        A line is written after its answer was sent: only the end of the server says that none is missing.
        """
        assert self.server.stop() == 0
        entries = [json.loads(line) for line in self._log.read_text("ascii").splitlines()]
        told = [entry for entry in entries if entry["msg"] == "request" and entry["status"] < 400]
        return {name for entry in told if (name := self._name(entry["method"], entry["path"]))}

    def _name(self, method: str, path: str) -> str | None:
        for operation, pattern in self._addresses:
            if operation.method == method and pattern.fullmatch(path):
                return operation.name
        return None


def _pattern(operation: Operation[Any, Any, Any]) -> re.Pattern[str]:
    # A path in an address holds slashes, which were decoded before the request was told of.
    one = ".+" if operation.path.endswith("{path}") else "[^/]+"
    return re.compile(re.sub(r"\\\{\w+\\\}", one, re.escape(operation.path)))


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A walk of this test's own."""
    folder = tmp_path / "projects"
    for name in ("scout", "porter"):
        (folder / name).mkdir(parents=True)
        (folder / name / "CLAUDE.md").write_text("# One\n\nLooks around.\n", "utf-8")
    environment = {
        "DORKOS_LOG_LEVEL": "debug",
        "HOME": str(tmp_path),
        "CLAUDE_CONFIG_DIR": str(tmp_path / "c"),
    }
    with ServerProcess(tmp_path / "home", boundary=tmp_path, environment=environment) as server:
        yield Walk(server, folder)


def test_every_operation_has_a_command_or_a_reason_and_answers_over_rest(walk: Walk) -> None:
    """Each command is carried out; what none asked the server for is asked for by hand. Tools have a tour."""
    everything = {operation.name for operation in OPERATIONS}
    _system(walk)
    agent = _mesh(walk)
    _pulse(walk)
    _approvals(walk, agent)
    _relay(walk)
    lacking = everything - walk.ended()
    lacking -= {"mesh.unregister"}  # At the end, since what comes next is asked of an agent.
    assert lacking == set(NO_COMMAND), (sorted(lacking - set(NO_COMMAND)), sorted(set(NO_COMMAND) - lacking))
    assert all(reason.endswith(".") for reason in NO_COMMAND.values())
    walk.server.start()
    _by_hand(walk, agent)
    walk.cli("mesh", "unregister", "scout")
    assert walk.ended() == everything


def _system(walk: Walk) -> None:
    assert walk.ask("status")["version"]
    assert walk.ask("db", "status")
    walk.cli("config", "list")
    walk.cli("config", "set", "scheduler.timezone", "Europe/Berlin")
    assert walk.ask("token", "whoami")["kind"] == "operator"
    made = walk.ask("token", "create", "screen")
    assert made["id"] in [token["id"] for token in walk.ask("token", "list")]
    walk.cli("token", "revoke", made["id"])
    walk.cli("fleet", "hold", "--reason", "walk")
    walk.cli("fleet", "resume")
    walk.cli("fleet")
    link = walk.ask("open", "--print")["url"]
    with httpx.Client(trust_env=False, verify=False, follow_redirects=True, timeout=40) as browser:
        assert browser.get(link).is_success
        [session] = walk.ask("sessions", "list")
        walk.cli("sessions", "end", session["id"])


def _mesh(walk: Walk) -> str:
    """The token of an agent."""
    scout, porter = (str(walk.folder / name) for name in ("scout", "porter"))
    walk.cli("mesh", "discover", str(walk.folder))
    walk.cli("mesh", "register", scout, "--name", "scout", "--namespace", "one")
    walk.cli("mesh", "register", porter, "--name", "porter", "--namespace", "two")
    assert len(walk.ask("mesh", "list")["agents"]) == 2
    walk.cli("mesh", "inspect", "scout")
    walk.cli("mesh", "update", "scout", "--description", "Looks")
    walk.cli("mesh", "token", "scout")
    walk.cli("mesh", "status")
    walk.cli("mesh", "access", "one", "two", "allow")
    walk.cli("mesh", "topology")
    walk.cli("mesh", "reconcile")
    walk.cli("mesh", "schema")
    (walk.folder / "scout").rename(walk.folder / "scout2")
    walk.cli("mesh", "move", "scout", str(walk.folder / "scout2"))
    walk.cli("mesh", "deny", str(walk.folder / "no"))
    walk.cli("mesh", "denied")
    walk.cli("mesh", "allow", str(walk.folder / "no"))
    walk.cli("mesh", "ping", "scout", "--timeout", "1", code=1)
    token: str = walk.ask("mesh", "token", "scout")["token"]
    return token


def _pulse(walk: Walk) -> None:
    words = ("--manual", "--runtime", "scripted", "--permission-mode", "default", "--prompt", _ASKS)
    walk.cli("pulse", "add", "asking", *words, "--cwd", str(walk.folder))
    walk.cli("pulse", "list")
    walk.cli("pulse", "preview", "@daily")
    walk.cli("pulse", "edit", "asking", "--timezone", "Europe/Berlin")
    walk.cli("pulse", "run", "asking", "--follow", code=1)
    [run] = walk.ask("pulse", "runs", "--schedule", "asking")
    walk.cli("pulse", "show", run["id"])
    walk.cli("pulse", "logs", run["id"])
    assert walk.ask("pulse", "questions")
    walk.cli("pulse", "resume", run["id"], "#!scripted\nsay on", "--follow")
    walk.cli("pulse", "stats", "asking")
    walk.cli("pulse", "missed")
    walk.cli("pulse", "simulate", "--days", "1")
    walk.cli("pulse", "test", "asking")
    walk.cli("pulse", "add", "waiting", "--manual", "--cwd", str(walk.folder), "--", *_WAITS)
    waiting = walk.ask("pulse", "run", "waiting")
    walk.cli("pulse", "cancel", waiting.get("runId") or waiting["id"])
    walk.cli("pulse", "pause", "waiting")
    walk.cli("pulse", "delete", "waiting")
    walk.cli("runtime", "list")
    walk.cli("runtime", "test", "scripted", "--prompt", "ready")


def _approvals(walk: Walk, agent: str) -> None:
    with walk.server.client(agent) as client:
        for name in ("one", "two"):
            body = {"name": name, "prompt": "x", "cron": "@daily", "command": ["true"], "reason": "wish"}
            assert client.post("/api/pulse/schedules", json=body).status_code == 201
    pending = [each for each in walk.ask("approvals", "list") if each["content"].get("command") == ["true"]]
    first, second = pending
    walk.cli("approvals", "show", first["id"])
    walk.cli("approvals", "approve", first["id"], first["contentHash"])
    walk.cli("approvals", "reject", second["id"])


def _relay(walk: Walk) -> None:
    walk.cli("relay", "open", _KIM)
    for text in ("first words", "second", "third"):
        walk.cli("relay", "send", _KIM, text)
    walk.cli("relay", "endpoints")
    walk.cli("relay", "inbox", _KIM)
    listed = walk.ask("relay", "messages", "--subject", _KIM)["messages"]
    walk.cli("relay", "search", "words")
    walk.cli("relay", "trace", listed[0]["id"])
    walk.cli("relay", "trace", listed[0]["chainId"], "--chain")
    walk.cli("relay", "metrics")
    walk.cli("relay", "explain", "relay.human.operator", _KIM)
    claimed = walk.ask("relay", "claim", _KIM, "--limit", "3")["deliveries"]
    held = [(_KIM, each["messageId"], each["leaseToken"]) for each in claimed]
    walk.cli("relay", "ack", *held[0])
    walk.cli("relay", "nack", *held[1], "--reject")
    walk.cli("relay", "nack", *held[2], "--reject")
    letters = walk.ask("relay", "dead-letters")
    walk.cli("relay", "dead-letters", "show", letters[0]["id"])
    walk.cli("relay", "dead-letters", "redrive", letters[0]["id"])
    walk.cli("relay", "dead-letters", "purge", letters[1]["id"])
    walk.cli("relay", "dead-letters", "redrive", "--all")
    walk.cli("relay", "dead-letters", "purge", "--all")
    asked = walk.ask("relay", "request", _KIM, "Which?", "--wait", "1s", code=1)
    walk.cli("relay", "claim", _KIM, "--limit", "10")
    walk.cli("relay", "reply", asked["requestId"], "That one.")
    walk.cli("relay", "await", asked["requestId"])
    rule = walk.ask("relay", "rules", "add", "relay.human.a", "relay.human.b", "deny")
    walk.cli("relay", "rules", "list")
    walk.cli("relay", "rules", "remove", rule["id"])
    _adapters(walk)
    mail = walk.folder / "mail" / "new"
    mail.mkdir(parents=True)
    old = {"id": "01HZZZZZZZZZZZZZZZZZZZZZZY", "subject": _KIM, "from": "relay.human.lee", "payload": 1}
    (mail / f"{old['id']}.json").write_text(
        json.dumps(old | {"createdAt": "2026-03-01T09:00:00.000Z"}), "utf-8"
    )
    walk.cli("relay", "import", str(mail.parent), "--subject", _KIM)
    walk.cli("relay", "close-circuit", _KIM)
    walk.cli("relay", "close", _KIM)


def _by_hand(walk: Walk, token: str) -> None:
    """What no command asks for; `token` is an agent's."""
    scout, fresh = str(walk.folder / "scout2"), walk.folder / "fresh"
    fresh.mkdir()
    with walk.server.client() as client, walk.server.client(token) as speaker:
        assert speaker.get("/api/agents/me").json()["agent"]["name"] == "scout"

        def ask(method: str, address: str, **body: Any) -> Any:
            answer = client.request(method, address, json=body or None)
            assert answer.is_success, (address, answer.text)
            return answer.json()

        seen = ("config", "db/backups", "db/growth", "ping", "pulse/timeline", "relay/metrics")
        for address in (*seen, "relay/metrics/traffic"):
            ask("GET", f"/api/{address}")
        ask("POST", "/api/db/backups")
        ask("POST", "/api/db/verify")
        [agent] = [each for each in ask("GET", "/api/mesh/agents")["agents"] if each["name"] == "scout"]
        ask("GET", f"/api/agents/current?path={scout}")
        ask("POST", "/api/agents/resolve", paths=[scout])
        ask("PATCH", f"/api/agents/current?path={scout}", path=scout, description="Looks far")
        ask("POST", "/api/agents", path=str(fresh), name="fresh", runtime="other")
        ask("POST", "/api/mesh/discover", roots=[str(walk.folder)])
        for rest in ("", "/health", "/access"):
            ask("GET", f"/api/mesh/agents/{agent['id']}{rest}")
        ask("POST", f"/api/mesh/agents/{agent['id']}/heartbeat")
        ask("GET", "/api/mesh/manifest-schema")
        [schedule] = [each for each in ask("GET", "/api/pulse/schedules") if each["name"] == "asking"]
        for rest in ("", "/slots"):
            ask("GET", f"/api/pulse/schedules/{schedule['id']}{rest}")
        ask("POST", "/api/relay/endpoints", subject=f"{_KIM}.more")
        asked = ask("POST", "/api/relay/requests", subject=f"{_KIM}.more", payload=1)
        ask("GET", f"/api/relay/requests/{asked['requestId']}")
        ask("GET", f"/api/relay/messages/{asked['requestId']}")
        [held] = ask("POST", f"/api/relay/endpoints/{_KIM}.more/claim", limit=1)["deliveries"]
        lease = {"messageId": held["messageId"], "leaseToken": held["leaseToken"]}
        ask("POST", f"/api/relay/endpoints/{_KIM}.more/extend", **lease)
        transcript = project_folder(walk.folder.parent / "c" / "projects", walk.folder) / f"{_SESSION}.jsonl"
        transcript.parent.mkdir(parents=True)
        transcript.write_text("{}", "utf-8")
        for address in ("directory", "directory/default", "commands", "sessions", "sessions/count"):
            ask("GET", f"/api/{address}?cwd={walk.folder}")
        ask("GET", f"/api/files?cwd={walk.folder}")
        ask("GET", f"/api/git/status?dir={walk.folder}")
        for rest in ("", "/messages"):
            ask("GET", f"/api/sessions/{_SESSION}{rest}?cwd={walk.folder}")


def _adapters(walk: Walk) -> None:
    settings = {"inbound": {"subject": _KIM, "secret": "0123456789abcdef"}}
    walk.cli("relay", "adapters", "add", "hook", "webhook", "--json-config", json.dumps(settings))
    walk.cli("relay", "adapters", "list")
    walk.cli("relay", "adapters", "show", "hook")
    walk.cli("relay", "adapters", "set", "hook", "--json-config", json.dumps(settings))
    walk.cli("relay", "adapters", "disable", "hook")
    walk.cli("relay", "adapters", "enable", "hook")
    walk.cli("relay", "adapters", "reload")
    walk.cli("relay", "adapters", "test", "hook")
    walk.cli("relay", "adapters", "remove", "hook")
