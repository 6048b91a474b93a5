"""`dorkos mesh` on one agent and on all of them, against a real server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Dorkos
from tests.server_process import ServerProcess


@pytest.fixture
def agent(dorkos: Dorkos, projects: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A registered agent, named after the test, in a namespace of its own; removed afterwards."""
    name = str(request.node.name)[5:40].strip("_")
    path = projects / "agents" / name
    (path / ".dork").mkdir(parents=True)
    manifest = {"name": name, "runtime": "command", "entrypoint": ["cat"], "namespace": name}
    (path / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")
    registered = dorkos("mesh", "register", str(path), "--json").json
    yield registered
    dorkos("mesh", "unregister", registered["id"])


def test_inspecting_shows_state_reasons_and_what_waits(
    dorkos: Dorkos, server: ServerProcess, agent: Any
) -> None:
    """As the REST answer with --json; what needs a person stands beside it."""
    manifest = Path(agent["projectPath"]) / ".dork" / "agent.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**document, "entrypoint": ["rm"]}), encoding="utf-8")

    shown = dorkos("mesh", "inspect", agent["name"])

    lines = shown.out.splitlines()
    assert lines[0] == f"{agent['name']} stale"
    assert lines[1] == "  Nothing was ever seen of it."
    facts = dict(line.split(None, 1) for line in lines[2:])
    assert (facts["mailbox"], facts["program"], facts["manifest"]) == (agent["subject"], "cat", "changed")
    assert 'entrypoint = ["rm"]' in shown.err
    assert f"dorkos mesh register {agent['projectPath']}" in shown.err
    with server.client() as client:
        answer = client.get(f"/api/mesh/agents/{agent['id']}/inspect").json()
    assert dorkos("mesh", "inspect", agent["id"], "--json").json == answer


def test_updating_changes_only_what_is_given(dorkos: Dorkos, agent: Any) -> None:
    """And nothing given is misuse."""
    words = (
        "--max-calls",
        "7",
        "--capability",
        "a",
        "--capability",
        "b",
        "--mode",
        "silent",
        "--color",
        "teal",
    )
    done = dorkos("mesh", "update", agent["name"], *words)
    assert done.out == f"Changed {agent['name']}.\n"

    after = dorkos("mesh", "inspect", agent["id"], "--json").json["agent"]
    assert after["budget"] == {"maxCallsPerHour": 7, "maxHopsPerMessage": 5}
    assert (after["capabilities"], after["color"]) == (["a", "b"], "teal")
    assert (after["behavior"]["responseMode"], after["name"]) == ("silent", agent["name"])
    nothing = dorkos("mesh", "update", agent["name"], "--json")
    assert (nothing.code, nothing.json["code"]) == (2, "usage")
    wrong = dorkos("mesh", "update", agent["name"], "--mode", "loud", "--json")
    assert (wrong.code, wrong.json["code"]) == (2, "validation_failed")


def test_a_moved_folder_is_told_by_relative_paths_too(dorkos: Dorkos, agent: Any) -> None:
    """A copy is no move: exit code 4."""
    home = Path(agent["projectPath"])
    copy = home.with_name(f"{home.name}-2")
    shutil.copytree(home, copy)
    refused = dorkos("mesh", "move", agent["name"], str(copy), "--json")
    assert (refused.code, refused.json["code"]) == (4, "conflict")

    shutil.rmtree(home)
    moved = dorkos("mesh", "move", agent["name"], str(copy))
    assert moved.out == f"{agent['name']} is at {copy} now.\n"


def test_a_token_stands_alone_on_standard_output(dorkos: Dorkos, agent: Any) -> None:
    """So that it can be taken from there; the words about it stand beside."""
    made = dorkos("mesh", "token", agent["name"])
    assert made.out.startswith("dork_")
    assert len(made.out.split()) == 1
    assert agent["subject"] in made.err
    listed = dorkos("mesh", "list", "--token", made.out.strip(), "--json")
    assert [each["id"] for each in listed.json["agents"]] == [agent["id"]]
    assert dorkos("mesh", "list", "--token", agent["token"]).code == 5


def test_an_agent_that_does_not_answer_is_an_exit_code_of_its_own(dorkos: Dorkos, agent: Any) -> None:
    """It took the message and said nothing; the answer is whole with --json as well."""
    done = dorkos("mesh", "ping", agent["name"], "--timeout", "2")
    assert done.code == 1
    assert done.out.startswith(f"{agent['name']} did not answer within 2")
    dorkos("mesh", "update", agent["name"], "--mode", "silent")
    silent = dorkos("mesh", "ping", agent["name"], "--timeout", "1", "--json")
    assert (silent.code, silent.json["answered"]) == (1, False)
    assert silent.json["detail"] == "The message waits in its mailbox: nobody has taken it."


def test_the_counts_add_up(dorkos: Dorkos, agent: Any) -> None:
    """Each agent is in one of them."""
    counts = dorkos("mesh", "status", "--json").json
    states = ("active", "inactive", "stale", "unreachable", "stuck")
    assert sum(counts[f"{state}Count"] for state in states) == counts["totalAgents"] >= 1
    assert "command" in dorkos("mesh", "status").out
    assert agent["status"] == "active"


def test_the_way_between_namespaces_is_opened_and_closed(dorkos: Dorkos, agent: Any, projects: Path) -> None:
    """The topology shows the rule as long as it stands, and both by name."""
    other = projects / "agents" / "other"
    other.mkdir(exist_ok=True)
    words = ("--name", "other", "--runtime", "other", "--namespace", "others")
    dorkos("mesh", "register", str(other), *words)
    mine = agent["namespace"]

    opened = dorkos("mesh", "access", mine, "others", "allow")
    assert opened.out == f"Agents of {mine} may send to others.\n"
    shown = dorkos("mesh", "topology", "--namespace", mine).out
    assert f"{mine} (1 agent)" in shown
    assert "others (1 agent)" in shown
    assert any(
        line.split()[:3] == ["allow", f"relay.agent.{mine}.*", "relay.agent.others.*"]
        for line in shown.splitlines()
    )
    assert dorkos("mesh", "access", mine, "others", "deny").code == 0
    assert "others" not in dorkos("mesh", "topology", "--namespace", mine).out

    assert dorkos("mesh", "access", mine, "*", "allow", "--json").json["code"] == "validation_failed"
    assert dorkos("mesh", "access", mine, "others", "maybe").code == 2
    dorkos("mesh", "unregister", "other")


def test_a_look_at_the_folders_tells_what_is_gone(dorkos: Dorkos, agent: Any) -> None:
    """And a list can be narrowed to that."""
    home = Path(agent["projectPath"])
    away = home.rename(home.with_name(f"{home.name}-away"))
    done = dorkos("mesh", "reconcile")
    assert f"unreachable  {agent['id']}" in done.out

    gone = dorkos("mesh", "list", "--health", "unreachable", "--namespace", agent["namespace"], "--json").json
    assert [each["id"] for each in gone["agents"]] == [agent["id"]]
    away.rename(home)
    assert agent["id"] in dorkos("mesh", "reconcile", "--json").json["returned"]
    found = dorkos("mesh", "list", "--text", agent["name"].upper(), "--capability", "nothing", "--json").json
    assert found["agents"] == []
