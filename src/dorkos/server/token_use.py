"""When a token was last used: noted at most once a minute, beside the request and never in its way."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.errors import DorkError
from dorkos.identity.model import Caller
from dorkos.identity.tokens import note_use

log = logging.getLogger("dorkos.server")

_EVERY_S = 60.0
_REMEMBERED_MAX = 1000


class TokenUse:
    """Notes uses of long-lived tokens. A run's token is not worth a commit: its run tells when it worked."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Nothing is noted yet."""
        self._database = database
        self._clock = clock
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, caller: Caller) -> None:
        """Have it written that the caller's token was used just now, unless that stands there already."""
        token_id, now = caller.token_id, self._clock.monotonic()
        if token_id is None or caller.run_id is not None:
            return
        noted = self._noted.pop(token_id, None)
        if noted is not None and now - noted < _EVERY_S:
            self._noted[token_id] = noted
            return
        self._noted[token_id] = now
        if len(self._noted) > _REMEMBERED_MAX:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._write(token_id), name="dorkos.token-use")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def settled(self) -> None:
        """Return when everything that was noted so far is stored, or could not be."""
        await asyncio.gather(*self._writing)

    async def _write(self, token_id: str) -> None:
        try:
            await self._database.write(lambda tx: note_use(tx, token_id))
        except DorkError as refusal:
            log.debug("the use of token %s could not be noted: %s", token_id, refusal.message)
