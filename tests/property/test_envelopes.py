"""Whatever somebody sends as a message is stored as it was sent, or refused with a reason; never a fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dorkos.app import build
from dorkos.clock import ManualClock
from dorkos.db.schema.relay import relay_messages
from dorkos.home import Home
from dorkos.identity.model import OPERATOR
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings
from dorkos.settings import given as from_caller
from dorkos.testing import create_test_db

INBOX = "relay.human.ada"
PLAIN = {"subject": INBOX, "payload": {"content": "A word."}}
MESSAGES = "/api/relay/messages"
# Also numbers that are none, halves of characters, and what a database takes for an end.
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\x00\ud800")
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
SUBJECTS = st.sampled_from(
    [INBOX, "relay.human.nobody", "relay.agent.x", "relay.*.ada", "", "RELAY..", "a.>"]
)
KEYS = st.sampled_from(["one", "two", "", "x" * 255, "x" * 256])
BUDGETS = st.fixed_dictionaries(
    {},
    optional={
        "maxHops": st.integers(-1, 1001) | JSON,
        "callBudgetRemaining": st.integers(-1, 1_000_001) | JSON,
        "ttl": st.sampled_from([0, 1, 253_402_300_799_999, 253_402_300_800_000, 2**63]) | JSON,
    },
)
BODIES = st.fixed_dictionaries(
    {"subject": SUBJECTS},
    optional={
        "payload": JSON,
        "from": SUBJECTS | JSON,
        "replyTo": SUBJECTS | JSON,
        "budget": BUDGETS | JSON,
        "idempotencyKey": KEYS | JSON,
        "traceparent": st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01") | JSON,
        "unknown": JSON,
    },
)


class Office:
    """A whole server in this process, and its operator."""

    def __init__(self, folder: Path) -> None:
        """Not built yet."""
        self._folder = folder
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()

    def open(self) -> None:
        """Build it, with one mailbox."""
        self._loop.run(self._open())

    def close(self) -> None:
        """End all."""
        self._loop.run(self._stack.aclose())
        self._loop.close()

    def post(self, body: object) -> httpx.Response:
        """What is answered to a message. What JSON has no word for goes as Python writes it."""
        content = json.dumps(body).encode()
        return self._loop.run(self._client.post(MESSAGES, content=content))

    def message(self, message_id: str) -> Any:
        """A message as it is stored."""
        return self._loop.run(self._client.get(f"{MESSAGES}/{message_id}")).json()

    def stored(self) -> int:
        """How many there are."""
        count = sa.select(sa.func.count()).select_from(relay_messages)
        return self._loop.run(self._db.read(lambda c: int(c.execute(count).scalar_one())))

    async def _open(self) -> None:
        clock = ManualClock()
        self._db = await self._stack.enter_async_context(create_test_db(clock=clock))
        home = Home(self._folder / "home")
        home.prepare()
        chosen = Settings(server=ServerSettings(boundary=self._folder))
        system = build(home, from_caller(chosen), self._db, clock)
        await system.relay.open(OPERATOR, INBOX, description=None)
        headers = {
            "Authorization": f"Bearer {home.token_path.read_text('ascii').strip()}",
            "Content-Type": "application/json",
        }
        transport = httpx.ASGITransport(app=system.application, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
        self._client = await self._stack.enter_async_context(client)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """One for all that is tried."""
    made = Office(tmp_path_factory.mktemp("envelopes"))
    made.open()
    yield made
    made.close()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@example(body=PLAIN)
@example(body={"subject": INBOX, "payload": "\ud800"})
@example(body={"subject": INBOX, "payload": float("nan")})
@example(body={"subject": INBOX, "payload": 10**400})
@given(body=BODIES | JSON)
def test_a_message_is_stored_as_it_was_sent_or_refused_with_a_reason(office: Office, body: Any) -> None:
    """A refusal changes nothing and says why; a receipt is of what is there, word for word."""
    before = office.stored()
    answer = office.post(body)
    said = answer.json()
    assert answer.status_code < 500, answer.text
    assert answer.status_code == 200 or body != PLAIN
    if answer.status_code != 200:
        assert said["code"]
        assert said["error"]
        assert office.stored() == before
        return
    assert office.stored() - before == (0 if said.get("duplicate") else 1)
    if not said.get("duplicate"):
        message = office.message(said["messageId"])
        assert ("payload" in message) == ("payload" in body)
        assert message.get("payload") == body.get("payload")
        assert message["subject"] == body["subject"]
