"""The bulk of the messages, from within the server: over HTTP most of the work would be the clients' own.

What was done is told in a file, a line of JSON a second, and how long the event loop was kept waiting.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.payload import PAYLOAD
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.model import Envelope
from dorkos.relay.service import RelayService
from dorkos.vocabulary import PublishOutcome, Scope

MAILBOXES = tuple(f"relay.human.within{number}" for number in range(8))
_WRITER = Caller("relay.human.writer", frozenset({Scope.SEND}))
_SENDERS = 64
_REJECTED, _KEYED = 1 / 200, 1 / 10
_TICK_S, _TELL_S = 0.02, 1.0
_AT_ONCE = 50


@dataclass
class Inside:
    """Publishes `rate` messages a second, claims and acknowledges them, and tells `place` how that went."""

    relay: RelayService
    rate: float
    place: Path
    counts: Counter[str] = field(default_factory=Counter)
    publish_ms: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Open the mailboxes and begin."""
        for subject in MAILBOXES:
            await self.relay.open(OPERATOR, subject, description=None)
        ways: list[Coroutine[Any, Any, None]] = [self._tell()]
        if self.rate:
            ways += [self._publish(number) for number in range(_SENDERS)]
            ways += [self._consume(subject) for subject in MAILBOXES]
        self.tasks = [asyncio.create_task(way) for way in ways]

    async def stop(self) -> None:
        """End."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _publish(self, number: int) -> None:
        """At a steady pace; what came late is sent at once, so that the rate is kept."""
        every_s = _SENDERS / self.rate
        chance = random.Random(number)
        due = time.monotonic() + chance.random() * every_s
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            # After a standstill of the machine nobody sends all that would have been.
            due = max(due, time.monotonic() - 1) + every_s
            envelope = Envelope(
                id=new_id(),
                subject=chance.choice(MAILBOXES),
                payload=PAYLOAD,
                key=new_id() if chance.random() < _KEYED else None,
            )
            begun = time.perf_counter()
            receipt = await self.relay.publish(_WRITER, envelope)
            self.publish_ms.append((time.perf_counter() - begun) * 1000)
            arrived = receipt.recipients[0].outcome is PublishOutcome.DELIVERED
            self.counts["published" if arrived else "undelivered"] += 1

    async def _consume(self, subject: str) -> None:
        reader = Caller(subject, frozenset({Scope.RECEIVE}))
        chance = random.Random(subject)

        async def settle(message_id: str, token: str) -> None:
            if chance.random() < _REJECTED:
                now = timedelta()
                await self.relay.nack(reader, subject, message_id, token, delay=now, reject=True)
                self.counts["rejected"] += 1
            else:
                await self.relay.ack(reader, subject, message_id, token)
                self.counts["acknowledged"] += 1

        while True:
            claim = await self.relay.claim(reader, subject, limit=_AT_ONCE, wait_ms=1000)
            await asyncio.gather(
                *(
                    settle(delivery.message.id, delivery.lease_token)
                    for delivery in claim.deliveries
                    if delivery.lease_token is not None
                )
            )

    async def _tell(self) -> None:
        worst, told = 0.0, time.monotonic()
        while True:
            asked = time.monotonic()
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            worst = max(worst, now - asked - _TICK_S)
            if now - told >= _TELL_S:
                seen = {"stall": round(worst * 1000, 1), "counts": self.counts, "publishMs": self.publish_ms}
                with self.place.open("a", encoding="ascii") as file:
                    file.write(json.dumps(seen | {"ended": self._ended()}) + "\n")
                worst, told, self.counts, self.publish_ms = 0.0, now, Counter(), []

    def _ended(self) -> list[str]:
        """What became of those that should still be at work."""
        return [repr(task.exception()) for task in self.tasks if task.done()]
