"""Asking an agent something over Relay, and waiting for its own answer."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from dorkos.clock import Clock
from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.ids import new_id
from dorkos.mesh.model import Reply
from dorkos.relay.model import Envelope, Message
from dorkos.relay.service import RelayService
from dorkos.vocabulary import DeliveryStatus, Scope

_MAILBOX = "relay.system.mesh.ping"
_LONGEST_POLL_MS = 10_000
# The answer may come in the very last moment, and the clock is not the one that the wait goes by.
_GRACE = timedelta(minutes=1)


class MailQuestions:
    """Each question has a mailbox of its own for the answer, which is closed afterwards."""

    def __init__(self, relay: RelayService, clock: Clock) -> None:
        """Keep the collaborators."""
        self._relay = relay
        self._clock = clock

    async def ask(self, caller: Caller, *, subject: str, payload: str, within_s: float) -> Reply:
        """Send `payload` to `subject` as `caller`, and wait for what that very subject replies.

        What anybody else sends to the mailbox of the answer is no answer. The question expires with the
        wait: nobody is to answer it afterwards.
        """
        place = f"{_MAILBOX}.{new_id()}"
        keeper = Caller(place, frozenset({Scope.RECEIVE}))
        until = self._clock.now() + timedelta(seconds=within_s)
        # It closes by itself, should this server be killed while it waits.
        about = f"The answer of {subject} to a ping."
        await self._relay.open(keeper, place, description=about, expires_at=until + _GRACE)
        try:
            receipt = await self._relay.publish(
                caller,
                Envelope(new_id(), subject, payload=payload, reply_to=place, expires_at=until),
            )
            if receipt.delivered_to == 0:
                refused = receipt.recipients[0] if receipt.recipients else None
                detail = "It was not delivered." if refused is None else refused.detail or refused.outcome
                return Reply(receipt.message_id, False, None, detail)
            answer = await self._wait(keeper, subject, within_s)
            if answer is not None:
                return Reply(receipt.message_id, True, answer.payload, None)
            return Reply(receipt.message_id, False, None, await self._how_far(receipt.message_id))
        finally:
            with contextlib.suppress(DorkError):  # It is closed already, or the database is away.
                await self._relay.close(keeper, place)

    async def _wait(self, keeper: Caller, subject: str, within_s: float) -> Message | None:
        """The first message to the keeper's mailbox that comes from `subject`, None if the time is over."""
        timer = asyncio.get_running_loop()
        deadline = timer.time() + within_s
        while True:
            left_ms = max(0, round((deadline - timer.time()) * 1000))
            claim = await self._relay.claim(
                keeper, keeper.subject, limit=10, wait_ms=min(left_ms, _LONGEST_POLL_MS)
            )
            for delivery in claim.deliveries:
                # Whoever it is from, it is read now.
                await self._relay.ack(keeper, keeper.subject, delivery.message.id, delivery.lease_token or "")
            for delivery in claim.deliveries:
                if delivery.message.sender == subject:
                    return delivery.message
            if left_ms == 0:
                return None

    async def _how_far(self, message_id: str) -> str:
        """Where a question stands that got no answer, in words."""
        stored = await self._relay.message(message_id)
        if stored.status is DeliveryStatus.DELIVERED:
            return "It took the message and did not reply."
        if stored.status is DeliveryStatus.FAILED:
            return "The message became a dead letter: `dorkos relay dead-letters` says why."
        if any(delivery.run_id is not None for delivery in stored.deliveries):
            return "A run of it is at work on the message, and has not replied."
        if any(delivery.attempts > 0 for delivery in stored.deliveries):
            return "It took the message, gave it back, and has not replied."
        return "The message waits in its mailbox: nobody has taken it."
