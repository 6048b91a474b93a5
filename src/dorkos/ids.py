"""Monotonic ULIDs (https://github.com/ulid/spec): 26 characters of Crockford base 32.

Ids identify; they order only within one process. Anything that must be ordered across processes has
an integer that was assigned inside the transaction.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters, ten bits, at a time.
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RANDOM_MAX = (1 << _RANDOM_BITS) - 1
_RANDOM_BYTES = _RANDOM_BITS // 8
# Drawn at once: each draw gives up the interpreter's lock, and may have to wait long to get it back.
_DRAWN_AT_ONCE = 64
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class UlidFactory:
    """Makes ULIDs that strictly increase within this factory, also when the clock jumps back."""

    def __init__(self, time_ns: Callable[[], int] = time.time_ns) -> None:
        """Start with no history. `time_ns` tells nanoseconds since 1970."""
        self._time_ns = time_ns
        self._lock = threading.Lock()
        self._last_ms = 0
        self._last_random = 0
        self._drawn = b""

    def forget(self) -> None:
        """Drop what was drawn ahead: a forked process must not go on with the same numbers."""
        self._lock = threading.Lock()
        self._last_ms = 0
        self._drawn = b""

    def new(self) -> str:
        """The next id. Thread-safe; never equal to or smaller than an earlier one of this factory."""
        with self._lock:
            now_ms = self._time_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                self._last_random = self._draw()
            elif self._last_random < _RANDOM_MAX:
                self._last_random += 1
            else:
                self._last_ms += 1
                self._last_random = self._draw()
            return _encode((self._last_ms << _RANDOM_BITS) | self._last_random)

    def _draw(self) -> int:
        if not self._drawn:
            self._drawn = secrets.token_bytes(_RANDOM_BYTES * _DRAWN_AT_ONCE)
        drawn, self._drawn = self._drawn[:_RANDOM_BYTES], self._drawn[_RANDOM_BYTES:]
        # The top bit stays clear so that a burst within one millisecond has room to count up.
        return int.from_bytes(drawn, "big") >> 1


_factory = UlidFactory()
os.register_at_fork(after_in_child=_factory.forget)


def new_id() -> str:
    """A new ULID, greater than every one this process made before."""
    return _factory.new()


def ulid_value(text: str) -> int:
    """The 128 bits of a ULID."""
    value = 0
    for character in text:
        value = value << 5 | _CROCKFORD.index(character)
    return value


def first_id_at(instant: datetime) -> str:
    """What every id that was made before `instant` is smaller than, and none later."""
    return _encode((instant - _EPOCH) // timedelta(milliseconds=1) << _RANDOM_BITS)


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in canonical (upper-case) form."""
    return _PATTERN.fullmatch(text) is not None


def _encode(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
