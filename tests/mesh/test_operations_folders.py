"""Agents by their folders, at the addresses of DorkOS for Node, and an agent asking who it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dorkos.mesh.operations import OPERATIONS
from tests.mesh.fleet import A_ULID, Fleet, make_fleet, make_project, manifest_of
from tests.mesh.test_operations_observed import Served, bearing
from tests.server.kit import serving

CURRENT = "/api/agents/current"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Fleet]]:
    """A server with Mesh behind it, and the operator's client."""
    part = Served()
    async with serving(operations=OPERATIONS, parts={"mesh": part}) as server:
        part.fleet = make_fleet(server.db, server.clock, tmp_path)
        yield server.client, part.fleet


async def test_a_folder_becomes_an_agent_once(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """It is really registered. What is left out is as its manifest says, else `claude-code`."""
    client, fleet = served
    plain = make_project(fleet.root / "plain")
    made = await client.post("/api/agents", json={"path": str(plain), "description": "New"})
    assert made.status_code == 201, made.text
    agent = made.json()
    assert (agent["name"], agent["description"], agent["runtime"]) == ("plain", "New", "claude-code")
    assert agent["registeredBy"] == "relay.human.operator"
    assert set(await fleet.open_mailboxes()) == {agent["subject"]}

    again = await client.post("/api/agents", json={"path": str(plain), "name": "Other"})
    assert (again.status_code, again.json()["code"]) == (409, "agent_exists")
    assert again.json()["error"] == "Agent already exists at this path"
    assert again.json()["details"]["agentId"] == agent["id"]

    told = make_project(fleet.root / "told", {"id": A_ULID, "name": "Told", "runtime": "codex"})
    made = await client.post("/api/agents", json={"path": str(told)})
    assert (made.json()["id"], made.json()["runtime"]) == (A_ULID, "codex")


async def test_an_agent_is_found_and_changed_by_its_folder(
    served: tuple[httpx.AsyncClient, Fleet],
) -> None:
    """The path stands in the query, also of a change."""
    client, fleet = served
    project = make_project(fleet.root / "a b", {"id": A_ULID, "name": "Scout", "runtime": "codex"})
    where = {"path": str(project)}
    nobody = await client.get(CURRENT, params=where)
    assert (nobody.status_code, nobody.json()["error"]) == (404, "No agent registered at this path")
    assert (await client.patch(CURRENT, params=where, json={"name": "x"})).status_code == 404
    await client.post("/api/agents", json=where)

    changed = await client.patch(CURRENT, params=where, json={"persona": "Quiet.", "color": "teal"})
    assert (changed.status_code, changed.json()["manifestWritten"]) == (200, True)
    assert manifest_of(project)["persona"] == "Quiet."
    found = (await client.get(CURRENT, params=where)).json()
    assert (found["id"], found["color"], found["healthStatus"]) == (A_ULID, "teal", "stale")

    asked = [str(project), str(fleet.root), "/etc"]
    resolved = (await client.post("/api/agents/resolve", json={"paths": asked})).json()["agents"]
    assert [resolved[path] and resolved[path]["id"] for path in asked] == [A_ULID, None, None]


@pytest.mark.parametrize(
    ("method", "address", "body"),
    [
        ("GET", CURRENT, None),
        ("PATCH", CURRENT, {"name": "x"}),
        ("PATCH", f"{CURRENT}?path=%2Fx&path=%2Fy", {"name": "x"}),
        ("POST", "/api/agents", {}),
        ("POST", "/api/agents/resolve", {"paths": []}),
        ("POST", "/api/agents/resolve", {"paths": ["/x"] * 21}),
        ("POST", "/api/agents/resolve", {"paths": [""]}),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    served: tuple[httpx.AsyncClient, Fleet], method: str, address: str, body: dict[str, object] | None
) -> None:
    """With the shape of every refusal."""
    answer = await served[0].request(method, address, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_folders_out_of_bounds_are_refused(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """Wherever one is named; only of several asked for at once it is nobody's."""
    client, _ = served
    for asked in (
        client.get(CURRENT, params={"path": "/etc"}),
        client.patch(CURRENT, params={"path": "/etc"}, json={}),
        client.post("/api/agents", json={"path": "/etc"}),
    ):
        answer = await asked
        assert (answer.status_code, answer.json()["code"]) == (403, "outside_boundary")


async def test_an_agent_asks_who_it_is(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """By its token, and is told no paths; a person is nobody of them. It may not ask for folders."""
    client, fleet = served
    project = make_project(fleet.root / "scout", {"id": A_ULID, "name": "Scout", "runtime": "codex"})
    agent = (await client.post("/api/agents", json={"path": str(project)})).json()

    me = (await client.get("/api/agents/me", headers=bearing(agent))).json()
    assert (me["agent"]["id"], me["agent"]["projectPath"]) == (A_ULID, None)
    assert "message" not in me
    assert (await client.get("/api/agents/me")).json() == {
        "agent": None,
        "message": "No agent registered for current directory",
    }
    asked = await client.get(CURRENT, params={"path": str(project)}, headers=bearing(agent))
    assert asked.status_code == 403
