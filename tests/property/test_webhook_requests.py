"""What strangers send to a webhook is never a fault of the server, and only what is signed is a message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
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
from dorkos.relay.adapters.signature import sign
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings
from dorkos.settings import given as from_caller
from dorkos.testing import create_test_db

SECRET = "a-secret-of-the-tests"
INBOX = "relay.human.ada"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=64),
    JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    # Deep, large, and numbers that are none.
    st.integers(1, 20_000).map(lambda deep: b"[" * deep + b"]" * deep),
    st.sampled_from(
        [b"9" * 5000, b'"' + b"x" * 300_000 + b'"', b" " * 2_100_000, b"NaN", b'"\\ud800"', b'"\\u0000"']
    ),
)
# What h11 and its kind let through: no control characters but the tab.
VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40
).map(lambda text: text.strip().encode("latin-1"))
NONCES = st.sampled_from([b"nonce-0001", b"nonce-0002", b"nonce-0003"]) | VALUES
OTHERS = ("idempotency-key", "traceparent", "x-dorkos-message", "content-type", "content-encoding")
HEADERS = st.fixed_dictionaries({}, optional=dict.fromkeys(OTHERS, VALUES))
PROOF = st.fixed_dictionaries({"x-timestamp": VALUES, "x-nonce": NONCES, "x-signature": VALUES})
GOOD = b"nonce-good"


class Stranger:
    """A whole server in this process, and a client without a token."""

    def __init__(self, folder: Path) -> None:
        """Not built yet."""
        self.clock = ManualClock()
        self._folder = folder
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()

    def open(self) -> None:
        """Build it, with a webhook that listens and a mailbox behind it."""
        self._loop.run(self._open())

    def close(self) -> None:
        """End all."""
        self._loop.run(self._stack.aclose())
        self._loop.close()

    def post(self, body: bytes, headers: Mapping[str, bytes]) -> httpx.Response:
        """What the server answers."""
        encoded = {name.encode(): value for name, value in headers.items()}
        return self._loop.run(self._client.post("/api/relay/webhooks/in", content=body, headers=encoded))

    def stored(self) -> int:
        """How many messages there are."""
        count = sa.select(sa.func.count()).select_from(relay_messages)
        return self._loop.run(self._db.read(lambda c: int(c.execute(count).scalar_one())))

    async def _open(self) -> None:
        self._db = await self._stack.enter_async_context(create_test_db(clock=self.clock))
        home = Home(self._folder / "home")
        home.prepare()
        chosen = Settings(server=ServerSettings(boundary=self._folder))
        system = build(home, from_caller(chosen), self._db, self.clock)
        await system.relay.open(OPERATOR, INBOX, description=None)
        await system.adapters.add(
            OPERATOR, "in", "webhook", {"inbound": {"subject": INBOX, "secret": SECRET}}, enabled=True
        )
        transport = httpx.ASGITransport(app=system.application, raise_app_exceptions=False)
        self._client = await self._stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        )


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """One server for all that is tried."""
    made = Stranger(tmp_path_factory.mktemp("webhooks"))
    made.open()
    yield made
    made.close()


LENIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@LENIENT
@given(body=BODIES, proof=PROOF, more=HEADERS)
def test_what_is_not_signed_is_refused_and_stores_nothing(
    stranger: Stranger, body: bytes, proof: dict[str, bytes], more: dict[str, bytes]
) -> None:
    """Whatever it looks like, and whichever of the clock, the nonce and the signature is wrong."""
    before = stranger.stored()
    answer = stranger.post(body, proof | more)
    assert answer.status_code in {400, 401, 413, 415}, answer.text
    assert answer.json()["code"]
    assert stranger.stored() == before


@LENIENT
@example(body=b'{"build": "green"}', nonce=GOOD, late_s=0, more={})
@given(body=BODIES, nonce=NONCES, late_s=st.sampled_from([0, 0, 299, -299, 302, -302]), more=HEADERS)
def test_what_is_signed_is_stored_once_or_refused_with_a_reason(
    stranger: Stranger, body: bytes, nonce: bytes, late_s: int, more: dict[str, bytes]
) -> None:
    """A second time the same request is a replay, or the same message; no body is a fault of the server."""
    timestamp = str(int(stranger.clock.now().timestamp()) - late_s)
    signature = sign(SECRET, timestamp, nonce.decode("latin-1"), body)
    headers = {
        "x-timestamp": timestamp.encode(),
        "x-nonce": nonce,
        "x-signature": signature.encode(),
        **more,
    }
    before = stranger.stored()
    first = stranger.post(body, headers)
    after = stranger.stored()
    second = stranger.post(body, headers)
    assert first.status_code < 500, first.text
    assert second.status_code < 500, second.text
    assert after - before == (1 if _is_new(first) else 0)
    assert stranger.stored() == after
    assert nonce != GOOD or first.status_code == 200
    if first.status_code == 200:
        assert abs(late_s) < 300
        assert second.status_code == 401


def _is_new(answer: httpx.Response) -> bool:
    said: Any = answer.json()
    return answer.status_code == 200 and not said.get("duplicate")
