"""Traces of the lineage, in both shapes: the first told more than the second.

`message_traces` knew spans, their parents, both ends and budgets, with times in milliseconds. `relay_traces`
lost all of that and takes as the time of sending that of its insert.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime

from dorkos.db.legacy.envelopes import id_of
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.json_text import fits
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.rows import key_of
from dorkos.db.legacy.values import Values, read_instant
from dorkos.ids import is_ulid
from dorkos.vocabulary import TraceStatus

TABLE = "relay_traces"
_SOURCES = (
    ("dork.db", "relay_traces"),
    ("relay/index.db", "relay_traces"),
    ("relay/index.db", "message_traces"),
)
# As the lineage itself mapped them when it changed its tables.
_STATUS = {
    "sent": TraceStatus.SENT,
    "pending": TraceStatus.SENT,
    "delivered": TraceStatus.DELIVERED,
    "processed": TraceStatus.DELIVERED,
    "failed": TraceStatus.FAILED,
    "timeout": TraceStatus.TIMEOUT,
    "dead_lettered": TraceStatus.TIMEOUT,
}
_OUR_WORDS = frozenset(status.value for status in TraceStatus)


class Spans:
    """Every hop that was recorded. Several of one message are fine."""

    def __init__(self, rows: list[dict[str, object]], kept: list[dict[str, object]]) -> None:
        """`rows` lack only their mailboxes."""
        self._rows = rows
        self._kept = kept

    def rows(self, mailboxes: Mapping[str, str]) -> list[dict[str, object]]:
        """The rows of `relay_traces`; `mailboxes` are ids by subject."""
        return [row | {"endpoint_id": mailboxes.get(str(row["subject"]))} for row in self._rows]

    def kept(self) -> list[dict[str, object]]:
        """Originals of values that were replaced, as rows of `system_state`."""
        return self._kept

    def chains(self) -> dict[str, str]:
        """The chain of each message whose trace has an id that a chain can have here."""
        return {
            str(row["message_id"]): str(row["trace_id"])
            for row in self._rows
            if is_ulid(str(row["trace_id"]))
        }

    def subjects(self) -> Iterator[str]:
        """Every subject that occurs."""
        return (str(row["subject"]) for row in self._rows)


def read(home: LegacyHome, report: Report, now: datetime) -> Spans:
    """Read the traces of every database of a home."""
    rows: dict[str, dict[str, object]] = {}
    kept: list[dict[str, object]] = []
    for database_name, table in _SOURCES:
        database = home.database(database_name)
        if database is None or table not in database.tables():
            continue
        part = f"{database_name} {table}"
        values = Values(report, part, now=now)
        report.found(part, 0)
        found = list(database.rows(table))
        parents = {row.get("span_id"): read_instant(row.get("sent_at")) for row in found}
        for number, row in enumerate(found):
            report.found(part)
            is_old = "span_id" in row
            span = _span(values, row, number, parents) if is_old else _plain_span(values, row, number)
            if rows.setdefault(str(span["id"]), span) is not span:
                report.already(part)
            span[PART] = part
        kept.extend(values.rows())
    return Spans(list(rows.values()), kept)


def _plain_span(values: Values, row: Mapping[str, object], number: int) -> dict[str, object]:
    """A row of `relay_traces`."""
    span_id = _id(values, row.get("id"), number, row)
    metadata = _metadata(values, span_id, row.get("metadata"))
    return _shared(values, span_id, row, metadata) | {
        "error_message": values.text(TABLE, span_id, "error_message", row.get("error_message")),
        "parent_id": None,
        "sender": None,
        "hop_count": None,
    }


def _span(
    values: Values, row: Mapping[str, object], number: int, parents: Mapping[object, datetime | None]
) -> dict[str, object]:
    """A row of `message_traces`. What has no column of its own stands in the metadata."""
    span_id = _id(values, row.get("span_id"), number, row)
    beyond = {
        "spanId": row.get("span_id"),
        "parentSpanId": row.get("parent_span_id"),
        "toEndpoint": row.get("to_endpoint"),
        "budgetTtlRemainingMs": row.get("budget_ttl_remaining_ms"),
    }
    metadata: dict[str, object] = {}
    for name, value in beyond.items():
        is_plain = value is None or isinstance(value, int)
        metadata[name] = value if is_plain else values.text(TABLE, span_id, name, value)
    parent = values.text(TABLE, span_id, "parent_id", row.get("parent_span_id"))
    if parent is not None and row.get("parent_span_id") in parents:
        parent = id_of(values, TABLE, parent, parents[row.get("parent_span_id")])
    return _shared(values, span_id, row, metadata) | {
        "error_message": values.text(TABLE, span_id, "error_message", row.get("error")),
        "parent_id": parent,
        "sender": values.text(TABLE, span_id, "sender", row.get("from_endpoint")),
        "hop_count": values.integer(TABLE, span_id, "hop_count", row.get("budget_hops_used")),
    }


def _shared(
    values: Values, span_id: str, row: Mapping[str, object], metadata: dict[str, object] | None
) -> dict[str, object]:
    status = row.get("status")
    if isinstance(status, str) and status in _STATUS and status not in _OUR_WORDS:
        metadata = {**(metadata or {}), "status": status}
    return {
        "id": span_id,
        "message_id": values.required(TABLE, span_id, "message_id", row.get("message_id")),
        # Not replaced by a ULID: it names the trace in old logs, and spans that share it stay together.
        "trace_id": values.required(TABLE, span_id, "trace_id", row.get("trace_id")),
        "subject": values.required(TABLE, span_id, "subject", row.get("subject")),
        "status": values.word(TABLE, span_id, "status", status, _STATUS, otherwise=TraceStatus.FAILED),
        "sent_at": values.instant(TABLE, span_id, "sent_at", row.get("sent_at")),
        "delivered_at": values.optional_instant(TABLE, span_id, "delivered_at", row.get("delivered_at")),
        "processed_at": values.optional_instant(TABLE, span_id, "processed_at", row.get("processed_at")),
        "metadata": metadata,
    }


def _id(values: Values, found: object, number: int, row: Mapping[str, object]) -> str:
    return id_of(values, TABLE, key_of(found, number), read_instant(row.get("sent_at")))


def _metadata(values: Values, span_id: str, text: object) -> dict[str, object] | None:
    """The metadata as a JSON object; anything else that stood there is kept beside it."""
    if text is None:
        return None
    found: object = None
    with suppress(ValueError, RecursionError):
        found = json.loads(text) if isinstance(text, str) else None
    if isinstance(found, dict) and fits(found):
        return found
    values.keep(TABLE, span_id, "metadata", text, "was no JSON object and is its text")
    return {"text": values.text(TABLE, span_id, "metadata", text)}
