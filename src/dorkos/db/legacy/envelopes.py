"""What a message file says of its message, as a row of `relay_messages`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dorkos.db.legacy.ids import derived_id
from dorkos.db.legacy.json_text import text_of
from dorkos.db.legacy.mailboxes import MailFile
from dorkos.db.legacy.values import Values, plain_text, read_instant
from dorkos.ids import is_ulid

TABLE = "relay_messages"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS = {"id", "subject", "from", "replyTo", "budget", "createdAt", "payload"}
_BUDGET_FIELDS = {"hopCount", "maxHops", "ancestorChain", "ttl", "callBudgetRemaining"}
_MAX_HOPS = 5
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Budget:
    """What one copy of a message may still do: each mailbox got a copy of its own, one hop further."""

    hop_count: int
    max_hops: int
    calls_left: int | None
    ancestors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as one file tells it. `told_at` is None if the file tells no time that can be read."""

    id: str
    subject: str
    sender: str | None
    reply_to: str | None
    payload: str | None
    budget: Budget
    expires_at: datetime | None
    created_at: datetime
    told_at: datetime | None
    metadata: Mapping[str, object]

    def is_same_as(self, other: Envelope) -> bool:
        """Whether both are copies of one message, which may differ in the way that each has gone."""
        return (self.subject, self.sender, self.reply_to, self.payload, self.created_at) == (
            other.subject,
            other.sender,
            other.reply_to,
            other.payload,
            other.created_at,
        )


def read_envelope(values: Values, file: MailFile) -> Envelope:
    """Read an envelope. What it holds beyond our columns stands in `metadata`."""
    found = file.envelope
    told_at = read_instant(found.get("createdAt")) or time_of(found.get("id")) or time_of(file.file_id)
    message_id = id_of(values, TABLE, found.get("id", file.file_id), told_at)
    if file.damaged is not None:
        values.keep(TABLE, message_id, "file", file.damaged, "was not UTF-8; U+FFFD stands for wrong bytes")
    budget = found.get("budget")
    if not isinstance(budget, dict):
        values.keep(TABLE, message_id, "budget", budget, "was no budget; a new one stands there")
        budget = {}
    metadata: dict[str, object] = {}
    extra = {key: value for key, value in found.items() if key not in _FIELDS}
    if extra:
        metadata["envelope"] = extra
    beyond = {key: value for key, value in budget.items() if key not in _BUDGET_FIELDS}
    # A ttl of null was refused at once, while a message without any never expires. The column says neither.
    if "ttl" in budget and budget["ttl"] is None:
        beyond["ttl"] = None
    if beyond:
        metadata["budget"] = beyond
    return Envelope(
        id=message_id,
        subject=values.required(TABLE, message_id, "subject", found["subject"]),
        sender=values.text(TABLE, message_id, "sender", found.get("from")),
        reply_to=values.text(TABLE, message_id, "reply_to", found.get("replyTo")),
        payload=_payload(values, message_id, found["payload"]) if "payload" in found else None,
        budget=_budget(values, message_id, budget),
        expires_at=_expiry(values, message_id, budget.get("ttl")),
        created_at=_created_at(values, message_id, found.get("createdAt"), told_at),
        told_at=told_at,
        metadata=metadata,
    )


def id_of(values: Values, table: str, found: object, at: datetime | None) -> str:
    """The id that a row of `table` has here: its own if it is a ULID, else one derived from it.

    Pages of messages are cut by their ids, so that nothing else can be one.
    """
    if isinstance(found, str) and is_ulid(found):
        return found
    new_id = derived_id(f"{table}:{found if isinstance(found, str) else json.dumps(found)}", at)
    if not isinstance(found, str) or not _UUID.fullmatch(found):
        values.keep(table, new_id, "id", found, "was no id that can stand here and was replaced")
    return new_id


def time_of(ulid: object) -> datetime | None:
    """The time that a ULID begins with, to its millisecond; None for anything else."""
    if not isinstance(ulid, str) or not is_ulid(ulid):
        return None
    milliseconds = 0
    for character in ulid[:10]:
        milliseconds = milliseconds * 32 + _ALPHABET.index(character)
    return read_instant(milliseconds)


def _payload(values: Values, message_id: str, value: object) -> str:
    text = text_of(value)
    if text is None:
        values.keep(TABLE, message_id, "payload", value, "was too deep or too large a number and is its text")
        text = json.dumps(json.dumps(value))
    return text


def _budget(values: Values, message_id: str, budget: Mapping[str, object]) -> Budget:
    hop_count = values.integer(TABLE, message_id, "hop_count", budget.get("hopCount"))
    max_hops = values.integer(TABLE, message_id, "max_hops", budget.get("maxHops"))
    ancestors = budget.get("ancestorChain", [])
    if not isinstance(ancestors, list) or not all(isinstance(ancestor, str) for ancestor in ancestors):
        values.keep(TABLE, message_id, "ancestors", ancestors, "was no list of subjects and is empty")
        ancestors = []
    elif any(plain_text(ancestor) != ancestor for ancestor in ancestors):
        values.keep(TABLE, message_id, "ancestors", ancestors, "held what is no text; U+FFFD stands there")
    return Budget(
        hop_count=0 if hop_count is None else hop_count,
        max_hops=_MAX_HOPS if max_hops is None else max_hops,
        calls_left=values.integer(TABLE, message_id, "calls_left", budget.get("callBudgetRemaining")),
        ancestors=tuple(plain_text(ancestor) for ancestor in ancestors),
    )


def _expiry(values: Values, message_id: str, ttl: object) -> datetime | None:
    """The instant that `ttl` names. 0 is one, in 1970; absent and null are none."""
    if ttl is None:
        return None
    expires_at = read_instant(ttl) if isinstance(ttl, int | float) else None
    if expires_at is not None:
        if isinstance(ttl, float) and not ttl.is_integer():
            values.keep(TABLE, message_id, "expires_at", ttl, "was cut to whole milliseconds")
        return expires_at
    if isinstance(ttl, int | float) and ttl < 0:
        values.keep(TABLE, message_id, "expires_at", ttl, "was before all calendars and is 1970")
        return _EPOCH
    values.keep(TABLE, message_id, "expires_at", ttl, "was no instant and is empty: it never expires")
    return None


def _created_at(values: Values, message_id: str, found: object, told_at: datetime | None) -> datetime:
    if told_at is None or read_instant(found) is not None:
        return values.instant(TABLE, message_id, "created_at", found)
    values.keep(TABLE, message_id, "created_at", found, "was not an instant; that of its id stands there")
    return told_at
