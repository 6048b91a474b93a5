"""Traces and metrics on the wire. The words are the lineage's, and more."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dorkos.operation import Wire, left_out
from dorkos.relay.wire import MessageId
from dorkos.vocabulary import RunState, RunTrigger, TraceStatus


class TraceMessage(Wire):
    """The message whose chain is asked for."""

    id: MessageId


class TraceId(Wire):
    """The chain itself."""

    id: Annotated[str, Field(description="The chain's id: `chainId` of a message or a run.")]


class SpanView(Wire):
    """A message at one mailbox, or a run between messages, in a waterfall.

    `depth` is how many causes stand above it, `offsetMs` when it begins after the first, `durationMs` how
    long it took; left out while it is under way. A message is sent, then handed over at `deliveredAt` and
    settled at `processedAt`; `latencyUs` is from the publish to the acknowledgement.
    """

    id: str
    kind: Literal["message", "run"]
    depth: int
    offset_ms: int
    duration_ms: int | None = left_out()
    trace_id: str
    status: TraceStatus | RunState
    sent_at: str
    delivered_at: str | None
    processed_at: str | None
    error_message: str | None
    metadata: Any
    message_id: str | None = left_out()
    parent_id: str | None = left_out()
    subject: str | None = left_out()
    sender: str | None = left_out(alias="from")
    endpoint: str | None = left_out()
    hop_count: int | None = left_out()
    latency_us: int | None = left_out()
    run_id: str | None = left_out()
    sent_by_run: str | None = left_out()
    trigger: RunTrigger | None = left_out()
    agent_id: str | None = left_out()
    schedule_id: str | None = left_out()


class SubjectCount(Wire):
    """How many messages were sent to a subject. Replies are counted together."""

    subject: str
    count: int


class MetricsAnswer(Wire):
    """What is stored: messages, and deliveries by status."""

    total_messages: int
    by_status: dict[str, int]
    by_subject: list[SubjectCount]


class BudgetRejections(Wire):
    """Dead letters of spent budgets, in the lineage's words and two of ours."""

    hop_limit: int
    ttl_expired: int
    cycle_detected: int
    budget_exhausted: int
    loop_braked: int
    rate_limited: int


class DeliveryMetrics(Wire):
    """What is stored, and how long deliveries took in the last 24 hours, from publish to acknowledgement.

    `rejections` are the standing dead letters by reason. Percentiles are at most five percent too high.
    """

    total_messages: int
    pending_count: int
    delivered_count: int
    failed_count: int
    dead_lettered_count: int
    active_endpoints: int
    open_circuits: int
    acknowledged_in_a_day: int
    avg_delivery_latency_ms: float | None
    p50_delivery_latency_ms: float | None
    p95_delivery_latency_ms: float | None
    p99_delivery_latency_ms: float | None
    budget_rejections: BudgetRejections
    rejections: dict[str, int]
    by_subject: list[SubjectCount]


class TrafficSlice(Wire):
    """Ten minutes, from `at` on: messages that were sent in them, and how many stopped."""

    at: str
    sent: int
    stopped: int


class TrafficAnswer(Wire):
    """The last 24 hours in slices of `sliceMs`, oldest first; the last one is under way."""

    slice_ms: int
    slices: list[TrafficSlice]


class TraceAnswer(Wire):
    """One chain: messages and runs, each under what caused it. `truncated` says that there are more."""

    trace_id: str
    spans: list[SpanView]
    truncated: bool | None = left_out()
