"""Tokens that do not hold, counted by the address that shows them.

Whoever shows a token that holds is let in whatever others did from the same address: on one machine all
programs share one, and a program with a stale token must not lock out its neighbours.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict

from dorkos.clock import Clock
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.server")

LIMIT = 20
WINDOW_S = 60.0
_ADDRESSES_MAX = 1000


class Failures:
    """Counts failures in windows of a minute. Remembers at most a thousand addresses, the newest."""

    def __init__(self, clock: Clock) -> None:
        """Nobody has failed yet."""
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def counted(self, refusal: DorkError, address: str) -> DorkError:
        """What to answer instead of `refusal`: the same, or `too_many_failures` beyond the limit.

        Only a token that was shown counts; a request without one guesses nothing.
        """
        if refusal.code is not ErrorCode.TOKEN_INVALID:
            return refusal
        now = self._clock.monotonic()
        begun, count = self._windows.pop(address, (now, 0))
        if now - begun >= WINDOW_S:
            begun, count = now, 0
        count += 1
        self._windows[address] = (begun, count)
        if len(self._windows) > _ADDRESSES_MAX:
            self._windows.popitem(last=False)
        if count <= LIMIT:
            return refusal
        if count == LIMIT + 1:
            log.warning("%s has shown %d tokens that do not hold within a minute", address, count)
        wait_s = max(1, math.ceil(begun + WINDOW_S - now))
        return DorkError(
            ErrorCode.TOO_MANY_FAILURES,
            f"More than {LIMIT} tokens that do not hold came from this address within a minute.",
            hint=f"Look for a program with an old token; wait {wait_s} s before the next try.",
            details={"retryAfterSeconds": wait_s},
        )
