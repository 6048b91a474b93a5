"""What becomes of a registered project that people copy, move, lose, edit and deny: a walk through each.

Every step is what a person would type, against a real server; each has one outcome, told in docs/mesh.md.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("mesh walk")

ENTRYPOINT = [sys.executable, "agent.py"]
# Answers whoever writes to it, through the command line, as an agent would.
PROGRAM = """
import os, subprocess, sys
sys.stdin.read()
words = ["dorkos", "relay", "send", os.environ["DORKOS_REPLY_TO"], "pong"]
raise SystemExit(subprocess.run(words).returncode)
"""


class Walk:
    """A person at a shell, with one registered project."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        """The project is `disk/scout` in `folder`."""
        self.server = server
        self.folder = folder
        self.disk = folder / "disk"
        self.project = self.disk / "scout"
        self.manifest = self.project / ".dork" / "agent.json"
        self.manifest.parent.mkdir(parents=True)
        document = {"name": "scout", "runtime": "command", "entrypoint": ENTRYPOINT, "namespace": "team"}
        self.manifest.write_text(json.dumps(document), encoding="utf-8")
        (self.project / "agent.py").write_text(PROGRAM, encoding="utf-8")
        self.agent = self.ask("mesh", "register", str(self.project))
        self.ask("relay", "open", "relay.human.operator")  # Where it answers what the person sends it.

    def run(self, *words: str) -> Done:
        """One command."""
        return call(*words, "--json", environment=self.server.environment)

    def ask(self, *words: str) -> Any:
        """What a command answers that must succeed."""
        done = self.run(*words)
        assert done.code == 0, done.out + done.err
        return done.json

    def refusal(self, *words: str) -> str:
        """The code with which a command is refused."""
        done = self.run(*words)
        assert done.code != 0
        return str(done.json["code"])

    def inspected(self) -> Any:
        """All about the agent, after a look at its folder."""
        self.ask("mesh", "reconcile")
        return self.ask("mesh", "inspect", self.agent["id"])

    def edit(self, **fields: object) -> None:
        """Change the manifest by hand."""
        document = {**json.loads(self.manifest.read_text(encoding="utf-8")), **fields}
        self.manifest.write_text(json.dumps(document), encoding="utf-8")

    def answers(self, *, within_s: int = 30) -> bool:
        """Whether the agent answers a ping."""
        done = self.run("mesh", "ping", "scout", "--timeout", str(within_s))
        return bool(done.json.get("answered"))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    """One server and one project for the whole walk: each step leaves it as it found it."""
    folder = tmp_path_factory.mktemp("walk")
    with ServerProcess(folder / "home", boundary=folder) as server:
        yield Walk(server, folder)


def test_it_answers(walk: Walk) -> None:
    """The registered agent is active, has a token, and answers a ping with a run of its own."""
    assert walk.agent["token"].startswith("dork_")
    assert walk.answers()
    assert walk.inspected()["health"]["state"] == "active"


def test_a_copy_is_shown_and_never_adopted(walk: Walk) -> None:
    """Discovery and inspection show it; registering it is refused, and so is calling it a move."""
    copy = walk.folder / "copy"
    shutil.copytree(walk.project, copy)

    (candidate,) = walk.ask("mesh", "discover", str(walk.folder))["candidates"]
    assert (candidate["path"], candidate["duplicateOf"]) == (str(copy), walk.agent["id"])
    assert walk.inspected()["duplicates"] == [str(copy)]
    assert walk.refusal("mesh", "register", str(copy)) == "agent_exists"
    assert walk.refusal("mesh", "move", "scout", str(copy)) == "conflict"

    shutil.rmtree(copy)
    assert walk.inspected()["duplicates"] == []


def test_a_moved_folder_is_missed_until_a_person_says_where_it_is(walk: Walk) -> None:
    """Then it is the same agent, with its id and address."""
    elsewhere = walk.folder / "elsewhere"
    walk.project.rename(elsewhere)

    assert walk.inspected()["health"]["state"] == "unreachable"
    assert walk.refusal("mesh", "register", str(elsewhere)) == "agent_exists"
    moved = walk.ask("mesh", "move", "scout", str(elsewhere))
    assert (moved["id"], moved["subject"]) == (walk.agent["id"], walk.agent["subject"])
    assert walk.answers()

    elsewhere.rename(walk.project)
    walk.ask("mesh", "move", "scout", str(walk.project))
    assert walk.inspected()["agent"]["projectPath"] == str(walk.project)


def test_a_disk_that_is_away_for_a_while_changes_nothing_for_good(walk: Walk) -> None:
    """Unreachable while it is away, active on sight; what was sent meanwhile is answered then."""
    away = walk.folder / "away"
    walk.disk.rename(away)

    assert walk.inspected()["agent"]["status"] == "unreachable"
    assert walk.refusal("mesh", "ping", "scout") == "conflict"
    sent = walk.ask("relay", "send", walk.agent["subject"], "are you there?")
    assert sent["deliveredTo"] == 1

    away.rename(walk.disk)
    assert walk.inspected()["agent"]["status"] == "active"
    assert walk.answers()
    message = walk.ask("relay", "messages", "--subject", walk.agent["subject"])["messages"]
    assert {each["id"]: each["status"] for each in message}[sent["messageId"]] == "delivered"


def test_an_edit_by_hand_counts_as_far_as_it_harms_nobody(walk: Walk) -> None:
    """A new name is taken over; a new program waits until a person registers the folder again."""
    walk.edit(description="Looks around.", entrypoint=["false"])

    found = walk.inspected()
    assert found["agent"]["description"] == "Looks around."
    assert found["agent"]["entrypoint"] == ENTRYPOINT
    assert found["manifest"]["state"] == "changed"
    assert found["manifest"]["waiting"] == {"entrypoint": ["false"]}
    assert walk.answers()

    again = walk.ask("mesh", "register", str(walk.project))
    assert (again["entrypoint"], again["token"]) == (["false"], None)
    assert not walk.answers(within_s=2)

    walk.edit(entrypoint=ENTRYPOINT)
    walk.ask("mesh", "register", str(walk.project))
    assert walk.inspected()["manifest"]["state"] == "same"


def test_a_denied_agent_stays_registered_and_does_nothing(walk: Walk) -> None:
    """Until the denial is lifted."""
    walk.ask("mesh", "deny", str(walk.disk), "--reason", "a test")

    found = walk.inspected()
    assert (found["agent"]["status"], found["health"]["state"]) == ("inactive", "inactive")
    assert found["denial"] == {
        "path": str(walk.disk),
        "reason": "a test",
        "deniedBy": "relay.human.operator",
    }
    assert walk.refusal("mesh", "ping", "scout") == "conflict"
    assert walk.refusal("mesh", "register", str(walk.project)) == "path_denied"
    spoken = walk.run("relay", "send", "relay.human.operator", "hello", "--token", walk.agent["token"])
    assert spoken.json["recipients"][0]["outcome"] == "denied"

    walk.ask("mesh", "allow", str(walk.disk))
    assert walk.inspected()["agent"]["status"] == "active"
    assert walk.answers()


def test_a_deleted_folder_leaves_the_agent_until_a_person_removes_it(walk: Walk) -> None:
    """Nothing is deleted because something is gone; removing is one command, and leaves nothing behind."""
    shutil.rmtree(walk.project)

    assert walk.inspected()["agent"]["status"] == "unreachable"
    assert [agent["name"] for agent in walk.ask("mesh", "list")["agents"]] == ["scout"]

    walk.ask("mesh", "unregister", "scout")
    assert walk.ask("mesh", "list")["agents"] == []
    assert walk.ask("mesh", "topology")["accessRules"] == []
    assert [edge for edge in walk.ask("mesh", "topology")["edges"] if edge["kind"] == "rule"] == []
    assert walk.refusal("relay", "inbox", "--token", walk.agent["token"]) in {"token_invalid", "usage"}
