"""Waiting for a mailbox. What may be claimed is decided by storage; an event only says when to look."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from dorkos.events import Cursor, EventFeed
from dorkos.fleet import CHANGED

# Kinds after which a claim may find something, or may find the mailbox closed.
_KINDS = frozenset(
    {
        "relay.message.published",
        "relay.message.routed",
        "relay.message.dead_lettered",
        "relay.message.redriven",
        "relay.delivery.nacked",
        "relay.endpoint.opened",
        "relay.endpoint.closed",
    }
)


class Wakeups:
    """Lets callers wait until something happens in a mailbox."""

    def __init__(self, feed: EventFeed) -> None:
        """`feed` must be started before anybody waits."""
        self._feed = feed
        self._waits: set[asyncio.Timeout] = set()
        self.ended = False

    def mark(self) -> Cursor:
        """The moment to wait from. Take it before looking: what happens after it ends the wait at once."""
        return self._feed.head

    async def wait(self, *ids: str, after: Cursor, within_s: float) -> None:
        """Return when something happened after the mark in a mailbox, or to a message, or after `within_s`
        seconds.

        `ids` are those of mailboxes and messages. A change of the fleet's mode happens in every mailbox.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s) as wait:
                self._waits.add(wait)
                try:
                    await self._next(ids, after)
                finally:
                    self._waits.discard(wait)

    def end(self) -> None:
        """End every wait, now and from now on: the server stops."""
        self.ended = True
        now = asyncio.get_running_loop().time()
        for wait in self._waits:
            wait.reschedule(now)

    async def _next(self, ids: Collection[str], after: Cursor) -> None:
        async for event in self._feed.watch(after):
            if event.kind == CHANGED:
                return
            if event.kind in _KINDS and (event.entity_id in ids or event.data.get("endpointId") in ids):
                return
        # The feed stopped, and the server with it.
        self.ended = True
