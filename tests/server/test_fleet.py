"""The operations about the fleet's mode, and where else the mode is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from dorkos.clock import iso
from dorkos.fleet import FleetService
from dorkos.identity.model import OPERATOR_SUBJECT
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.server.fleet import FLEET
from dorkos.server.status import SYSTEM
from dorkos.vocabulary import Scope
from tests.server.kit import Served, serving

PATH = "/api/system/fleet"
NOTHING = {"runsQueued": 0, "runsRunning": 0, "deliveriesPending": 0}


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server with the fleet's operations."""
    part = SimpleNamespace()
    async with serving(operations=(*SYSTEM, *FLEET), parts={"fleet": part}) as served:
        service = FleetService(served.db)
        part.look, part.change = service.look, service.change
        yield served


async def put(served: Served, **body: Any) -> Any:
    """The answer to setting a mode."""
    answer = await served.client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_fleet_that_runs(served: Served) -> None:
    """Nobody has set anything."""
    shown = {"mode": "running", "reason": None, "actor": None, "since": None}

    assert (await served.client.get(PATH)).json() == {**shown, "waiting": NOTHING}
    assert (await served.client.get("/api/status")).json()["fleet"] == shown


async def test_a_hold_is_answered_and_shown(served: Served) -> None:
    """With who set it, why and when; the same again changes nothing and says so."""
    held = {"mode": "hold", "reason": "too dear", "actor": OPERATOR_SUBJECT, "since": iso(served.clock.now())}
    answer = await put(served, mode="hold", reason="  too dear ")

    assert answer == {**held, "waiting": NOTHING, "changed": True}
    assert await put(served, mode="hold", reason="again") == {**answer, "changed": False}
    assert (await served.client.get(PATH)).json() == {**held, "waiting": NOTHING}
    assert (await served.client.get("/api/status")).json()["fleet"] == held


async def test_lifting_it_leaves_no_reason_behind(served: Served) -> None:
    """An empty reason is none."""
    await put(served, mode="stop", reason="two agents argue")
    answer = await put(served, mode="running", reason=" ")

    assert (answer["mode"], answer["reason"], answer["changed"]) == ("running", None, True)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "validation_failed"),
        ({"mode": "asleep"}, "validation_failed"),
        ({"mode": None}, "validation_failed"),
        ({"mode": "hold", "reason": "x" * 501}, "validation_failed"),
        ({"mode": "hold", "reason": "a\u0000b"}, "invalid_text"),
    ],
    ids=str,
)
async def test_what_is_no_mode_changes_nothing(served: Served, body: dict[str, Any], code: str) -> None:
    """It is refused, and the fleet runs on."""
    answer = await served.client.post(PATH, json=body)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert (await served.client.get(PATH)).json()["mode"] == "running"


async def test_an_agent_does_not_touch_the_brake(served: Served) -> None:
    """Its token allows sending and looking; setting the mode takes the person's."""
    scopes = frozenset({Scope.SEND, Scope.RECEIVE, Scope.OBSERVE})
    token = NewToken(new_id(), new_secret(), "relay.agent.home.scout", scopes)
    until = served.clock.now().replace(year=2030)
    await served.db.write(lambda tx: mint(tx, token, expires_at=until))
    async with served.stranger(Authorization=f"Bearer {token.secret}") as agent:
        assert (await agent.get(PATH)).status_code == 200
        answer = await agent.post(PATH, json={"mode": "running"})

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
