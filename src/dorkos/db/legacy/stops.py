"""Why a message of the lineage stopped: its own words, and the reason of our closed list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dorkos.db.legacy.envelopes import Envelope
from dorkos.db.legacy.mailboxes import MailFile
from dorkos.db.legacy.values import Values, read_instant
from dorkos.vocabulary import DeadLetterReason

_TABLE = "relay_dead_letters"
# What the lineage wrote when it refused a message, by the first words.
_REFUSALS = {
    "no matching endpoints": DeadLetterReason.NO_RECIPIENT,
    "message expired (TTL)": DeadLetterReason.EXPIRED,
    "max hops exceeded": DeadLetterReason.HOPS_EXCEEDED,
    "cycle detected": DeadLetterReason.CYCLE,
    "call budget exhausted": DeadLetterReason.BUDGET_EXCEEDED,
}
_NO_REASON = "unknown"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a delivery failed, and when. `detail` is what the lineage said."""

    reason: DeadLetterReason
    detail: str
    at: datetime


def read_stop(values: Values, file: MailFile, envelope: Envelope) -> Stop:
    """Read the file with the reason. Without one the reason is unknown, and the time that of the message."""
    told = file.reason or {}
    text = told.get("reason")
    if text is None:
        values.keep(_TABLE, file.file_id, "detail", text, "was missing and is unknown")
        text = _NO_REASON
    detail = values.required(_TABLE, file.file_id, "detail", text)
    at = read_instant(told.get("failedAt"))
    if at is None and file.reason is not None:
        became = "was not an instant; that of the message stands there"
        values.keep(_TABLE, file.file_id, "created_at", told.get("failedAt"), became)
    return Stop(_reason(file, detail), detail, at or envelope.created_at)


def _reason(file: MailFile, detail: str) -> DeadLetterReason:
    # What a handler said is no word of the system, even if it reads like one.
    words = _REFUSALS if file.was_refused else {}
    return next(
        (reason for text, reason in words.items() if detail.startswith(text)), DeadLetterReason.REJECTED
    )
