"""What OpenTelemetry is told: ids, tables, and a real exporter against a collector on loopback."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from dorkos.ids import new_id, ulid_value
from dorkos.telemetry import (
    COUNTERS,
    SPANS,
    Span,
    from_environment,
    is_traceparent,
    span_id,
    trace_id,
    traceparent,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "telemetry.md"
CHAIN, MESSAGE = "01J00000000000000000000001", "01J00000000000000000000002"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_every_span_and_counter_is_on_the_page() -> None:
    """And nothing else."""
    rows = re.findall(r"^\| `([a-z.]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted([*SPANS, *COUNTERS])


def test_ids_of_a_chain_are_those_of_its_trace() -> None:
    """A trace id has the bits of a ULID, a span id the last half of them."""
    assert traceparent(CHAIN, MESSAGE) == (
        f"00-{ulid_value(CHAIN):032x}-{ulid_value(MESSAGE) & (1 << 64) - 1:016x}-01"
    )
    assert is_traceparent(traceparent(new_id(), new_id()))
    assert trace_id("chain of the lineage") == trace_id("chain of the lineage") != 0
    assert span_id("00000000000000000000000000") == 1


@pytest.mark.parametrize(
    "text", ["", "00-0-0-01", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'1' * 32}-{'0' * 16}-01"]
)
def test_what_is_no_traceparent(text: str) -> None:
    """Ids of nothing but zeros are none."""
    assert not is_traceparent(text)


def test_without_an_endpoint_nothing_is_told() -> None:
    """The extra alone sends nothing anywhere."""
    assert from_environment({"OTEL_SERVICE_NAME": "x"}, version="1") is None


@contextmanager
def collector() -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """A collector that keeps what it is sent, by path."""
    got: dict[str, list[bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_collector_gets_spans_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their ids, times, parents, links and faults, when the sink is closed at the latest."""
    with collector() as (url, got):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        sink = from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": url}, version="1.2.3")
        assert sink is not None
        link = f"00-{'a' * 32}-{'b' * 16}-01"
        ended = NOW + timedelta(milliseconds=1500)
        sink.span(
            Span("relay.message", CHAIN, MESSAGE, CHAIN, NOW, ended, {"dorkos.hop": 1}, "It expired.", link)
        )
        sink.count("dorkos.relay.messages", {"outcome": "expired"})
        sink.record("dorkos.relay.latency", 12.5)
        sink.close()

    request = ExportTraceServiceRequest()
    request.ParseFromString(got["/v1/traces"][0])
    (span,) = request.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("relay.message", f"{trace_id(CHAIN):032x}")
    assert (span.span_id.hex(), span.parent_span_id.hex()) == (
        f"{span_id(MESSAGE):016x}",
        f"{span_id(CHAIN):016x}",
    )
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000
    assert (span.status.code, span.status.message) == (2, "It expired.")
    assert span.links[0].trace_id.hex() == "a" * 32
    metrics = ExportMetricsServiceRequest()
    metrics.ParseFromString(got["/v1/metrics"][0])
    names = {each.name for each in metrics.resource_metrics[0].scope_metrics[0].metrics}
    assert names == {"dorkos.relay.messages", "dorkos.relay.latency"}
