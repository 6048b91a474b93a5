"""Relay answers for everything that came over, however odd."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from dorkos.clock import ManualClock
from dorkos.db.legacy.adopt import adopt_into_sqlite
from dorkos.db.legacy.collecting import Rules
from dorkos.db.sqlite import SqliteDatabase
from dorkos.identity.model import OPERATOR
from dorkos.relay.operations import OPERATIONS
from tests.db.legacy.relay_kit import FIXTURES, NOW, expected_files
from tests.relay.post_office import PostOffice, post_office

_HOME = "home-three-databases"
_BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[PostOffice]:
    """Relay on a database into which a home was imported."""
    clock = ManualClock(NOW)
    path = tmp_path / "dork.db"
    rules = Rules(lambda _cron, _zone: None, None)
    backups = tmp_path / "backups"
    adopt_into_sqlite(
        FIXTURES / _HOME, path, backups=backups, clock=clock, rules=rules, say=lambda _text: None
    )
    database = SqliteDatabase(path, clock=clock)
    await database.open()
    yield post_office(database, clock)
    await database.close()


async def _ask(office: PostOffice, name: str, **body: Any) -> Any:
    """Ask as a face does: validated input in, JSON out."""
    operation = _BY_NAME[name]
    answer = await operation.handler(office.relay, OPERATOR, operation.input.model_validate(body))
    return json.loads(TypeAdapter(operation.answer).dump_json(answer, by_alias=True))


async def _all_messages(office: PostOffice) -> dict[str, Any]:
    found: dict[str, Any] = {}
    page: dict[str, Any] = {"nextCursor": None}
    while "nextCursor" in page:
        page = await _ask(office, "relay.messages", cursor=page["nextCursor"], limit=20)
        found |= {message["id"]: message for message in page["messages"]}
    return found


async def test_every_imported_message_can_be_listed(office: PostOffice) -> None:
    """With its payload; half an emoji shows as U+FFFD, and a message without one has no such key."""
    found = await _all_messages(office)
    for _, _, _, envelope in expected_files(_HOME):
        answered = found[envelope["id"]]
        assert answered["from"] == envelope["from"]
        assert ("payload" in answered) == ("payload" in envelope)
        assert answered["budget"]["ttl"] == envelope["budget"].get("ttl")
    assert "\ufffd" in json.dumps(found["01KJ7JEMZFE2YR45MSW2CCQA9C"]["payload"], ensure_ascii=False)
    assert "\\u0000" in json.dumps(found["01KJ7JBR5Y0M21ETHZNN8D89BR"]["payload"])


async def test_every_mailbox_and_dead_letter_can_be_looked_at(office: PostOffice) -> None:
    """Closed ones, too; a dead letter names the mailbox that the lineage filed it under."""
    for endpoint in await _ask(office, "relay.endpoints", includeClosed=True):
        await _ask(office, "relay.inbox", subject=endpoint["subject"], limit=100)
        await _ask(office, "relay.dead_letters", endpointHash=endpoint["hash"], limit=100)
    letters = await _ask(office, "relay.dead_letters", limit=100)
    filed = {
        (mailbox, envelope["id"])
        for mailbox, folder, _, envelope in expected_files(_HOME)
        if folder == "failed"
    }
    assert {(letter["endpointHash"], letter["messageId"]) for letter in letters} == filed
