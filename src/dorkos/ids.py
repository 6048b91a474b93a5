"""Monotonic ULIDs (https://github.com/ulid/spec): 26 characters of Crockford base 32.

Ids identify; they order only within one process. Anything that must be ordered across processes has
an integer that was assigned inside the transaction.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time

_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")
_RANDOM_BITS = 80
_RANDOM_MAX = (1 << _RANDOM_BITS) - 1
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class UlidFactory:
    """Makes ULIDs that strictly increase within this factory, also when the clock jumps back."""

    def __init__(self) -> None:
        """Start with no history."""
        self._lock = threading.Lock()
        self._last_ms = 0
        self._last_random = 0

    def new(self) -> str:
        """The next id. Thread-safe; never equal to or smaller than an earlier one of this factory."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000
            if now_ms > self._last_ms:
                self._last_ms = now_ms
                # The top bit stays clear so that a burst within one millisecond has room to count up.
                self._last_random = secrets.randbits(_RANDOM_BITS - 1)
            elif self._last_random < _RANDOM_MAX:
                self._last_random += 1
            else:
                self._last_ms += 1
                self._last_random = secrets.randbits(_RANDOM_BITS - 1)
            return _encode((self._last_ms << _RANDOM_BITS) | self._last_random)


_factory = UlidFactory()


def new_id() -> str:
    """A new ULID, greater than every one this process made before."""
    return _factory.new()


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in canonical (upper-case) form."""
    return _PATTERN.fullmatch(text) is not None


def _encode(value: int) -> str:
    # 26 characters of 5 bits are 130 bits; shifted to the left of 17 bytes, b32encode spells just those.
    spelled = base64.b32encode((value << 6).to_bytes(17, "big"))
    return spelled[:26].translate(_CROCKFORD).decode("ascii")
