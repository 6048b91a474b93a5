"""OpenTelemetry, when the extra `otel` is installed and its environment names where to send to.

Spans and counts are made from what was committed, so nothing is told that did not happen, and no hot path
waits for a collector. The ids of W3C Trace Context are those of the chain and of the message: a ULID has 128
bits, as a trace id has, so one chain is one trace on every server, and whoever is handed a message can
continue its trace without asking.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from dorkos.ids import is_ulid, ulid_value

log = logging.getLogger("dorkos.telemetry")

# By any of these the person says that there is a collector; the libraries read the rest of them.
ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
SPANS = {
    "relay.message": "A message at one mailbox, from its publish until it was acknowledged or stopped.",
    "pulse.run": "A run, from when it was queued until it ended.",
}
COUNTERS = {
    "dorkos.relay.messages": "Messages that came to an end, by `outcome`: delivered, or the reason why not.",
    "dorkos.relay.latency": "Milliseconds from publish to acknowledgement.",
    "dorkos.pulse.runs": "Runs that ended, by `state`.",
}

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took time. `trace`, `own`, `parent` are ids of ours, `link` a traceparent of others."""

    name: str
    trace: str
    own: str
    parent: str | None
    begun: datetime
    ended: datetime
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: str | None = None
    link: str | None = None


class Sink(Protocol):
    """Where spans and counts go."""

    def span(self, span: Span) -> None:
        """Take a span. Never waits, never raises."""
        ...

    def count(self, name: str, attributes: Mapping[str, str]) -> None:
        """Count one more."""
        ...

    def record(self, name: str, value: float) -> None:
        """Take a measured value."""
        ...

    def close(self) -> None:
        """Send what is left, within a few seconds."""
        ...


def trace_id(chain_id: str) -> int:
    """The W3C trace id of a chain."""
    return ulid_value(chain_id) if is_ulid(chain_id) else _hashed(chain_id, 16)


def span_id(own_id: str) -> int:
    """The W3C span id of a message, hop or run: the random half of its id."""
    return (ulid_value(own_id) & (1 << 64) - 1 if is_ulid(own_id) else _hashed(own_id, 8)) or 1


def traceparent(chain_id: str, message_id: str) -> str:
    """The header that continues a message's trace."""
    return f"00-{trace_id(chain_id):032x}-{span_id(message_id):016x}-01"


def is_traceparent(text: str) -> bool:
    """Whether `text` is a traceparent of W3C Trace Context that names a trace and a span."""
    found = _TRACEPARENT.fullmatch(text)
    return found is not None and bool(int(found[1], 16)) and bool(int(found[2], 16))


def from_environment(environment: Mapping[str, str], *, version: str) -> Sink | None:
    """The sink that the environment asks for, None if it asks for none.

    Where it asks and the extra is missing, a warning says what to install: a server is not kept from its
    work by what watches it.
    """
    if not any(environment.get(name) for name in ENDPOINTS):
        return None
    try:
        return _OpenTelemetry(version)
    except ImportError:
        log.warning("nothing is sent to %s: install dorkos[otel]", " or ".join(ENDPOINTS))
        return None


def _hashed(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:size], "big")


class _OpenTelemetry:
    """The SDK, imported on first use. It sends in threads of its own, in batches; too much is dropped."""

    def __init__(self, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._resource = Resource.create({"service.name": "dorkos", "service.version": version})
        self._spans: Any = BatchSpanProcessor(OTLPSpanExporter())
        self._meters = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter())],
            resource=self._resource,
            shutdown_on_exit=False,
        )
        meter = self._meters.get_meter("dorkos", version)
        self._counters = {
            name: meter.create_counter(name, description=COUNTERS[name])
            for name in ("dorkos.relay.messages", "dorkos.pulse.runs")
        }
        self._latency = meter.create_histogram(
            "dorkos.relay.latency", unit="ms", description=COUNTERS["dorkos.relay.latency"]
        )

    def span(self, span: Span) -> None:
        self._spans.on_end(_readable(span, self._resource))

    def count(self, name: str, attributes: Mapping[str, str]) -> None:
        self._counters[name].add(1, dict(attributes))

    def record(self, name: str, value: float) -> None:
        assert name == "dorkos.relay.latency"
        self._latency.record(value)

    def close(self) -> None:
        self._spans.shutdown()
        self._meters.shutdown(timeout_millis=3000)


def _readable(span: Span, resource: Any) -> Any:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    def context(trace: int, own: int) -> SpanContext:
        return SpanContext(trace, own, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    trace = trace_id(span.trace)
    links = []
    if span.link is not None and (found := _TRACEPARENT.fullmatch(span.link)) is not None:
        links.append(Link(context(int(found[1], 16), int(found[2], 16))))
    return ReadableSpan(
        span.name,
        context(trace, span_id(span.own)),
        None if span.parent is None else context(trace, span_id(span.parent)),
        resource,
        dict(span.attributes),
        links=links,
        kind=SpanKind.CONSUMER,
        status=Status(StatusCode.OK) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=_nanoseconds(span.begun),
        end_time=_nanoseconds(span.ended),
        instrumentation_scope=InstrumentationScope("dorkos"),
    )


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000) * 1_000_000
