"""A discovery over HTTP, told as it goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from dorkos.boundary import Boundary
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.mesh.copies import Copies
from dorkos.mesh.discovery import DEFAULT_LIMITS, Limits
from dorkos.mesh.explorer import Explorer
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.manifest_schema import manifest_schema
from dorkos.mesh.model import Hints
from dorkos.mesh.operations import OPERATIONS
from dorkos.mesh.strategies.order import STRATEGIES
from dorkos.mesh.strategies.protocol import Folder, Strategy
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.vocabulary import AgentRuntime, Scope
from tests.mesh.fleet import make_project
from tests.server.kit import Frame, Served, frames, serving

ADDRESS = "/api/mesh/discover/stream"
SCOUT = {"name": "Scout", "runtime": "codex"}


@dataclass
class Gate:
    """A strategy that stops the walk in each folder called `gate` until it is opened."""

    name: str = "gate"
    markers: frozenset[str] = frozenset({"CLAUDE.md"})
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def look(self, folder: Folder) -> Hints | None:
        if folder.path.name == "gate":
            self.reached.set()
            assert self.opened.wait(60)
        return Hints("x", AgentRuntime.OTHER)


HERE = Hosts("here", shared=False)


@dataclass
class Search:
    """A server with discovery behind it. `part` is what it calls Mesh."""

    served: Served
    root: Path
    part: SimpleNamespace

    def explore(self, *strategies: Strategy, enabled: bool = True, limits: Limits = DEFAULT_LIMITS) -> None:
        """Have it look by these strategies, and within these limits."""
        self.part.explorer = Explorer(
            self.served.db,
            self.served.clock,
            MeshSettings(enabled=enabled),
            Boundary(self.root, data_directory=self.root / "data"),
            strategies=strategies or STRATEGIES,
            limits=limits,
            hosts=HERE,
            copies=Copies(self.served.db, HERE),
        )
        self.part.discover = self.part.explorer.discover

    async def told(self, body: object) -> list[Frame]:
        """All frames but those that only say how far it is."""
        async with asyncio.timeout(30), self.served.client.stream("POST", ADDRESS, json=body) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return [one async for one in frames(answer) if one.event != "progress"]


@pytest.fixture
async def search(tmp_path: Path) -> AsyncIterator[Search]:
    """See `Search`."""
    part = SimpleNamespace()
    async with serving(operations=OPERATIONS, parts={"mesh": part}) as served:
        found = Search(served, tmp_path, part)
        found.explore()
        yield found


async def test_the_frames_are_the_answer_in_pieces(search: Search) -> None:
    """Candidates and problems as the operation answers them, and at last how it ended."""
    make_project(search.root / "scout", SCOUT)
    make_project(search.root / "claude", claude="Words.")
    make_project(search.root / "broken", b"{")
    body = {"roots": [str(search.root)], "maxDepth": 2}

    whole = (await search.served.client.post("/api/mesh/discover", json=body)).json()
    told = await search.told(body)

    assert [one.event for one in told] == ["problem", "candidate", "candidate", "end"]
    assert [one.data for one in told[1:3]] == whole["candidates"]
    assert [one.data for one in told[:1]] == whole["problems"]
    assert told[-1].data == {
        "directories": whole["directories"],
        "waiting": 0,
        "candidates": 2,
        "problems": 1,
        "truncated": False,
        "truncatedBy": None,
    }


async def test_an_empty_body_looks_where_the_settings_say(search: Search) -> None:
    """As the operation does."""
    make_project(search.root / "scout", SCOUT)

    (candidate, _end) = await search.told(None)

    assert candidate.data["scanRoot"] == str(search.root)


async def test_what_is_found_arrives_while_the_search_goes_on(search: Search) -> None:
    """And then word of how far it is."""
    gate = Gate()
    search.explore(gate)
    make_project(search.root / "first", claude="Words.")
    make_project(search.root / "gate", claude="Words.")

    async with asyncio.timeout(60), search.served.client.stream("POST", ADDRESS, json={}) as answer:
        coming = frames(answer)
        first = await anext(one async for one in coming if one.event != "progress")
        assert (first.event, first.data["path"]) == ("candidate", str(search.root / "first"))
        await asyncio.to_thread(gate.reached.wait, 60)
        then = await anext(coming)
        while then.data["directories"] < 3:  # Word from before the gate was reached.
            then = await anext(coming)
        assert (then.event, set(then.data)) == (
            "progress",
            {"directories", "waiting", "candidates", "problems"},
        )
        gate.opened.set()
        rest = [one async for one in coming if one.event != "progress"]
    assert [one.event for one in rest] == ["candidate", "end"]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_client_that_goes_away_ends_the_search(search: Search, is_stream: bool) -> None:
    """Nobody reads a disk for somebody who is not there any more."""
    gate = Gate()
    search.explore(gate, limits=Limits(seconds=600))  # Long enough that nothing else ends it.
    make_project(search.root / "gate", claude="Words.")
    make_project(search.root / "gate/below", claude="Words.")
    address = ADDRESS if is_stream else "/api/mesh/discover"
    client = search.served.stranger(**dict(search.served.client.headers))

    async def ask() -> None:
        async with client.stream("POST", address, json={}) as answer:
            await answer.aread()

    asking = asyncio.create_task(ask())
    assert await asyncio.to_thread(gate.reached.wait, 60)
    (walk,) = search.part.explorer._scans._walks
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await client.aclose()

    async with asyncio.timeout(60):
        while not walk._is_cancelled:
            await search.served.client.get("/api/health")
    gate.opened.set()


async def test_a_bound_is_told(search: Search) -> None:
    """So nobody takes a part for the whole."""
    search.explore(limits=Limits(candidates=1))
    for name in ("one", "two"):
        make_project(search.root / name, SCOUT)

    told = await search.told({})

    assert [one.event for one in told] == ["candidate", "end"]
    assert (told[-1].data["truncated"], told[-1].data["truncatedBy"]) == (True, "candidates")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"roots": ["/"]}, 403, "outside_boundary"),
        ({"roots": []}, 400, "validation_failed"),
        ({"maxDepth": 21}, 400, "validation_failed"),
        ([], 400, "invalid_json"),
    ],
)
async def test_a_refusal_comes_before_the_stream(
    search: Search, body: object, status: int, code: str
) -> None:
    """With its own status, as from the operation."""
    answer = await search.served.client.post(ADDRESS, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_switched_off_it_says_so(search: Search) -> None:
    """Before the stream as well."""
    search.explore(enabled=False)
    answer = await search.served.client.post(ADDRESS, json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


async def test_a_refusal_that_comes_too_late_is_a_frame(search: Search) -> None:
    """No place becomes free: the status is sent by then, so the stream says it, and ends."""
    gates = (Gate(), Gate())
    make_project(search.root / "gate", claude="Words.")
    search.explore(gates[0], limits=Limits(seconds=60))
    scans = search.part.explorer._scans
    asking = []
    for gate in gates:
        search.explore(gate, limits=Limits(seconds=60))
        search.part.explorer._scans = scans
        asking.append(asyncio.create_task(search.told({})))
        assert await asyncio.to_thread(gate.reached.wait, 60)
    search.explore(limits=Limits(seconds=0.01))
    search.part.explorer._scans = scans

    (refused,) = await search.told({})

    assert (refused.event, refused.data["code"]) == ("refused", "not_ready")
    for gate in gates:
        gate.opened.set()
    for one in asking:
        assert (await one)[-1].event == "end"


async def test_a_token_needs_the_scope_of_the_operation(search: Search) -> None:
    """Whoever may only look at what is stored may not have the disk read."""
    token = NewToken(new_id(), new_secret(), "relay.agent.team.a", frozenset({Scope.OBSERVE}))
    db = search.served.db
    await db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(minutes=1)))

    async with search.served.stranger() as nobody:
        assert (await nobody.post(ADDRESS, json={})).status_code == 401
    async with search.served.stranger(Authorization=f"Bearer {token.secret}") as observer:
        answer = await observer.post(ADDRESS, json={})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


async def test_it_is_a_post(search: Search) -> None:
    """A page that somebody visits cannot make a browser send one in their name."""
    answer = await search.served.client.get(ADDRESS)
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


async def test_the_schema_of_manifests_is_served(search: Search) -> None:
    """As it is published."""
    answer: httpx.Response = await search.served.client.get("/api/mesh/manifest-schema")
    assert (answer.status_code, answer.json()) == (200, manifest_schema())
