"""Telegram against a scripted Bot API on loopback: each message in once, each message out at most once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_messages
from dorkos.db.schema.system import events
from dorkos.identity.model import OPERATOR
from dorkos.relay.adapters import store
from dorkos.relay.adapters.telegram import sending
from dorkos.relay.inbox import DELIVERIES, delivery_of
from dorkos.relay.model import LetterFilter
from dorkos.testing import create_test_db
from dorkos.vocabulary import (
    AdapterMarkKind,
    AdapterState,
    DeadLetterReason,
    DeliveryStatus,
    PublishOutcome,
)
from tests.relay.adapters.bench import Bench, bench
from tests.relay.adapters.bot_api import TOKEN, ScriptedBotApi, bot_api
from tests.relay.post_office import ADA, INBOX, stored

BOT = "relay.telegram.bot"
CHAT = f"{BOT}.42"


@pytest.fixture
async def db(clock: ManualClock) -> AsyncIterator[Database]:
    """One engine: what is stored where is told by the conformance tests."""
    async with create_test_db("sqlite", clock=clock) as database:
        yield database


@pytest.fixture
async def there() -> AsyncIterator[ScriptedBotApi]:
    """The other side."""
    async with bot_api() as made:
        yield made


@pytest.fixture
async def here(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Bench]:
    """This side, its supervisor at work, with a mailbox for what comes in."""
    async with bench(db, clock, tmp_path) as made:
        await made.office.open(INBOX)
        await made.adapters.start()
        yield made


async def add(here: Bench, there: ScriptedBotApi, **more: object) -> None:
    """A bot that may use the chat 42."""
    settings = {"token": TOKEN, "apiUrl": there.url, "chats": [42], "subject": INBOX, **more}
    await here.add("bot", "telegram", settings)


async def received(here: Bench, count: int) -> list[Any]:
    """The messages that came in by the bot, once there are so many."""
    m = relay_messages.c
    statement = sa.select(m.subject, m.sender, m.reply_to, m.payload).where(m.sender == BOT).order_by(m.id)

    async def look() -> list[Any] | None:
        found = await here.db.read(lambda connection: list(connection.execute(statement)))
        return found if len(found) >= count else None

    return await here.until(look)


async def settled(here: Bench, message_id: str) -> DeliveryStatus:
    """What became of a message at the bot, once that is final."""

    async def look() -> DeliveryStatus | None:
        (status,) = (await stored(here.db, message_id)).statuses
        return None if status is DeliveryStatus.PENDING else status

    return await here.until(look)


async def test_what_is_written_in_a_chat_becomes_a_message(here: Bench, there: ScriptedBotApi) -> None:
    """Sent as the bot, to be answered at the chat's address, with the lineage's standard payload."""
    await add(here, there)
    there.write("Is the build green? 🙂")
    (row,) = await received(here, 1)
    assert (row.subject, row.sender, row.reply_to) == (INBOX, BOT, CHAT)
    payload = json.loads(row.payload)
    assert payload["content"] == "Is the build green? 🙂"
    assert (payload["senderName"], payload["channelType"]) == ("Ada", "dm")
    assert payload["platformData"]["chatId"] == 42
    assert CHAT in payload["responseContext"]["instructions"]
    assert (await here.status("bot")).state is AdapterState.CONNECTED


async def test_an_answer_is_shown_in_its_chat(here: Bench, there: ScriptedBotApi) -> None:
    """At the address to reply to, and at the one that DorkOS for Node had for the chat."""
    await add(here, there)
    for address in (CHAT, "relay.human.telegram.42"):
        sent = await here.office.send({"content": f"yes, {address}"}, to=address, caller=ADA)
        assert [each.outcome for each in sent.recipients] == [PublishOutcome.DELIVERED]
        assert await there.next_shown() == {"chat_id": 42, "text": f"yes, {address}"}
        assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED
    assert (await here.status("bot")).outbound_count == 2


async def test_a_message_comes_in_once_however_often_it_is_told(here: Bench, there: ScriptedBotApi) -> None:
    """After a restart with the place lost, or told again under another number."""
    await add(here, there)
    number = there.write("once")
    await received(here, 1)
    again = dict(there.updates[0], update_id=number + 1)
    there.push(again)
    there.write("two")
    rows = await received(here, 2)
    assert [json.loads(row.payload)["content"] for row in rows] == ["once", "two"]

    await here.db.write(lambda tx: store.move_cursor(tx, "bot", "0"))
    await here.adapters.switch(OPERATOR, "bot", on=True)
    there.write("three")
    rows = await received(here, 3)
    assert [json.loads(row.payload)["content"] for row in rows] == ["once", "two", "three"]
    assert (await here.status("bot")).inbound_count == 3


async def test_a_restart_goes_on_where_it_was(
    here: Bench, there: ScriptedBotApi, clock: ManualClock, tmp_path: Path
) -> None:
    """What was written while no server ran comes in."""
    await add(here, there)
    there.write("before")
    await received(here, 1)
    await here.adapters.stop()
    there.write("meanwhile")
    async with bench(here.db, clock, tmp_path) as other:
        await other.adapters.start()
        rows = await received(other, 2)
    assert [json.loads(row.payload)["content"] for row in rows] == ["before", "meanwhile"]


async def test_a_chat_that_was_not_named_is_not_heard(here: Bench, there: ScriptedBotApi) -> None:
    """Whoever finds a bot can write to it; the status tells how to let them in."""
    await add(here, there)
    for text in ("let me in", "please", "now"):
        there.write(text, chat=66)
    there.write("hello")
    (row,) = await received(here, 1)
    assert json.loads(row.payload)["content"] == "hello"
    status = await here.status("bot")
    assert "add 66" in (status.last_error or "")
    told = sa.select(sa.func.count()).where(events.c.kind == "relay.adapter.refused")
    assert await here.db.read(lambda connection: connection.execute(told).scalar_one()) == 1
    sent = await here.office.send("no", to=f"{BOT}.66", caller=ADA)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    assert there.shown.empty()


async def test_updates_that_say_nothing_do_not_stop_the_next(here: Bench, there: ScriptedBotApi) -> None:
    """Stickers, other bots, and what cannot be understood at all."""
    await add(here, there)
    there.push({"update_id": 50, "message": {"message_id": 1, "chat": {"id": 42, "type": "private"}}})
    there.push({"update_id": 51, "poll": {"id": "x"}})
    there.push({"update_id": 52, "message": ["?"]})
    there.push({"update_id": 53, "message": {"message_id": True, "chat": {"id": "42"}, "text": "x"}})
    there.write("beep", author={"id": 1, "is_bot": True})
    there.write("in a group", chat=42, kind="supergroup")
    (row,) = await received(here, 1)
    payload = json.loads(row.payload)
    assert (payload["content"], payload["channelType"], payload["channelName"]) == (
        "in a group",
        "group",
        "Team",
    )


async def test_without_a_subject_a_message_goes_to_its_chat(here: Bench, there: ScriptedBotApi) -> None:
    """As in DorkOS for Node; it does not go out again by the bot that listens there."""
    await here.office.open("relay.human.telegram.42")
    await add(here, there, subject=None)
    there.write("hello")
    (row,) = await received(here, 1)
    assert row.subject == "relay.human.telegram.42"
    sent = await here.office.send("yes", to=CHAT, caller=ADA)
    assert await there.next_shown() == {"chat_id": 42, "text": "yes"}
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED


@pytest.mark.parametrize("answer", ["drop", {"ok": False, "error_code": 502, "description": "Bad Gateway"}])
async def test_what_may_have_been_shown_is_never_sent_again(
    here: Bench, there: ScriptedBotApi, answer: object
) -> None:
    """A person would read it twice: it becomes a dead letter that says so."""
    await add(here, there)
    there.answers.append(answer)
    sent = await here.office.send("the release is out", to=CHAT, caller=ADA)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    (letter,) = await here.office.relay.letters.newest_first(LetterFilter(), limit=10)
    assert letter.reason is DeadLetterReason.ADAPTER_FAILED
    assert "may or may not have been shown" in letter.detail
    await here.office.send("next", to=CHAT, caller=ADA)
    assert (await there.next_shown())["text"] == "the release is out"
    assert (await there.next_shown())["text"] == "next"


@pytest.mark.parametrize(
    "answer", ["drop", {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked"}]
)
async def test_what_a_person_puts_back_is_sent_again(
    here: Bench, there: ScriptedBotApi, answer: object
) -> None:
    """It is said to have been shown or not; who puts it back wants it shown."""
    await add(here, there)
    there.answers.append(answer)
    sent = await here.office.send("the release is out", to=CHAT, caller=ADA)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    await there.next_shown()
    (letter,) = await here.office.relay.letters.newest_first(LetterFilter(), limit=10)
    await here.office.relay.letters.redrive(OPERATOR, letter.id)
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED
    assert (await there.next_shown())["text"] == "the release is out"


async def test_a_server_that_died_while_sending_does_not_send_again(
    here: Bench, there: ScriptedBotApi
) -> None:
    """The mark that it left before sending is what the next one finds."""
    sent = await here.office.send("one", to="relay.human.nobody", caller=ADA)
    await add(here, there, enabled=False)
    await here.adapters.switch(OPERATOR, "bot", on=False)
    sent = await here.office.send("one", to=BOT, caller=ADA)

    def died(tx: object) -> None:
        delivery = tx.execute(  # type: ignore[attr-defined]  # A transaction.
            DELIVERIES.where(relay_messages.c.id == sent.message_id)
        ).one()
        store.mark(tx, "bot", AdapterMarkKind.SENT, sending(delivery_of(delivery)))  # type: ignore[arg-type]  # The same.
        tx.execute(  # type: ignore[attr-defined]  # The same.
            sa.text("UPDATE relay_messages SET subject = :to WHERE id = :message"),
            {"to": CHAT, "message": sent.message_id},
        )

    await here.db.write(died)
    await here.adapters.switch(OPERATOR, "bot", on=True)
    assert await settled(here, sent.message_id) is DeliveryStatus.FAILED
    (letter, *_) = await here.office.relay.letters.newest_first(LetterFilter(), limit=10)
    assert "may or may not have been shown" in letter.detail
    assert there.shown.empty()


async def test_what_was_certainly_not_shown_is_sent_later(
    here: Bench, there: ScriptedBotApi, clock: ManualClock
) -> None:
    """When Telegram asks to slow down it waits as long as it is asked to."""
    await add(here, there)
    slow = {"ok": False, "error_code": 429, "description": "Too Many", "parameters": {"retry_after": 3}}
    there.answers.append(slow)
    sent = await here.office.send("one", to=CHAT, caller=ADA)
    await there.next_shown()

    async def waits() -> bool | None:
        rows = await stored(here.db, sent.message_id)
        return True if "relay.delivery.nacked" in rows.events else None

    await here.until(waits)
    clock.advance(timedelta(seconds=3))
    await here.office.send("two", to=CHAT, caller=ADA)
    assert (await there.next_shown())["text"] == "one"
    assert await settled(here, sent.message_id) is DeliveryStatus.DELIVERED


async def test_a_revoked_token_stops_the_bot(here: Bench, there: ScriptedBotApi) -> None:
    """It is not tried again, and the token stands in no state, event or answer."""
    there.token = "other"
    await add(here, there)
    status = await here.until_state("bot", AdapterState.AUTH_FAILED)
    assert TOKEN not in (status.last_error or "")
    there.token = TOKEN
    await here.adapters.switch(OPERATOR, "bot", on=True)
    await here.until_state("bot", AdapterState.CONNECTED)


async def test_a_trial_asks_who_the_bot_is(here: Bench, there: ScriptedBotApi) -> None:
    """Without taking an update away from the bot that may be running."""
    settings = {"token": TOKEN, "apiUrl": there.url}
    await here.add("bot", "telegram", settings, on=False)
    assert (await here.adapters.test("bot")).ok
    there.token = "other"
    trial = await here.adapters.test("bot")
    assert (trial.ok, TOKEN in trial.detail) == (False, False)
    assert there.polls == 0
