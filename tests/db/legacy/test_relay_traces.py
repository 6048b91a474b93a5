"""Traces of the fixture homes in both shapes, value by value."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dorkos.clock import from_iso
from dorkos.ids import is_ulid
from dorkos.vocabulary import TraceStatus
from tests.db.legacy.relay_kit import HOMES, collected, expected_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAPPED = {
    "pending": TraceStatus.SENT,
    "processed": TraceStatus.DELIVERED,
    "dead_lettered": TraceStatus.TIMEOUT,
}


def _instant(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else _EPOCH + timedelta(milliseconds=milliseconds)


def _by_message(home: str) -> dict[str, dict[str, Any]]:
    rows = collected(home).rows["relay_traces"]
    found = {row["message_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("home", HOMES)
def test_every_trace_of_every_database_is_there(home: str) -> None:
    """None is missing, none is twice, and every id is a ULID."""
    stored = expected_rows(home, "message_traces", "relay_traces")
    rows = collected(home).by_id("relay_traces")
    assert len(rows) == len(stored)
    assert all(is_ulid(row_id) for row_id in rows)


@pytest.mark.parametrize("home", ["home-three-databases", "home-upgraded-by-server"])
def test_the_older_shape_keeps_spans_ends_budgets_and_times(home: str) -> None:
    """What has a column stands there, with milliseconds as instants; the rest is in the metadata."""
    by_message = _by_message(home)
    for _, stored in expected_rows(home, "message_traces"):
        row = by_message[stored["message_id"]]
        assert row["trace_id"] == stored["trace_id"]
        assert row["subject"] == stored["subject"]
        assert row["sender"] == stored["from_endpoint"]
        assert row["hop_count"] == stored["budget_hops_used"]
        assert row["error_message"] == stored["error"]
        assert row["sent_at"] == _instant(stored["sent_at"])
        assert row["delivered_at"] == _instant(stored["delivered_at"])
        assert row["processed_at"] == _instant(stored["processed_at"])
        assert row["parent_id"] == stored["parent_span_id"]
        assert row["status"] == _MAPPED.get(stored["status"], stored["status"])
        changed = {"status": stored["status"]} if stored["status"] in _MAPPED else {}
        assert row["metadata"] == changed | {
            "spanId": stored["span_id"],
            "parentSpanId": stored["parent_span_id"],
            "toEndpoint": stored["to_endpoint"],
            "budgetTtlRemainingMs": stored["budget_ttl_remaining_ms"],
        }


@pytest.mark.parametrize("home", ["home-node-0002", "home-node-0004", "home-wal"])
def test_the_newer_shape_keeps_every_column(home: str) -> None:
    """Ids included; what that shape had lost already stays unknown."""
    rows = collected(home).by_id("relay_traces")
    for _, stored in expected_rows(home, "relay_traces"):
        row = rows[stored["id"]]
        for column in ("message_id", "trace_id", "subject", "status", "error_message"):
            assert row[column] == stored[column]
        for column in ("sent_at", "delivered_at", "processed_at"):
            assert row[column] == (None if stored[column] is None else from_iso(stored[column]))
        assert row["metadata"] == (None if stored["metadata"] is None else json.loads(stored["metadata"]))
        assert row["sender"] is row["parent_id"] is row["hop_count"] is None


@pytest.mark.parametrize("home", HOMES)
def test_spans_of_one_trace_stay_together(home: str) -> None:
    """Two messages shared a trace, whose name is no ULID: it is kept, and each chain stays its own."""
    shared = [row for row in collected(home).rows["relay_traces"] if row["trace_id"] == "trace-shared-1"]
    assert len(shared) == 2


@pytest.mark.parametrize("home", HOMES)
def test_a_trace_names_the_mailbox_of_its_subject(home: str) -> None:
    """As far as there is one."""
    read = collected(home)
    by_subject = {row["subject"]: row["id"] for row in read.rows["relay_endpoints"]}
    for row in read.rows["relay_traces"]:
        assert row["endpoint_id"] == by_subject[row["subject"]]
