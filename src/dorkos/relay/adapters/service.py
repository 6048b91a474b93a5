"""Adapters as the rest of the system sees them: defined, switched on and off, tried, and shown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from dorkos.clock import Clock, iso
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.identity.model import Caller
from dorkos.lifecycle import Loop
from dorkos.relay.adapters import secrets, store
from dorkos.relay.adapters.agent import MessageRunsSwitch
from dorkos.relay.adapters.configs import (
    AgentConfig,
    MaildirConfig,
    TelegramConfig,
    WebhookConfig,
    checked,
    config_of,
    sends,
)
from dorkos.relay.adapters.mailbox_import import MailboxImport
from dorkos.relay.adapters.maildir import DropFolder
from dorkos.relay.adapters.model import Adapter, AdapterStatus, AuthFailedError, Connection
from dorkos.relay.adapters.outbox import Outbox
from dorkos.relay.adapters.routes import AdapterRoutes
from dorkos.relay.adapters.runner import AdapterRunner
from dorkos.relay.adapters.supervisor import AdapterSupervisor
from dorkos.relay.adapters.webhook_inbound import WebhookInbox
from dorkos.relay.service import RelayService

T = TypeVar("T")

_ID = re.compile(r"[a-z0-9-]+")
_ID_LENGTH_MAX = 64
_PREVIOUS_SECRET_FOR = timedelta(hours=24)
_TEST_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying an adapter once."""

    ok: bool
    detail: str


class AdapterService:
    """Keeps the adapters, and runs them while the server does."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        feed: EventFeed,
        relay: RelayService,
        routes: AdapterRoutes,
        owner: str,
        folder: Path,
    ) -> None:
        """`owner` is the id of this server's node, `folder` where mailboxes in files lie if nobody says."""
        self._database = database
        self._clock = clock
        self._feed = feed
        self._relay = relay
        self.routes = routes
        self._owner = owner
        self._folder = folder
        self.webhooks = WebhookInbox(database, clock, relay)
        self.mailboxes = MailboxImport(database, relay)
        self.supervisor = AdapterSupervisor(
            database,
            clock,
            feed,
            owner=owner,
            is_enabled=relay.settings.enabled,
            runner=self._runner,
            changed=routes.forget,
        )

    @property
    def loops(self) -> tuple[Loop, ...]:
        """What works in the background. No adapter's failure is a failure of these."""
        return (self.supervisor,)

    async def start(self) -> None:
        """Begin to start the adapters; none is waited for."""
        await self.supervisor.start()

    async def stop(self) -> None:
        """Stop the adapters. Safe to repeat."""
        await self.supervisor.stop()

    async def every(self) -> list[tuple[Adapter, AdapterStatus]]:
        """All adapters by id, each with how it is doing."""
        return await self._database.read(store.every)

    async def get(self, adapter_id: str) -> tuple[Adapter, AdapterStatus]:
        """One adapter. Raises `adapter_not_found`."""
        return await self._database.read(lambda connection: store.get(connection, adapter_id))

    async def add(
        self, caller: Caller, adapter_id: str, kind: str, settings: Mapping[str, Any], *, enabled: bool
    ) -> tuple[Adapter, AdapterStatus]:
        """Define an adapter, and start it if it is `enabled`.

        Raises `validation_failed` for what it could not run with, and `adapter_exists`.
        """
        _check_id(adapter_id)
        given = _with_rotation(settings, {}, self._clock.now())
        checked(kind, given)
        plain, secret = secrets.taken_apart(given)

        def change(tx: Transaction) -> tuple[Adapter, AdapterStatus]:
            now = tx.now()
            adapter = Adapter(adapter_id, kind, enabled, plain, secret, now, now)
            store.add(tx, adapter, actor=caller.subject)
            if sends(adapter):
                store.open_mailbox(tx, adapter)
            return store.get(tx, adapter_id)

        return await self._changed(change)

    async def update(
        self, caller: Caller, adapter_id: str, settings: Mapping[str, Any]
    ) -> tuple[Adapter, AdapterStatus]:
        """Change settings: those that are given, the others stay; None takes one away. It starts anew.

        Raises `adapter_not_found`, and `validation_failed` with nothing changed.
        """

        def change(tx: Transaction) -> tuple[Adapter, AdapterStatus]:
            before, _ = store.get(tx, adapter_id)
            old = secrets.whole(before.config, before.secrets)
            merged = _with_rotation(_merged(old, settings), old, tx.now())
            checked(before.type, merged)
            plain, secret = secrets.taken_apart(merged)
            after = replace(before, config=plain, secrets=secret, updated_at=_later(before, tx.now()))
            store.replace(tx, after, actor=caller.subject)
            if sends(after):
                store.open_mailbox(tx, after)
            elif sends(before):
                self._relay.close_in(tx, before.subject, actor=caller.subject)
            return store.get(tx, adapter_id)

        return await self._changed(change)

    async def remove(self, caller: Caller, adapter_id: str) -> None:
        """Forget an adapter. What waits in its mailbox becomes dead letters. Raises `adapter_not_found`."""

        def change(tx: Transaction) -> None:
            adapter, _ = store.get(tx, adapter_id)
            if sends(adapter):
                self._relay.close_in(tx, adapter.subject, actor=caller.subject)
            store.remove(tx, adapter, actor=caller.subject)

        await self._changed(change)

    async def switch(self, caller: Caller, adapter_id: str, *, on: bool) -> None:
        """Switch an adapter on or off. On also tries one again that had failed.

        Switched off it sends and takes in nothing; what waits in its mailbox goes on waiting. Raises
        `adapter_not_found`, and `validation_failed` for one that could not run.
        """

        def change(tx: Transaction) -> None:
            before, _ = store.get(tx, adapter_id)
            if on:
                config_of(before)
            after = replace(before, enabled=on, updated_at=_later(before, tx.now()))
            store.replace(tx, after, actor=caller.subject)
            if not on:
                store.rest(tx, adapter_id)
            elif sends(after):
                store.open_mailbox(tx, after)

        await self._changed(change)

    async def reload(self, caller: Caller) -> int:
        """Start every adapter anew that is switched on; how many there are."""

        def change(tx: Transaction) -> int:
            found = store.enabled(tx)
            for adapter in found:
                again = replace(adapter, updated_at=_later(adapter, tx.now()))
                store.replace(tx, again, actor=caller.subject)
            return len(found)

        return await self._changed(change)

    async def test(self, adapter_id: str) -> Trial:
        """Try an adapter once, beside the one that may be running. Raises `adapter_not_found`.

        A webhook gets a signed request with the body `{"type": "dorkos.test"}`; a bot is asked who it is.
        """
        from dorkos.relay.adapters.webhook import WebhookSender  # As in `_connect`.

        adapter, _ = await self.get(adapter_id)
        connection: Connection | None = None
        try:
            async with asyncio.timeout(_TEST_WITHIN_S):
                connection = self._connect(adapter)
                await connection.open()
                if isinstance(connection, WebhookSender):
                    answer = await connection.post(b'{"type":"dorkos.test"}', {})
                    return Trial(200 <= answer.status < 300, f"It answered HTTP {answer.status}.")
        except AuthFailedError as fault:
            return Trial(False, f"The credentials were refused: {fault}")
        except DorkError as refusal:
            return Trial(False, refusal.message)
        except TimeoutError:
            return Trial(False, f"It did not answer within {_TEST_WITHIN_S:g} seconds.")
        except Exception as fault:  # noqa: BLE001 - whatever the other side does is an answer.
            return Trial(False, f"{fault}" or type(fault).__name__)
        finally:
            if connection is not None:
                await connection.close()
        return Trial(True, "It can be used.")

    async def _changed(self, change: Callable[[Transaction], T]) -> T:
        """Store a change, and have the next message find it."""
        try:
            return await self._database.write(change)
        finally:
            self.routes.forget()
            self.supervisor.wake()

    def _runner(self, adapter: Adapter) -> AdapterRunner:
        outbox = None
        if sends(adapter):
            outbox = Outbox(
                self._database,
                self._feed,
                adapter,
                self._relay.settings,
                max_attempts=_max_attempts(adapter),
            )
        return AdapterRunner(
            adapter,
            database=self._database,
            owner=self._owner,
            connect=lambda: self._connect(adapter),
            outbox=outbox,
        )

    def _connect(self, adapter: Adapter) -> Connection:
        """The adapter as it would work. Raises `validation_failed`."""
        # Not at the top: with them comes an HTTP client, whose import is a twelfth of a start, for those
        # alone who have such an adapter.
        from dorkos.relay.adapters.telegram import TelegramBot
        from dorkos.relay.adapters.webhook import WebhookReceiver, WebhookSender

        config = config_of(adapter)
        match config:
            case WebhookConfig(outbound=None, inbound=inbound):
                assert inbound is not None
                return WebhookReceiver(inbound.secret)
            case WebhookConfig(outbound=outbound):
                assert outbound is not None
                return WebhookSender(outbound, self._clock)
            case TelegramConfig():
                return TelegramBot(adapter, config, self._database, self._relay)
            case MaildirConfig(path=path):
                return DropFolder(adapter, path or self._folder, self._database, self._clock, self._relay)
            case AgentConfig():
                return MessageRunsSwitch()


def _check_id(adapter_id: str) -> None:
    if not _ID.fullmatch(adapter_id) or len(adapter_id) > _ID_LENGTH_MAX:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            "The id of an adapter must be lowercase alphanumeric with hyphens,"
            f" and at most {_ID_LENGTH_MAX} characters long.",
            hint="Choose one such as `build-hook`.",
        )


def _max_attempts(adapter: Adapter) -> int:
    """How often it tries; one whose settings cannot be used tries nothing, so any number will do."""
    try:
        config = config_of(adapter)
    except DorkError:
        return 1
    match config:
        case WebhookConfig(outbound=outbound) if outbound is not None:
            return outbound.max_attempts
        case TelegramConfig():
            return config.max_attempts
    return 1


def _later(before: Adapter, now: datetime) -> datetime:
    """The time of a change: other than that of the one before, by which a change is noticed."""
    return max(now, before.updated_at + timedelta(milliseconds=1))


def _merged(old: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for name, value in given.items():
        if value is None:
            merged.pop(name, None)
        elif value == secrets.STORED and name in merged:
            continue  # An answer that comes back: what is stored stays.
        elif isinstance(value, Mapping):
            inner = merged.get(name)
            merged[name] = _merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def _with_rotation(settings: Mapping[str, Any], old: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The settings; a previous secret that is new in them gets a day, unless they say otherwise."""
    whole = dict(settings)
    inbound = whole.get("inbound")
    if not isinstance(inbound, Mapping) or inbound.get("previousSecret") is None:
        return whole
    before = old.get("inbound")
    is_new = not isinstance(before, Mapping) or before.get("previousSecret") != inbound["previousSecret"]
    if is_new and not inbound.get("previousSecretUntil"):
        whole["inbound"] = {**inbound, "previousSecretUntil": iso(now + _PREVIOUS_SECRET_FOR)}
    return whole
