"""Telegram: a bot that hears the chats it was told of, and speaks in them.

In: each message once, by its number in its chat, together with how far the updates were read. Out: at most
once, because a person reads it. A mark is stored before a message is sent; if the server dies in between,
the message is not sent again but becomes a dead letter that says so. A person who puts that back decides
that it may be shown, perhaps a second time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError
from dorkos.ids import new_id
from dorkos.relay import payload
from dorkos.relay.adapters import secrets, store
from dorkos.relay.adapters.configs import TelegramConfig
from dorkos.relay.adapters.egress import ForbiddenAddressError, NotSentError, UnclearError
from dorkos.relay.adapters.model import Adapter, AuthFailedError, Never, NotNow, Outcome, Sent, Unknown
from dorkos.relay.adapters.telegram_api import ApiRefusedError, BotApi, UnclearAnswerError
from dorkos.relay.adapters.telegram_text import Incoming, chat_of, incoming, outgoing, payload_of
from dorkos.relay.model import Delivery, Envelope
from dorkos.relay.service import RelayService
from dorkos.storable import clean_text
from dorkos.vocabulary import AdapterMarkKind

log = logging.getLogger("dorkos.relay.adapters")

# After a broken poll; the updates wait at the other side meanwhile.
_AGAIN_S = 2.0


class TelegramBot:
    """One bot at work."""

    def __init__(
        self, adapter: Adapter, config: TelegramConfig, database: Database, relay: RelayService
    ) -> None:
        """Nothing is sent yet."""
        self._adapter = adapter
        self._config = config
        self._database = database
        self._relay = relay
        self._api: BotApi | None = None

    async def open(self) -> None:
        """Read the token and ask who the bot is. Raises `AuthFailedError` if there is no such bot."""
        self._api = BotApi(self._config.api_url, secrets.resolve(self._config.token))
        await self._api.me()

    async def receive(self) -> None:
        """Take in updates, the oldest first. Each is stored before the next are asked for."""
        api = self._opened()
        cursor = await self._database.read(lambda connection: store.cursor(connection, self._adapter.id))
        offset = int(cursor) if cursor is not None else None
        failures = 0
        while True:
            try:
                updates = await api.updates(offset)
            except (NotSentError, UnclearError, UnclearAnswerError):
                failures += 1
                if failures > 2:
                    raise
                await asyncio.sleep(_AGAIN_S)
                continue
            failures = 0
            before = offset
            for update in updates:
                number = update.get("update_id") if isinstance(update, dict) else None
                if isinstance(number, int):
                    await self._take(update, number + 1)
                    offset = number + 1
            if updates and offset == before:
                raise UnclearAnswerError("Telegram gave updates that have no numbers")

    async def send(self, delivery: Delivery) -> Outcome:
        """Show a message in the chat that its address names. At most once."""
        message = delivery.message
        chat = chat_of(message.subject, self._adapter.subject)
        if chat is None:
            return Never(f"The address {message.subject} names no chat.")
        if chat not in self._config.chats:
            return Never(f"The chat {chat} is none of those that the adapter may use (`chats`).")
        text = outgoing(message.payload)
        if not text.strip():
            return Never("The message has no text to show.")
        begun = await self._database.write(
            lambda tx: store.mark(tx, self._adapter.id, AdapterMarkKind.SENT, sending(delivery), message.id)
        )
        if not begun:
            return Unknown(
                "It may or may not have been shown: the server ended while it was being sent."
                " It is not sent again."
            )
        try:
            await self._opened().send(chat, text)
        except AuthFailedError:
            await self._unmark(delivery)
            raise
        except ApiRefusedError as refusal:
            if refusal.code != 429:
                return Never(str(refusal))
            await self._unmark(delivery)
            return NotNow(str(refusal), after=refusal.retry_after, fault=False)
        except (NotSentError, ForbiddenAddressError) as fault:
            await self._unmark(delivery)
            return NotNow(f"Telegram: {fault}")
        except (UnclearError, UnclearAnswerError) as fault:
            return Unknown(f"It may or may not have been shown: {fault}. It is not sent again.")
        return Sent()

    async def close(self) -> None:
        """Close the connections."""
        if self._api is not None:
            await self._api.close()

    def _opened(self) -> BotApi:
        assert self._api is not None
        return self._api

    async def _unmark(self, delivery: Delivery) -> None:
        """It has become certain that nothing was shown."""
        await self._database.write(lambda tx: store.unmark(tx, self._adapter.id, sending(delivery)))

    async def _take(self, update: Any, after: int) -> None:
        """Store what an update says, together with how far was read."""
        found = incoming(update)
        if found is None or found.by_bot:
            await self._database.write(lambda tx: store.move_cursor(tx, self._adapter.id, str(after)))
            return
        if found.chat not in self._config.chats:
            why = f"The chat is not among `chats`. To let it in, add {found.chat} to them."
            await self._refuse(found, why, after)
            return
        try:
            envelope = self._envelope(found)
            await self._database.write(lambda tx: self._publish(tx, found, envelope, after))
        except DorkError as refusal:
            # What cannot be a message never can, and must not keep the next from coming in.
            if refusal.http_status >= 500:
                raise
            await self._refuse(found, refusal.message, after)

    def _envelope(self, found: Incoming) -> Envelope:
        reply_to = f"{self._adapter.subject}.{found.chat}"
        shown = payload_of(found, reply_to)
        shown["content"] = clean_text(found.text)
        return Envelope(
            id=new_id(),
            subject=self._config.subject or found.chat_subject,
            payload=payload.encode(shown),
            reply_to=reply_to,
        )

    def _publish(self, tx: Transaction, found: Incoming, envelope: Envelope, after: int) -> None:
        store.move_cursor(tx, self._adapter.id, str(after))
        if store.mark(tx, self._adapter.id, AdapterMarkKind.RECEIVED, found.name, envelope.id):
            self._relay.publish_in(tx, self._adapter.caller, envelope)
            store.count(tx, self._adapter.id, inbound=1)

    async def _refuse(self, found: Incoming, why: str, after: int) -> None:
        """Leave a message out, so that everybody can see that and why."""

        def change(tx: Transaction) -> None:
            store.move_cursor(tx, self._adapter.id, str(after))
            store.count(tx, self._adapter.id, error=f"Chat {found.chat}: {why}")
            # Once an hour for each chat: a stranger must not be able to fill the events.
            name = f"refused:{found.chat}:{int(tx.now().timestamp()) // 3600}"
            if store.mark(tx, self._adapter.id, AdapterMarkKind.RECEIVED, name):
                data = {"chatId": found.chat, "message": found.name, "detail": why}
                tx.emit("relay.adapter.refused", self._adapter.id, data)

        await self._database.write(change)


def sending(delivery: Delivery) -> str:
    """The mark of a message that is about to be sent. What a person puts back gets another place in the
    mailbox, and so another mark."""
    return f"{delivery.id}:{delivery.position}"
