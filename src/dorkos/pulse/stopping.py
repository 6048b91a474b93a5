"""`FleetStop`: ends what is at work while the fleet is stopped."""

from __future__ import annotations

from dorkos.lifecycle import Loop
from dorkos.pulse.store import PulseStore
from dorkos.vocabulary import FleetMode

_INTERVAL_S = 1.0
_CHUNK = 500


class FleetStop(Loop):
    """Asks for the end of every running run, whichever server holds it; that server then ends it.

    Every server does this, so that a stop is carried out also when the server that was asked for it is
    gone a moment later. A request that is stored already is not repeated.
    """

    def __init__(self, store: PulseStore) -> None:
        """See `Loop` for its life."""
        super().__init__("pulse.stop", interval_s=_INTERVAL_S)
        self._store = store

    async def work(self) -> float | None:
        """Ask, unless the fleet is not stopped."""
        if (await self._store.fleet()).mode is not FleetMode.STOP:
            return None
        while not self.stopping and await self._store.cancel_for_stop(limit=_CHUNK) == _CHUNK:
            pass
        return None
