"""An agent's token speaks as that agent, reads that agent's mail, and reaches whom the rules let it: by every
route. The assembled system behind its real face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dorkos.app import System, build
from dorkos.clock import ManualClock
from dorkos.db.schema.relay import relay_index, relay_messages
from dorkos.home import Home
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.mesh.model import Agent
from dorkos.mesh.statement import Statement
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.testing import create_test_db
from dorkos.vocabulary import Scope
from tests.mesh.fleet import ACTOR, make_project

MESSAGES, REQUESTS, ENDPOINTS = "/api/relay/messages", "/api/relay/requests", "/api/relay/endpoints"


@dataclass
class Scene:
    """Alice of one namespace, Mallory of another, one message in Alice's mailbox that she holds."""

    system: System
    alice: Agent
    mallory: Agent
    operator: httpx.AsyncClient
    attacker: httpx.AsyncClient
    message_id: str
    lease: str

    def fill(self, text: str) -> str:
        """Names in braces replaced."""
        names = {
            "{alice}": self.alice.subject,
            "{mallory}": self.mallory.subject,
            "{message}": self.message_id,
            "{lease}": self.lease,
        }
        for name, value in names.items():
            text = text.replace(name, value)
        return text

    async def stored(self) -> tuple[int, list[tuple[str, int, str | None]]]:
        """How many messages there are, and how each delivery stands."""

        def query(connection: sa.Connection) -> tuple[int, list[tuple[str, int, str | None]]]:
            count = connection.execute(sa.select(sa.func.count()).select_from(relay_messages)).scalar_one()
            rows = connection.execute(
                sa.select(relay_index.c.status, relay_index.c.attempts, relay_index.c.lease_token)
            )
            return count, [(row[0], row[1], row[2]) for row in rows]

        return await self.system.database.read(query)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Two agents in namespaces that are closed to each other, each with its token."""
    clock = ManualClock()
    async with create_test_db(clock=clock) as db:
        home = Home(tmp_path / "home")
        home.prepare()
        system = build(home, given(Settings(server=ServerSettings(boundary=tmp_path))), db, clock)
        alice, mallory = [await _register(system, tmp_path, name) for name in ("alice", "mallory")]
        secret = new_secret()
        scopes = frozenset({Scope.SEND, Scope.RECEIVE})
        token = NewToken(new_id(), secret, mallory.subject, scopes, agent_id=mallory.id)
        await db.write(lambda tx: mint(tx, token, expires_at=clock.now() + timedelta(days=1)))
        transport = httpx.ASGITransport(app=system.application)
        operator = (home.token_path).read_text(encoding="ascii").strip()
        async with (
            httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", headers=_bearer(operator)
            ) as ours,
            httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1", headers=_bearer(secret)
            ) as theirs,
        ):
            sent = await ours.post(MESSAGES, json={"subject": alice.subject, "payload": "secret"})
            taken = await ours.post(f"{ENDPOINTS}/{alice.subject}/claim", json={})
            (delivery,) = taken.json()["deliveries"]
            yield Scene(
                system, alice, mallory, ours, theirs, sent.json()["messageId"], delivery["leaseToken"]
            )


def _bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


async def _register(system: System, root: Path, name: str) -> Agent:
    manifest = {"name": name, "runtime": "command", "entrypoint": ["true"], "namespace": f"of-{name}"}
    made = await system.mesh.registry.register(
        str(make_project(root / name, manifest)), Statement(), approver="ada", actor=ACTOR
    )
    return made.agent


async def call_tool(client: httpx.AsyncClient, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a tool as any client of the protocol does; its result."""
    headers = {"Accept": "application/json, text/event-stream"}
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }
    answer = await client.post("/mcp", json=body, headers=headers)
    text = answer.text
    if answer.headers["content-type"].startswith("text/event-stream"):
        text = next(line[6:] for line in text.splitlines() if line.startswith("data: "))
    result: dict[str, Any] = json.loads(text)["result"]
    return result


AS_ANOTHER = [
    ("POST", MESSAGES, {"subject": "{mallory}", "from": "{alice}"}),
    ("POST", REQUESTS, {"subject": "{mallory}", "from": "{alice}"}),
    ("POST", MESSAGES, {"subject": "{mallory}", "from": "relay.human.operator"}),
    ("POST", MESSAGES, {"subject": "{mallory}", "from": "relay.system.pulse"}),
]
ANOTHERS_MAIL = [
    ("GET", f"{ENDPOINTS}/{{alice}}/inbox", None),
    ("POST", f"{ENDPOINTS}/{{alice}}/claim", {}),
    ("POST", f"{ENDPOINTS}/{{alice}}/ack", {"messageId": "{message}", "leaseToken": "{lease}"}),
    ("POST", f"{ENDPOINTS}/{{alice}}/nack", {"messageId": "{message}", "leaseToken": "{lease}"}),
    ("POST", f"{ENDPOINTS}/{{alice}}/extend", {"messageId": "{message}", "leaseToken": "{lease}"}),
    ("DELETE", f"{ENDPOINTS}/{{alice}}", None),
    ("GET", f"{MESSAGES}/{{message}}", None),
    ("GET", f"{MESSAGES}/{{message}}/trace", None),
    ("GET", MESSAGES, None),
    ("GET", "/api/relay/search?q=secret", None),
    ("GET", "/api/relay/dead-letters", None),
    ("POST", "/api/relay/dead-letters/redrive", {}),
    ("POST", "/api/relay/rules", {"from": ">", "to": ">", "action": "allow"}),
]
TOOLS_AS_ANOTHER = [
    ("relay_send", {"subject": "{mallory}", "from": "{alice}"}),
    ("relay_request", {"subject": "{mallory}", "from": "{alice}"}),
    ("relay_inbox", {"endpoint_subject": "{alice}"}),
    ("relay_claim", {"subject": "{alice}"}),
    ("relay_ack", {"subject": "{alice}", "messageId": "{message}", "leaseToken": "{lease}"}),
    ("relay_nack", {"subject": "{alice}", "messageId": "{message}", "leaseToken": "{lease}"}),
    ("relay_extend", {"subject": "{alice}", "messageId": "{message}", "leaseToken": "{lease}"}),
    ("relay_reply", {"id": "{message}", "payload": "as if I were her"}),
    ("relay_get_message", {"id": "{message}"}),
    ("relay_list_messages", {}),
    ("relay_search", {"q": "secret"}),
    ("relay_list_dead_letters", {}),
    ("relay_unregister_endpoint", {"subject": "{alice}"}),
]


async def test_no_address_lets_an_agent_be_another_or_read_anothers_mail(scene: Scene) -> None:
    """Refused by name, and nothing was stored, taken or settled."""
    before = await scene.stored()
    for method, path, body in (*AS_ANOTHER, *ANOTHERS_MAIL):
        content = None if body is None else scene.fill(json.dumps(body))
        answer = await scene.attacker.request(
            method, scene.fill(path), content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["code"] in {"forbidden", "sender_mismatch"}
        assert await scene.stored() == before, (method, path)


async def test_no_tool_lets_an_agent_be_another_or_read_anothers_mail(scene: Scene) -> None:
    """The same by MCP."""
    before = await scene.stored()
    for tool, arguments in TOOLS_AS_ANOTHER:
        result = await call_tool(scene.attacker, tool, json.loads(scene.fill(json.dumps(arguments))))
        assert result["isError"], (tool, result)
        assert "secret" not in json.dumps(result), tool
        assert await scene.stored() == before, tool


async def test_a_closed_namespace_is_closed_by_every_route(scene: Scene) -> None:
    """A dead letter that says denied; nothing in the mailbox."""
    body = {"subject": scene.alice.subject, "payload": "hi"}
    for path in (MESSAGES, REQUESTS):
        answer = await scene.attacker.post(path, json=body)
        assert answer.status_code == 200
        assert [each["outcome"] for each in answer.json()["recipients"]] == ["denied"], path
    for tool in ("relay_send", "relay_request"):
        result = await call_tool(scene.attacker, tool, body)
        assert [each["outcome"] for each in result["structuredContent"]["recipients"]] == ["denied"], tool
    assert len((await scene.stored())[1]) == 1


async def test_a_reply_is_no_way_around(scene: Scene) -> None:
    """Whoever gets a message that wants its answer at a closed address cannot answer there, and nobody can
    answer what came to another."""
    lure = {"subject": scene.mallory.subject, "replyTo": scene.alice.subject}
    sent = (await scene.operator.post(MESSAGES, json=lure)).json()["messageId"]
    replied = await scene.attacker.post(f"{MESSAGES}/{sent}/reply", json={"payload": "hi"})
    assert [each["outcome"] for each in replied.json()["recipients"]] == ["denied"]

    foreign = await scene.attacker.post(f"{MESSAGES}/{scene.message_id}/reply", json={"payload": "hi"})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "message_not_found")
    claimed = await scene.attacker.post(f"{MESSAGES}/{sent}/reply", json={"from": scene.alice.subject})
    assert (claimed.status_code, claimed.json()["code"]) == (403, "sender_mismatch")


async def test_a_request_is_followed_only_by_who_sent_it(scene: Scene) -> None:
    """Neither looked at nor collected by another."""
    asked = await scene.operator.post(REQUESTS, json={"subject": scene.alice.subject, "payload": "?"})
    request_id = asked.json()["requestId"]
    looked = await scene.attacker.get(f"{REQUESTS}/{request_id}")
    awaited = await scene.attacker.post(f"{REQUESTS}/{request_id}/await", json={})
    tool = await call_tool(scene.attacker, "relay_await_reply", {"id": request_id})
    mailbox = await scene.attacker.post(f"{ENDPOINTS}/relay.system.reply.{request_id}/claim", json={})
    assert {looked.status_code, awaited.status_code, mailbox.status_code} == {403}
    assert tool["isError"]
