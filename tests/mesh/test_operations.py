"""Mesh over HTTP: what goes in, what comes out, who may ask."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from dorkos.mesh.operations import OPERATIONS
from dorkos.vocabulary import Scope
from tests.mesh.fleet import A_ULID, Fleet, make_fleet, make_project, manifest_of
from tests.server.kit import serving

SCOUT: dict[str, object] = {
    "id": A_ULID,
    "name": "Scout",
    "runtime": "command",
    "entrypoint": ["./scout"],
    "namespace": "team",
    "registeredAt": "2026-02-26T10:00:00Z",
    "registeredBy": "grace",
}


class _Part:
    """Stands for the service, which can only be made once the server has a database."""

    fleet: Fleet

    def __getattr__(self, name: str) -> object:
        return getattr(self.fleet.mesh, name)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Fleet]]:
    """A server with Mesh behind it, and the operator's client."""
    part = _Part()
    async with serving(operations=OPERATIONS, parts={"mesh": part}) as server:
        part.fleet = make_fleet(server.db, server.clock, tmp_path)
        yield server.client, part.fleet


@pytest.fixture
def client(served: tuple[httpx.AsyncClient, Fleet]) -> httpx.AsyncClient:
    """The operator's client."""
    return served[0]


@pytest.fixture
def root(served: tuple[httpx.AsyncClient, Fleet]) -> Path:
    """The boundary."""
    return served[1].root


async def refused(asked: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which is always JSON with a message."""
    body = asked.json()
    assert body["error"]
    return asked.status_code, body["code"]


async def test_from_discovery_to_removal(client: httpx.AsyncClient, root: Path) -> None:
    """The whole life of an agent, with every key on the wire."""
    project = make_project(root / "scout", SCOUT)

    found = await client.post("/api/mesh/discover", json={"roots": [str(root)], "maxDepth": 3})
    assert found.status_code == 200
    assert found.json() == {
        "candidates": [
            {
                "path": str(project),
                "strategy": "manifest",
                "hints": {
                    "suggestedName": "Scout",
                    "detectedRuntime": "command",
                    "inferredCapabilities": [],
                    "namespace": "team",
                    "entrypoint": ["./scout"],
                    "schemaVersion": 1,
                },
                "discoveredAt": "2026-03-01T09:00:00.000Z",
                "scanRoot": str(root),
                "duplicateOf": None,
            }
        ],
        "problems": [],
        "directories": 2,
        "truncated": False,
        "truncatedBy": None,
    }

    registered = await client.post("/api/mesh/agents", json={"path": str(project), "approver": "ada"})
    assert registered.status_code == 201
    agent = registered.json()
    assert len(agent.pop("manifestHash")) == 64
    assert agent.pop("token").startswith("dork_")
    assert agent == {
        "id": A_ULID,
        "name": "Scout",
        "description": "",
        "runtime": "command",
        "capabilities": [],
        "behavior": {"responseMode": "always"},
        "budget": {"maxHopsPerMessage": 5, "maxCallsPerHour": 100},
        "entrypoint": ["./scout"],
        "version": None,
        "persona": None,
        "personaEnabled": True,
        "color": None,
        "icon": None,
        "namespace": "team",
        "projectPath": str(project),
        "host": socket.gethostname(),
        "scanRoot": "",
        "subject": f"relay.agent.team.{A_ULID}",
        "status": "active",
        "unreachableSince": None,
        "registeredAt": "2026-03-01T09:00:00.000Z",
        "registeredBy": "ada",
        "updatedAt": "2026-03-01T09:00:00.000Z",
        "manifestWritten": True,
        "manifestProblem": None,
    }

    address = f"/api/mesh/agents/{A_ULID}"
    shown = (await client.get(address)).json()
    assert shown.items() >= {key: agent[key] for key in agent if not key.startswith("manifest")}.items()
    assert (await client.get("/api/mesh/agents")).json() == {"agents": [shown], "nextCursor": None}

    edited = await client.patch(address, json={"name": "Spy", "runtime": "codex", "namespace": "x"})
    assert edited.status_code == 200
    assert edited.json()["name"] == "Spy"
    assert edited.json()["runtime"] == "command"
    assert manifest_of(project)["name"] == "Spy"

    removed = await client.delete(address)
    assert (removed.status_code, removed.json()) == (200, {"success": True})
    for asked in (client.get(address), client.delete(address), client.patch(address, json={"name": "x"})):
        assert await refused(await asked) == (404, "agent_not_found")


async def test_overrides_go_first(client: httpx.AsyncClient, root: Path) -> None:
    """All of them, and the file follows."""
    project = make_project(root / "scout", claude="Words.")
    overrides = {
        "name": "Späher",
        "runtime": "codex",
        "description": "",
        "capabilities": ["a", "b"],
        "namespace": "My Team",
        "entrypoint": ["python3", "agent.py"],
        "behavior": {"responseMode": "silent"},
    }

    answer = await client.post("/api/mesh/agents", json={"path": str(project), "overrides": overrides})

    agent = answer.json()
    assert agent["name"] == "Späher"
    assert (agent["runtime"], agent["description"], agent["capabilities"]) == ("codex", "", ["a", "b"])
    assert (agent["namespace"], agent["entrypoint"]) == ("my-team", ["python3", "agent.py"])
    assert agent["registeredBy"] == "relay.human.operator"
    assert manifest_of(project)["behavior"] == {"responseMode": "silent"}


async def test_a_manifest_that_could_not_be_written_is_told(client: httpx.AsyncClient, root: Path) -> None:
    """The registration stands with its 201."""
    project = make_project(root / "scout", claude="Words.")
    (project / ".dork").touch()

    answer = await client.post("/api/mesh/agents", json={"path": str(project)})

    assert answer.status_code == 201
    assert answer.json()["manifestWritten"] is False
    assert "agent.json" in answer.json()["manifestProblem"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "discover", {"roots": []}),
        ("POST", "discover", {"roots": [""]}),
        ("POST", "discover", {"roots": ["/srv"] * 101}),
        ("POST", "discover", {"roots": "/srv"}),
        ("POST", "discover", {"maxDepth": -1}),
        ("POST", "discover", {"maxDepth": 21}),
        ("POST", "discover", {"maxDepth": "3"}),
        ("POST", "agents", {}),
        ("POST", "agents", {"path": ""}),
        ("POST", "agents", {"path": "/" + "x" * 5000}),
        ("POST", "agents", {"path": "{root}", "approver": ""}),
        ("POST", "agents", {"path": "{root}", "overrides": None}),
        ("POST", "agents", {"path": "{root}", "overrides": {"name": ""}}),
        ("POST", "agents", {"path": "{root}", "overrides": {"name": "a\nb"}}),
        ("POST", "agents", {"path": "{root}", "overrides": {"runtime": "clippy"}}),
        ("POST", "agents", {"path": "{root}", "overrides": {"runtime": "codex", "entrypoint": []}}),
        ("POST", "agents", {"path": "{root}", "overrides": {"runtime": "codex", "namespace": "日本"}}),
        ("POST", "agents", {"path": "{root}", "overrides": {"runtime": "command"}}),
        ("POST", "agents", {"path": "{root}"}),
        ("POST", "deny", {}),
        ("POST", "deny", {"path": "{root}/x", "denier": ""}),
        ("POST", "deny", {"path": "{root}/x", "reason": "r" * 1001}),
        ("GET", "agents?runtime=clippy", None),
        ("GET", "agents?limit=0", None),
        ("GET", "agents?limit=x", None),
    ],
    ids=str,
)
async def test_bad_input_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, root: Path, method: str, path: str, body: dict[str, object] | None
) -> None:
    """Always 400 with the shape of every refusal."""
    if body is not None and "path" in body:
        body = {**body, "path": str(body["path"]).format(root=root)}

    answer = await client.request(method, f"/api/mesh/{path}", json=body)

    assert await refused(answer) == (400, "validation_failed")
    assert (await client.get("/api/mesh/agents")).json()["agents"] == []
    assert (await client.get("/api/mesh/denied")).json() == {"denied": []}
    assert not (root / ".dork").exists()


@pytest.mark.parametrize(
    "path", ["/", "relative", "~nobody-of-this-name/x", "/etc/../etc", "{root}/data/x", "{root}/.."]
)
async def test_every_path_is_confined(client: httpx.AsyncClient, root: Path, path: str) -> None:
    """Wherever one goes in."""
    outside = path.format(root=root)
    for asked in (
        client.post("/api/mesh/discover", json={"roots": [str(root), outside]}),
        client.post("/api/mesh/agents", json={"path": outside, "overrides": {"runtime": "codex"}}),
        client.post("/api/mesh/deny", json={"path": outside}),
    ):
        assert await refused(await asked) == (403, "outside_boundary")


async def test_the_other_refusals_keep_their_codes(client: httpx.AsyncClient, root: Path) -> None:
    """A denied path, a copy, an invalid manifest, a foreign cursor."""
    for name in ("one", "two"):
        make_project(root / name, SCOUT)
    make_project(root / "broken", b"")
    make_project(root / "denied", {**SCOUT, "id": "x"})
    await client.post("/api/mesh/agents", json={"path": str(root / "one")})
    await client.post("/api/mesh/deny", json={"path": str(root / "denied")})

    expected = {
        "two": (409, "agent_exists"),
        "broken": (422, "invalid_manifest"),
        "denied": (403, "path_denied"),
    }
    for name, refusal in expected.items():
        answer = await client.post("/api/mesh/agents", json={"path": str(root / name)})
        assert await refused(answer) == refusal
    assert await refused(await client.get("/api/mesh/agents?cursor=x")) == (400, "invalid_cursor")


@pytest.mark.parametrize("name", ["plain", "mit Leerzeichen ü", "100%25", "a/b", "q?x#y&z=+"])
async def test_a_denial_is_lifted_by_its_encoded_path(
    client: httpx.AsyncClient, root: Path, name: str
) -> None:
    """The path is decoded once: a percent sign in a name is one."""
    path = str(root / name)
    denied = await client.post("/api/mesh/deny", json={"path": path, "reason": "old", "denier": "ada"})
    assert (denied.status_code, denied.json()) == (201, {"success": True})
    assert (await client.get("/api/mesh/denied")).json() == {
        "denied": [
            {
                "path": path,
                "strategy": "manual",
                "reason": "old",
                "deniedBy": "ada",
                "deniedAt": "2026-03-01T09:00:00.000Z",
            }
        ]
    }

    address = f"/api/mesh/denied/{quote(path, safe='')}"
    lifted = await client.delete(address)
    assert (lifted.status_code, lifted.json()) == (200, {"success": True})
    assert await refused(await client.delete(address)) == (404, "denial_not_found")


async def test_a_name_that_is_too_long_is_told_in_characters(client: httpx.AsyncClient, root: Path) -> None:
    """In a request and in a file."""
    body = {"path": str(make_project(root / "one")), "overrides": {"runtime": "codex", "name": "x" * 201}}
    answer = await client.post("/api/mesh/agents", json=body)
    assert "at most 200 characters" in answer.json()["hint"]

    make_project(root / "one", {"runtime": "codex", "name": "x" * 201})
    answer = await client.post("/api/mesh/agents", json={"path": str(root / "one")})
    assert "has a `name` that is not allowed: must not be longer than 200." in answer.json()["error"]


async def test_filters_of_the_list(client: httpx.AsyncClient, root: Path) -> None:
    """Empty ones are none, and a namespace sees itself only."""
    for name in ("left", "right"):
        manifest = {"name": name, "runtime": "codex", "namespace": name, "capabilities": [name]}
        await client.post("/api/mesh/agents", json={"path": str(make_project(root / name, manifest))})

    async def found(query: str) -> list[str]:
        answer = await client.get(f"/api/mesh/agents?{query}")
        return sorted(agent["name"] for agent in answer.json()["agents"])

    assert await found("runtime=&capability=&callerNamespace=") == ["left", "right"]
    assert await found("callerNamespace=*") == ["left", "right"]
    assert await found("callerNamespace=left") == ["left"]
    assert await found("callerNamespace=nobody") == []
    assert await found("capability=right&runtime=codex") == ["right"]
    assert await found("runtime=cursor") == []
    assert len(await found("limit=1")) == 1


def test_looking_needs_less_than_changing() -> None:
    """What agents may ask shows each only what it may see; discovery reads the disk, so it needs more."""
    needed = {operation.name: operation.scope for operation in OPERATIONS}

    def those(scope: Scope | None) -> set[str]:
        return {name for name, needs in needed.items() if needs is scope}

    assert those(None) == {
        "mesh.list",
        "mesh.get",
        "mesh.health",
        "mesh.status",
        "mesh.reach",
        "mesh.topology",
        "mesh.me",
    }
    by_folder = {"mesh.current", "mesh.resolve"}
    assert those(Scope.OBSERVE) == {"mesh.denied", "mesh.inspect", "mesh.manifest_schema", *by_folder}
    assert those(Scope.SEND) == {"mesh.ping"}
    assert those(Scope.RECEIVE) == {"mesh.heartbeat"}
