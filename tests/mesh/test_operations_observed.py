"""Looking at agents over HTTP: every key, and who may ask for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dorkos.ids import new_id
from dorkos.mesh.operations import OPERATIONS
from tests.mesh.fleet import A_ULID, Fleet, make_fleet, make_project, manifest_of
from tests.server.kit import serving

AGENTS = "/api/mesh/agents"
NOW = "2026-03-01T09:00:00.000Z"
NEVER = {"reason": "never_seen", "detail": "Nothing was ever seen of it."}


class Served:
    """Stands for the service, which can only be made once the server has a database."""

    fleet: Fleet

    def __getattr__(self, name: str) -> object:
        return getattr(self.fleet.mesh, name)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Fleet]]:
    """A server with Mesh behind it, and the operator's client."""
    part = Served()
    async with serving(operations=OPERATIONS, parts={"mesh": part}) as server:
        part.fleet = make_fleet(server.db, server.clock, tmp_path)
        yield server.client, part.fleet


async def register(
    served: tuple[httpx.AsyncClient, Fleet], name: str, namespace: str = "team", **manifest: object
) -> dict[str, object]:
    """A registered agent, as it is answered."""
    client, fleet = served
    document = {"name": name, "runtime": "codex", "namespace": namespace, **manifest}
    project = make_project(fleet.root / name, document)
    answer = await client.post(AGENTS, json={"path": str(project), "scanRoot": str(fleet.root)})
    assert answer.status_code == 201, answer.text
    agent: dict[str, object] = answer.json()
    return agent


def bearing(agent: dict[str, object]) -> dict[str, str]:
    """The header of whoever holds the agent's token."""
    return {"Authorization": f"Bearer {agent['token']}"}


async def test_health_and_counts(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """In the lineage's words and in ours; a heartbeat is a sign of life, whatever stands in its body."""
    client, fleet = served
    agent = await register(served, "scout", id=A_ULID, capabilities=["look"])

    assert (await client.get(f"{AGENTS}/{A_ULID}/health")).json() == {
        "agentId": A_ULID,
        "name": "scout",
        "status": "stale",
        "state": "stale",
        "reasons": [NEVER],
        "lastSeenAt": None,
        "lastSeenEvent": None,
        "registeredAt": NOW,
        "runtime": "codex",
        "capabilities": ["look"],
        "nextDueAt": None,
        "runningSince": None,
        "waitingSince": None,
    }
    for body, event in (({}, "heartbeat"), ({"event": 7}, "heartbeat"), ({"event": "busy"}, "busy")):
        beat = await client.post(f"{AGENTS}/{A_ULID}/heartbeat", json=body, headers=bearing(agent))
        assert (beat.status_code, beat.json()) == (200, {"success": True})
        shown = (await client.get(f"{AGENTS}/{A_ULID}")).json()
        # The first sign of an instant counts: none that follows at the same time is later.
        assert (shown["lastSeenAt"], shown["lastSeenEvent"]) == (NOW, "heartbeat"), event
    shown = (await client.get(f"{AGENTS}/{A_ULID}")).json()
    assert (shown["healthStatus"], shown["health"]) == ("active", "active")

    (fleet.root / "scout").rename(fleet.root / "away")
    done = await client.post("/api/mesh/reconcile")
    assert done.json()["unreachable"] == [A_ULID]
    health = (await client.get(f"{AGENTS}/{A_ULID}/health")).json()
    assert (health["status"], health["state"]) == ("stale", "unreachable")
    assert (await client.get("/api/mesh/status")).json() == {
        "totalAgents": 1,
        "activeCount": 0,
        "inactiveCount": 0,
        "staleCount": 0,
        "unreachableCount": 1,
        "stuckCount": 0,
        "byRuntime": {"codex": 1},
        "byProject": {str(fleet.root / "scout"): 1},
    }


async def test_an_inspection_has_all_of_it(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """What waits in the manifest, what is spent, who denied it."""
    client, fleet = served
    agent = await register(served, "scout", id=A_ULID, budget={"maxCallsPerHour": 7})
    document = manifest_of(fleet.root / "scout")
    make_project(fleet.root / "scout", {**document, "color": "teal", "budget": {"maxCallsPerHour": 999}})
    await client.post("/api/mesh/deny", json={"path": str(fleet.root), "reason": "no", "strategy": "codex"})

    found = (await client.get(f"{AGENTS}/{A_ULID}/inspect")).json()

    assert found["agent"]["scanRoot"] == str(fleet.root)
    assert found["agent"]["budget"] == {"maxHopsPerMessage": 5, "maxCallsPerHour": 7}
    assert found["health"]["state"] == "inactive"
    assert found["relaySubject"] == agent["subject"]
    assert found["calls"] == {"used": 0, "allowed": 7}
    assert (found["maxHopsPerMessage"], found["schedules"], found["duplicates"]) == (5, 0, [])
    assert found["denial"] == {"path": str(fleet.root), "reason": "no", "deniedBy": "relay.human.operator"}
    assert found["manifest"] == {
        "state": "changed",
        "detail": None,
        "takenOver": {"color": "teal"},
        "waiting": {"budget.maxCallsPerHour": 999},
    }
    assert (await client.get("/api/mesh/denied")).json()["denied"][0]["strategy"] == "codex"


async def test_the_topology_and_the_way_between_namespaces(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """The lineage's keys with ours beside them, and no path anywhere."""
    client, fleet = served
    one, two = await register(served, "one", "a"), await register(served, "two", "b")
    rule = {"sourceNamespace": "a", "targetNamespace": "b", "action": "allow"}
    assert (await client.put("/api/mesh/topology/access", json=rule)).json() == rule

    view = (await client.get("/api/mesh/topology")).json()

    assert (view["callerNamespace"], view["rulesEnforced"]) == ("*", True)
    assert [(each["namespace"], each["agentCount"]) for each in view["namespaces"]] == [("b", 1), ("a", 1)]
    shown = view["namespaces"][1]["agents"][0]
    assert shown["id"] == one["id"]
    assert (shown["relaySubject"], shown["relayAdapters"], shown["pulseScheduleCount"]) == (
        one["subject"],
        [],
        0,
    )
    assert (shown["healthStatus"], shown["projectPath"], shown["scanRoot"]) == ("stale", None, None)
    assert str(fleet.root) not in str(view)
    (access,) = view["accessRules"]
    assert {key: access[key] for key in rule} == rule
    through = (await client.get("/api/mesh/topology?namespace=b")).json()
    assert [each["namespace"] for each in through["namespaces"]] == ["b"]
    reached = (await client.get(f"{AGENTS}/{one['id']}/access")).json()
    assert [each["id"] for each in reached["agents"]] == [two["id"]]

    await client.put("/api/mesh/topology/access", json={**rule, "action": "deny"})
    assert (await client.get("/api/mesh/topology")).json()["accessRules"] == []


async def test_an_agent_is_shown_what_it_may_reach_and_no_paths(
    served: tuple[httpx.AsyncClient, Fleet],
) -> None:
    """With its own token; what it may not see is not found, and changing anything is forbidden."""
    client, fleet = served
    one, mate = await register(served, "one", "a", persona="Shy."), await register(served, "mate", "a")
    two = await register(served, "two", "b")
    headers = bearing(one)

    listed = await client.get(AGENTS, headers=headers)
    assert {each["id"] for each in listed.json()["agents"]} == {one["id"], mate["id"]}
    assert str(fleet.root) not in listed.text
    found = await client.get(f"{AGENTS}?capability=&text=MATE", headers=headers)
    assert [each["id"] for each in found.json()["agents"]] == [mate["id"]]
    guess = await client.get(AGENTS, params={"text": str(fleet.root)}, headers=headers)
    assert guess.json()["agents"] == []  # Nor can a path be guessed by seeking parts of it.
    counts = (await client.get("/api/mesh/status", headers=headers)).json()
    assert (counts["totalAgents"], counts["byProject"]) == (2, {})
    for path in ("", "/health", "/access"):
        gone = await client.get(f"{AGENTS}/{two['id']}{path}", headers=headers)
        assert (gone.status_code, gone.json()["code"]) == (404, "agent_not_found")
    sign = await client.post(f"{AGENTS}/{two['id']}/heartbeat", json={}, headers=headers)
    assert (sign.status_code, sign.json()["code"]) == (404, "agent_not_found")
    other = await client.get("/api/mesh/topology?namespace=b", headers=headers)
    assert (other.status_code, other.json()["code"]) == (403, "forbidden")
    for method, path in (
        ("GET", f"{AGENTS}/{one['id']}/inspect"),
        ("PATCH", f"{AGENTS}/{one['id']}"),
        ("POST", f"{AGENTS}/{one['id']}/token"),
        ("POST", f"{AGENTS}/{one['id']}/move"),
        ("POST", "/api/mesh/reconcile"),
        ("PUT", "/api/mesh/topology/access"),
        ("POST", f"{AGENTS}/{mate['id']}/heartbeat"),
    ):
        refused = await client.request(method, path, json=None if method == "GET" else {}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path


async def test_a_token_is_replaced_and_a_folder_moved(served: tuple[httpx.AsyncClient, Fleet]) -> None:
    """Both answer the agent as it is then."""
    client, fleet = served
    agent = await register(served, "scout", id=A_ULID)
    made = await client.post(f"{AGENTS}/{A_ULID}/token")
    assert made.status_code == 201
    assert made.json().keys() == {"agentId", "subject", "token"}
    for token, status in ((agent["token"], 401), (made.json()["token"], 200)):
        asked = await client.get(AGENTS, headers={"Authorization": f"Bearer {token}"})
        assert asked.status_code == status

    moved_to = (fleet.root / "scout").rename(fleet.root / "moved")
    moved = await client.post(f"{AGENTS}/{A_ULID}/move", json={"path": str(moved_to)})
    assert (moved.status_code, moved.json()["projectPath"]) == (200, str(moved_to))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "agents?health=well", None),
        ("GET", "agents?status=gone", None),
        ("PATCH", "agents/{id}", {"budget": {"maxCallsPerHour": 0}}),
        ("PATCH", "agents/{id}", {"budget": {"maxCallsPerHour": 1.5}}),
        ("PATCH", "agents/{id}", {"behavior": {"responseMode": "loud"}}),
        ("PATCH", "agents/{id}", {"persona": "x" * 4001}),
        ("PATCH", "agents/{id}", {"color": "a\nb"}),
        ("PATCH", "agents/{id}", {"name": ""}),
        ("POST", "agents/{id}/move", {}),
        ("POST", "agents/{id}/ping", {"timeoutSeconds": 0}),
        ("POST", "agents/{id}/ping", {"timeoutSeconds": 601}),
        ("PUT", "topology/access", {"sourceNamespace": "a", "targetNamespace": "b"}),
        ("PUT", "topology/access", {"sourceNamespace": "", "targetNamespace": "b", "action": "allow"}),
        ("PUT", "topology/access", {"sourceNamespace": "*", "targetNamespace": "b", "action": "allow"}),
        ("PUT", "topology/access", {"sourceNamespace": "a", "targetNamespace": "b", "action": "maybe"}),
    ],
    ids=str,
)
async def test_bad_input_is_refused(
    served: tuple[httpx.AsyncClient, Fleet], method: str, path: str, body: dict[str, object] | None
) -> None:
    """With 400, and nothing is changed."""
    client, _ = served
    await register(served, "scout", id=A_ULID)
    before = (await client.get(f"{AGENTS}/{A_ULID}")).json()

    answer = await client.request(method, f"/api/mesh/{path.format(id=A_ULID)}", json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
    assert (await client.get(f"{AGENTS}/{A_ULID}")).json() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "health"),
        ("GET", "inspect"),
        ("GET", "access"),
        ("POST", "heartbeat"),
        ("POST", "token"),
        ("POST", "ping"),
    ],
)
async def test_who_is_not_registered_is_not_found(
    served: tuple[httpx.AsyncClient, Fleet], method: str, path: str
) -> None:
    """Everywhere with the same code."""
    client, _ = served
    answer = await client.request(method, f"{AGENTS}/{new_id()}/{path}", json=None if method == "GET" else {})
    assert (answer.status_code, answer.json()["code"]) == (404, "agent_not_found")
