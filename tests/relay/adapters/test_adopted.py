"""Adapters that DorkOS for Node left: each does what it can, and says what it lacks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.legacy.adapter_secrets import split
from dorkos.db.schema.relay import relay_adapters
from dorkos.relay.adapters.signature import sign
from dorkos.relay.adapters.webhook_inbound import SignedRequest
from dorkos.testing import create_test_db
from dorkos.vocabulary import AdapterState
from tests.relay.adapters.bench import SECRET, Bench, bench
from tests.relay.adapters.bot_api import TOKEN, ScriptedBotApi, bot_api
from tests.relay.post_office import ADA, INBOX


@pytest.fixture
async def db(clock: ManualClock) -> AsyncIterator[Database]:
    """One engine: adoption itself has its own tests."""
    async with create_test_db("sqlite", clock=clock) as database:
        yield database


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """A server, with a mailbox for what comes in."""
    async with bench(db, clock, tmp_path) as made:
        await made.office.open(INBOX)
        yield made


def adopt(tx: Transaction, adapter_id: str, kind: str, config: dict[str, Any]) -> None:
    """A row as the import of `adapters.json` makes it."""
    plain, secret = split(config)
    row = {"id": adapter_id, "type": kind, "enabled": True, "config": plain, "secrets": secret}
    tx.execute(relay_adapters.insert(), row | {"created_at": tx.now(), "updated_at": tx.now()})


async def test_each_starts_by_itself_and_says_what_it_lacks(here: Bench, clock: ManualClock) -> None:
    """The one that starts runs, a webhook, a bot without chats, and a plugin that is not here."""
    async with bot_api() as there:
        there_is: ScriptedBotApi = there
        webhook = {
            "inbound": {"subject": INBOX, "secret": SECRET},
            "outbound": {"url": "http://127.0.0.1:9/hook", "secret": SECRET},
        }
        bot = {"token": TOKEN, "mode": "polling", "apiUrl": there_is.url}
        for adapter_id, kind, config in (
            ("claude-code", "claude-code", {"maxConcurrent": 3, "defaultTimeoutMs": 300_000}),
            ("hook", "webhook", webhook),
            ("phone", "telegram", bot),
            ("slack", "plugin", {"token": "xoxb-made-up"}),
        ):
            await here.db.write(partial(adopt, adapter_id=adapter_id, kind=kind, config=config))
        await here.adapters.start()
        await here.until_state("claude-code", AdapterState.CONNECTED)
        await here.until_state("phone", AdapterState.CONNECTED)
        private = await here.until_state("hook", AdapterState.ERROR)
        assert "allowPrivate" in (private.last_error or "")
        unknown = await here.until_state("slack", AdapterState.ERROR)
        assert "'plugin'" in (unknown.last_error or "")

        # What comes in needs no way out.
        timestamp = str(int(clock.now().timestamp()))
        headers = {"x-timestamp": timestamp, "x-nonce": "nonce-0001"}
        signed = {**headers, "x-signature": sign(SECRET, timestamp, "nonce-0001", b"{}")}
        receipt = await here.adapters.webhooks.accept("hook", SignedRequest(signed, b"{}"))
        assert receipt.delivered_to == 1
        # Messages to its subject go out by it, as before; they wait for a way.
        sent = await here.office.send("out", to=INBOX, caller=ADA)
        assert [each.subject for each in sent.recipients] == [INBOX, "relay.webhook.hook"]
        # A bot hears nobody until somebody is named.
        there_is.write("hello")

        async def told() -> bool | None:
            return True if "add 42" in ((await here.status("phone")).last_error or "") else None

        await here.until(told)
