"""The numbers of `/metrics` under their names, in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from dorkos.server.requests import Traffic

_NAMES = {
    "pulse.run.finished": ("dorkos_runs_finished", "Runs that reached a final state."),
    "pulse.slot.decided": ("dorkos_slots_decided", "Due instants, or spans of them, that got a verdict."),
    "relay.message.dead_lettered": ("dorkos_messages_stopped", "Messages that became dead letters."),
}


class _Made:
    """Families as a registry takes them."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        """All of them."""
        return self._families


def page(
    *,
    status: Any,
    relay: Any,
    mesh: Any,
    checks: Sequence[tuple[str, bool]],
    by_kind: Mapping[str, int],
    apart: Mapping[str, tuple[str, Counter[str]]],
    traffic: Traffic,
    streams: int,
) -> bytes:
    """The page. `status`, `relay` and `mesh` are the answers of those operations, None without them."""
    families = [
        *(() if status is None else _system(status)),
        _labelled("dorkos_ready", "Whether a part works.", "part", dict(checks)),
        *(() if relay is None else _relay(relay)),
        *(() if mesh is None else _mesh(mesh)),
        *_events(by_kind, apart),
        *_http(traffic, streams),
    ]
    registry = CollectorRegistry()
    registry.register(_Made(families))
    return generate_latest(registry)


def _system(status: Any) -> Iterator[Metric]:
    node = {"version": status.version, "node": status.node.id, "host": status.node.host}
    info = GaugeMetricFamily("dorkos_info", "Which server this is.", labels=list(node))
    info.add_metric(list(node.values()), 1)
    yield info
    yield GaugeMetricFamily("dorkos_uptime_seconds", "Since the start.", value=status.uptime_seconds)
    yield GaugeMetricFamily(
        "dorkos_database_bytes", "Size of the database.", value=status.database.size_bytes
    )
    yield GaugeMetricFamily(
        "dorkos_fleet_running", "1 unless a person paused the fleet.", value=status.fleet.mode == "running"
    )
    yield GaugeMetricFamily("dorkos_schedules", "Schedules.", value=status.pulse.schedules)
    waiting = {"queued": status.pulse.runs_queued, "running": status.pulse.runs_running}
    yield _labelled("dorkos_runs", "Runs that are not over.", "state", waiting)


def _relay(relay: Any) -> Iterator[Metric]:
    deliveries = {
        "pending": relay.pending_count,
        "delivered": relay.delivered_count,
        "failed": relay.failed_count,
    }
    yield _labelled("dorkos_deliveries", "Stored deliveries.", "status", deliveries)
    yield GaugeMetricFamily("dorkos_messages", "Stored messages.", value=relay.total_messages)
    yield _labelled("dorkos_dead_letters", "Standing dead letters.", "reason", relay.rejections)
    yield GaugeMetricFamily("dorkos_mailboxes", "Open mailboxes.", value=relay.active_endpoints)
    yield GaugeMetricFamily(
        "dorkos_open_circuits", "Mailboxes that take nothing for now.", value=relay.open_circuits
    )
    latency = {
        "0.5": relay.p50_delivery_latency_ms,
        "0.95": relay.p95_delivery_latency_ms,
        "0.99": relay.p99_delivery_latency_ms,
    }
    known = {quantile: ms / 1000 for quantile, ms in latency.items() if ms is not None}
    told = "From publish to acknowledgement, in the last 24 hours."
    yield _labelled("dorkos_delivery_seconds", told, "quantile", known)


def _mesh(mesh: Any) -> Iterator[Metric]:
    health = {
        "active": mesh.active_count,
        "inactive": mesh.inactive_count,
        "stale": mesh.stale_count,
        "unreachable": mesh.unreachable_count,
        "stuck": mesh.stuck_count,
    }
    yield _labelled("dorkos_agents", "Registered agents.", "health", health)


def _events(by_kind: Mapping[str, int], apart: Mapping[str, tuple[str, Counter[str]]]) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "dorkos_events", "Committed events, of all servers of this database.", labels=["kind"]
    )
    for kind, number in sorted(by_kind.items()):
        events.add_metric([kind], number)
    yield events
    for kind, (label, counts) in apart.items():
        name, meaning = _NAMES[kind]
        family = CounterMetricFamily(name, meaning, labels=[label])
        for word, number in sorted(counts.items()):
            family.add_metric([word], number)
        yield family


def _http(traffic: Traffic, streams: int) -> Iterator[Metric]:
    answered = CounterMetricFamily("dorkos_http_requests", "Answered.", labels=["method", "status"])
    for (method, status), number in sorted(traffic.answered.items()):
        answered.add_metric([method, str(status)], number)
    yield answered
    yield SummaryMetricFamily(
        "dorkos_http_seconds", "Time to answer.", count_value=traffic.timed, sum_value=traffic.seconds
    )
    yield GaugeMetricFamily("dorkos_streams", "Open event streams.", value=streams)


def _labelled(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for word, value in sorted(values.items()):
        family.add_metric([word], float(value))
    return family
