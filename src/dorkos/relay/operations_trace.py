"""What callers can ask of traces and metrics."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import McpTool, Nothing, NoTool, Operation, Wire
from dorkos.relay import wire
from dorkos.relay import wire_trace as shown
from dorkos.relay.metrics import SLICE, Totals, latency, traffic
from dorkos.relay.service import RelayService
from dorkos.relay.waterfall import Hop, RunSpan, Step, Waterfall
from dorkos.vocabulary import Scope

_MS = timedelta(milliseconds=1)


class TraceArguments(Wire):
    """The message whose chain is asked for."""

    message_id: wire.MessageId


def _asked(given: TraceArguments) -> shown.TraceMessage:
    return shown.TraceMessage(id=given.message_id)


async def _trace(relay: RelayService, _caller: Caller, query: shown.TraceMessage) -> shown.TraceAnswer:
    return _answer(await relay.trace_of_message(query.id))


async def _chain(relay: RelayService, _caller: Caller, query: shown.TraceId) -> shown.TraceAnswer:
    return _answer(await relay.trace(query.id))


async def _metrics(relay: RelayService, _caller: Caller, _asked: Nothing) -> shown.MetricsAnswer:
    counted = (await relay.metrics()).totals
    return shown.MetricsAnswer(
        total_messages=counted.messages,
        by_status={
            "pending": counted.pending,
            "delivered": counted.delivered,
            "failed": counted.failed,
        },
        by_subject=_subjects(counted),
    )


async def _delivery_metrics(relay: RelayService, _caller: Caller, _asked: Nothing) -> shown.DeliveryMetrics:
    found = await relay.metrics()
    counted, took = found.totals, latency(found.totals, relay.now())
    why = counted.reasons
    return shown.DeliveryMetrics(
        total_messages=counted.messages,
        pending_count=counted.pending,
        delivered_count=counted.delivered,
        failed_count=counted.failed,
        dead_lettered_count=counted.dead_letters,
        active_endpoints=found.open_mailboxes,
        open_circuits=found.open_circuits,
        acknowledged_in_a_day=took.count,
        avg_delivery_latency_ms=took.average_ms,
        p50_delivery_latency_ms=took.p50_ms,
        p95_delivery_latency_ms=took.p95_ms,
        p99_delivery_latency_ms=took.p99_ms,
        budget_rejections=shown.BudgetRejections(
            hop_limit=why["hops_exceeded"],
            ttl_expired=why["expired"],
            cycle_detected=why["cycle"],
            budget_exhausted=why["budget_exceeded"],
            loop_braked=why["loop"],
            rate_limited=why["rate_limited"],
        ),
        rejections={reason: count for reason, count in sorted(why.items()) if count},
        by_subject=_subjects(counted),
    )


async def _traffic(relay: RelayService, _caller: Caller, _asked: Nothing) -> shown.TrafficAnswer:
    slices = traffic((await relay.metrics()).totals, relay.now())
    return shown.TrafficAnswer(
        slice_ms=SLICE // _MS,
        slices=[
            shown.TrafficSlice(at=iso(each.begun), sent=each.sent, stopped=each.stopped) for each in slices
        ],
    )


def _subjects(counted: Totals) -> list[shown.SubjectCount]:
    return [
        shown.SubjectCount(subject=subject, count=count)
        for subject, count in sorted(counted.subjects.items(), key=lambda each: (-each[1], each[0]))
        if count
    ]


def _answer(found: Waterfall) -> shown.TraceAnswer:
    begun = min(step.span.begun for step in found.steps)
    return shown.TraceAnswer(
        trace_id=found.trace_id,
        spans=[_span(step, found.trace_id, begun) for step in found.steps],
        truncated=found.truncated or None,
    )


def _span(step: Step, trace_id: str, begun: datetime) -> shown.SpanView:
    span = step.span
    common: dict[str, Any] = {
        "id": span.id,
        "depth": step.depth,
        "offset_ms": (span.begun - begun) // _MS,
        "duration_ms": None if span.ended is None else (span.ended - span.begun) // _MS,
        "trace_id": trace_id,
        "sent_at": iso(span.begun),
        "processed_at": wire.instant(span.ended),
    }
    return shown.SpanView(**common, **(_hop(span) if isinstance(span, Hop) else _run(span)))


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "kind": "message",
        "status": hop.status,
        "delivered_at": wire.instant(hop.delivered_at),
        "error_message": hop.error_message,
        "metadata": hop.metadata,
        "message_id": hop.message_id,
        "parent_id": hop.parent_id,
        "subject": hop.subject,
        "sender": hop.sender,
        "endpoint": hop.endpoint,
        "hop_count": hop.hop_count,
        "latency_us": hop.latency_us,
        "run_id": hop.run_id,
        "sent_by_run": hop.sent_by_run,
    }


def _run(run: RunSpan) -> dict[str, Any]:
    return {
        "kind": "run",
        "status": run.state,
        "delivered_at": wire.instant(run.started_at),
        "error_message": None,
        "metadata": None,
        "run_id": run.id,
        "trigger": run.trigger,
        "agent_id": run.agent_id,
        "schedule_id": run.schedule_id,
    }


TRACE_OPERATIONS: tuple[Operation[RelayService, Any, Any], ...] = (
    Operation(
        name="relay.trace",
        summary="What a message led to: messages, runs and replies of its chain, each under its cause.",
        part="relay",
        method="GET",
        path="/api/relay/messages/{id}/trace",
        scope=Scope.OBSERVE,
        input=shown.TraceMessage,
        answer=shown.TraceAnswer,
        handler=_trace,
        mcp=McpTool(
            "relay_get_trace",
            "What a message led to: messages, runs and replies of its chain.",
            read_only=True,
            input=TraceArguments,
            ask=_asked,
        ),
    ),
    Operation(
        name="relay.chain",
        summary="The same by the id of the chain, such as that of the run that began it.",
        part="relay",
        method="GET",
        path="/api/relay/traces/{id}",
        scope=Scope.OBSERVE,
        input=shown.TraceId,
        answer=shown.TraceAnswer,
        handler=_chain,
        mcp=NoTool("`relay_get_trace` shows the chain of a message."),
    ),
    Operation(
        name="relay.metrics",
        summary="How many messages and deliveries are stored, by status and subject.",
        part="relay",
        method="GET",
        path="/api/relay/metrics",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=shown.MetricsAnswer,
        handler=_metrics,
        mcp=NoTool("`relay_get_metrics` tells this and more."),
    ),
    Operation(
        name="relay.delivery_metrics",
        summary="What is stored, why messages stopped, and how long deliveries took in the last day.",
        part="relay",
        method="GET",
        path="/api/relay/trace/metrics",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=shown.DeliveryMetrics,
        handler=_delivery_metrics,
        mcp=McpTool(
            "relay_get_metrics",
            "How many messages wait, arrived and stopped, why, and how long deliveries took.",
            read_only=True,
        ),
    ),
    Operation(
        name="relay.traffic",
        summary="How many messages were sent and how many stopped, by ten minutes of the last day.",
        part="relay",
        method="GET",
        path="/api/relay/metrics/traffic",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=shown.TrafficAnswer,
        handler=_traffic,
        mcp=NoTool("It is a curve to look at; `relay_get_metrics` tells how much there is."),
    ),
)
