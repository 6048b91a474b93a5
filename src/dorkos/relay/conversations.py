"""Asking and answering, as callers do it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Protocol

from dorkos.clock import Clock
from dorkos.db.database import Database, Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import Caller
from dorkos.relay import request
from dorkos.relay.model import Envelope, Receipt
from dorkos.relay.request import Request, RequestState
from dorkos.relay.wakeups import Wakeups
from dorkos.vocabulary import Scope


class Publisher(Protocol):
    """What stores a message in the caller's change."""

    def __call__(self, tx: Transaction, caller: Caller, envelope: Envelope) -> Receipt:
        """See `publish.publish`."""
        ...


class Conversations:
    """Requests that are waited for, and replies."""

    def __init__(self, database: Database, clock: Clock, wakeups: Wakeups, publish: Publisher) -> None:
        """Keep the collaborators."""
        self._database = database
        self._clock = clock
        self._wakeups = wakeups
        self._publish = publish

    async def ask(
        self, caller: Caller, envelope: Envelope, *, within: timedelta, wait_ms: int = 0
    ) -> tuple[Receipt, Request]:
        """Send a request, whose reply counts if it comes `within` that time, and wait up to `wait_ms` for it.

        Raises the refusals of a publish. A wait that ends early loses nothing: `look` goes on.
        """
        asked = replace(envelope, reply_within=within)
        receipt = await self._database.write(lambda tx: self._publish(tx, caller, asked))
        return receipt, await self.wait(caller, receipt.message_id, wait_ms=wait_ms)

    async def look(self, caller: Caller, request_id: str) -> Request:
        """Where a request stands.

        Raises `message_not_found` for what is no request, and `forbidden` for another's.
        """
        found = await self._database.read(
            lambda connection: request.find(connection, request_id, self._clock.now())
        )
        if caller.subject == found.message.sender or caller.may(Scope.OBSERVE):
            return found
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"{caller.subject} did not send the request {found.message.id}.",
            hint="A request is followed by who sent it, and by the operator.",
        )

    async def wait(self, caller: Caller, request_id: str, *, wait_ms: int) -> Request:
        """Where a request stands; while it is pending, wait up to `wait_ms` for something to happen.

        A reply can be read as often as one likes; the first time that the one who asked reads it here, it is
        delivered. Raises as `look` does.
        """
        timer = asyncio.get_running_loop()
        deadline = timer.time() + wait_ms / 1000
        while True:
            mark = self._wakeups.mark()
            found = await self.look(caller, request_id)
            if found.state is RequestState.REPLIED and found.message.sender == caller.subject:
                assert found.mailbox_id is not None
                await self._database.write(
                    partial(request.collect, mailbox_id=found.mailbox_id, actor=caller.subject)
                )
            left_s = deadline - timer.time()
            if found.state is not RequestState.PENDING or left_s <= 0 or self._wakeups.ended:
                return found
            assert found.mailbox_id is not None
            until = found.message.expires_at
            if until is not None:
                # The expiry itself still counts as in time.
                left_s = min(left_s, max(0.001, (until - self._clock.now()).total_seconds() + 0.001))
            await self._wakeups.wait(found.mailbox_id, request_id, after=mark, within_s=left_s)

    async def reply(self, caller: Caller, message_id: str, answer: Envelope) -> Receipt:
        """Answer a message that came to the caller's mailbox, where its sender wants the answer.

        It continues the chain of the message, whether that is still held or not. The subject of `answer` is
        of no account. Raises `message_not_found` for a message that did not come to the caller, and
        `validation_failed` for one that nobody can be answered for.
        """

        def change(tx: Transaction) -> Receipt:
            message = request.answerable(tx, message_id, None if caller.is_operator else caller.subject)
            target = message.reply_to or message.sender
            if target is None:
                raise DorkError(
                    ErrorCode.VALIDATION_FAILED,
                    f"The message {message_id} names no sender to reply to.",
                    hint="Send a message of its own with `dorkos relay send`.",
                )
            return self._publish(tx, caller, replace(answer, subject=target, answers=message_id))

        return await self._database.write(change)
