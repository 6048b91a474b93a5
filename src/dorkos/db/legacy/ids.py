"""Ids of what had none, or had a UUID: derived from the old one, so that a second import finds the first.

A new id is a ULID whose time is that of the row and whose random part is a digest. Only UUIDs are
replaced, and what could not be named in an address. Anything else that the lineage used as an id stays,
ULID or not, because files outside the database refer to it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ADDRESSABLE = re.compile(r"[0-9A-Za-z_-]{1,64}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MAX = (1 << 48) - 1


def ulid_of(kind: str, old_id: str, at: datetime | None) -> str:
    """The id that a row of `kind` (the name of our table) has here: of a UUID, a ULID of instant `at`.

    `at` must come from the row itself and never from the clock, else the next import would not find it;
    None, for a row that tells no time, counts as 1970. Most other ids are returned as they are.
    """
    if _ADDRESSABLE.fullmatch(old_id) and not _UUID.fullmatch(old_id):
        return old_id
    return derived_id(f"{kind}:{old_id}", at)


def derived_id(key: str, at: datetime | None) -> str:
    """A ULID of instant `at` that is always the same for the same `key`, such as `relay_rules:0`."""
    random = hashlib.sha256(f"dorkos:{key}".encode("utf-8", "surrogatepass")).digest()[:10]
    milliseconds = 0 if at is None else round((at - _EPOCH).total_seconds() * 1000)
    value = (min(max(milliseconds, 0), _TIME_MAX) << 80) | int.from_bytes(random, "big")
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))
