"""What one message led to: the hops of its chain and the runs between them, in the order of cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db.schema.pulse import pulse_runs as r
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.schema.relay import relay_traces as t
from dorkos.errors import DorkError, ErrorCode
from dorkos.vocabulary import RunState, RunTrigger, TraceStatus

# Hops of one chain that are shown; a chain is bounded by its budget, so there are rarely more.
HOPS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Hop:
    """A message at one mailbox. `run_id` handled it; `sent_by_run` sent it."""

    id: str
    message_id: str
    parent_id: str | None
    run_id: str | None
    subject: str
    sender: str | None
    status: TraceStatus
    hop_count: int | None
    sent_at: datetime
    delivered_at: datetime | None
    processed_at: datetime | None
    latency_us: int | None
    error_message: str | None
    metadata: Any
    endpoint: str | None
    sent_by_run: str | None

    @property
    def begun(self) -> datetime:
        """When it was sent."""
        return self.sent_at

    @property
    def ended(self) -> datetime | None:
        """When it was settled."""
        return self.processed_at


@dataclass(frozen=True, slots=True)
class RunSpan:
    """A run that a message of the chain started, or that sent one."""

    id: str
    state: RunState
    trigger: RunTrigger
    agent_id: str | None
    schedule_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def begun(self) -> datetime:
        """When it was queued."""
        return self.created_at

    @property
    def ended(self) -> datetime | None:
        """When it ended."""
        return self.finished_at


@dataclass(frozen=True, slots=True)
class Step:
    """A hop or a run, and how many causes stand above it."""

    depth: int
    span: Hop | RunSpan


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One chain. `truncated` says that it has more hops than are shown."""

    trace_id: str
    steps: tuple[Step, ...]
    truncated: bool


def of_message(connection: sa.Connection, message_id: str) -> Waterfall:
    """The chain that a message belongs to. Raises `trace_not_found`."""
    trace_id = connection.execute(
        sa.select(t.c.trace_id).where(t.c.message_id == message_id).limit(1)
    ).scalar_one_or_none()
    if trace_id is None:
        raise _not_found(f"There is no trace of a message {message_id}.")
    return of_chain(connection, trace_id)


def of_chain(connection: sa.Connection, trace_id: str) -> Waterfall:
    """The chain by its own id. Raises `trace_not_found`."""
    rows = connection.execute(
        sa.select(*(t.c[name] for name in _HOP_COLUMNS), e.c.subject, m.c.run_id)
        .join_from(t, e, e.c.id == t.c.endpoint_id, isouter=True)
        .join(m, m.c.id == t.c.message_id, isouter=True)
        .where(t.c.trace_id == trace_id)
        .order_by(t.c.sent_at, t.c.id)
        .limit(HOPS_MAX + 1)
    ).all()
    if not rows:
        raise _not_found(f"There is no trace {trace_id}.")
    hops = [Hop(*tuple(row)) for row in rows[:HOPS_MAX]]
    return Waterfall(trace_id, in_order(hops, _runs(connection, trace_id, hops)), len(rows) > HOPS_MAX)


def in_order(hops: Sequence[Hop], runs: Mapping[str, RunSpan]) -> tuple[Step, ...]:
    """Each under what caused it, siblings by time.

    A message stands under the run that sent it, or else under the message that it follows from; a run stands
    under the message that it handled first.
    """
    first_of = {hop.message_id: hop for hop in reversed(hops)}
    started_by = {hop.run_id: hop for hop in reversed(hops) if hop.run_id is not None}
    below: dict[str | None, list[Hop | RunSpan]] = {}
    for hop in hops:
        if hop.sent_by_run in runs:
            cause: str | None = hop.sent_by_run
        else:
            parent = None if hop.parent_id is None else first_of.get(hop.parent_id)
            cause = None if parent is None else parent.id
        below.setdefault(cause, []).append(hop)
    for run in runs.values():
        started = started_by.get(run.id)
        below.setdefault(None if started is None else started.id, []).append(run)
    return tuple(_walk(below, None, 0, set()))


def _walk(
    below: Mapping[str | None, list[Hop | RunSpan]], cause: str | None, depth: int, seen: set[str]
) -> Iterator[Step]:
    for span in sorted(below.get(cause, ()), key=lambda span: (span.begun, span.id)):
        if span.id not in seen:
            seen.add(span.id)
            yield Step(depth, span)
            yield from _walk(below, span.id, depth + 1, seen)


def _runs(connection: sa.Connection, trace_id: str, hops: Sequence[Hop]) -> dict[str, RunSpan]:
    """The runs of the chain that are still there. One that began a chain gave it its id."""
    ids = {trace_id} | {each for hop in hops for each in (hop.run_id, hop.sent_by_run) if each is not None}
    statement = sa.select(
        *(r.c.id, r.c.status, r.c.trigger, r.c.agent_id, r.c.schedule_id),
        *(r.c.created_at, r.c.started_at, r.c.finished_at),
    ).where(r.c.id.in_(sorted(ids)))
    return {row[0]: RunSpan(*row) for row in connection.execute(statement)}


_HOP_COLUMNS = (
    *("id", "message_id", "parent_id", "run_id", "subject", "sender", "status", "hop_count"),
    *("sent_at", "delivered_at", "processed_at", "latency_us", "error_message", "metadata"),
)


def _not_found(message: str) -> DorkError:
    return DorkError(
        ErrorCode.TRACE_NOT_FOUND,
        message,
        hint="`dorkos relay messages` lists the newest messages; traces of old ones are taken away in time.",
    )
