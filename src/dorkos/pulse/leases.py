"""Holding runs: claim, renew, take over, finish. Each is one conditional UPDATE that names the lease.

A lease is a token and an expiry. Whoever holds the token may renew the lease and finish the run; once it
has expired, rescue may take it over with a new token, and the former holder's statements match nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.system import nodes
from dorkos.fleet import gate
from dorkos.identity import tokens
from dorkos.identity.tokens import NewToken
from dorkos.node import Node
from dorkos.pulse import aftermath, claims, questions, runs
from dorkos.pulse.model import (
    Account,
    AgentDirectory,
    CallRefusal,
    Claim,
    DeliverySettler,
    Offer,
    Outcome,
    Question,
    Requests,
    Run,
)
from dorkos.pulse.rows import RUN_COLUMNS, run_of
from dorkos.pulse.targets import claim_of
from dorkos.runtimes.catalog import RuntimeCatalog
from dorkos.vocabulary import RunReason, RunState, Scope

_SCOPES = frozenset({Scope.SEND, Scope.RECEIVE})

_WORDS = {
    RunReason.FLEET_STOPPED: "The fleet was stopped.",
    RunReason.OVERLAP: runs.REPLACED,
}
_RUNNING = sa.and_(runs.ACTIVE, pulse_runs.c.status == RunState.RUNNING)
_ASKED = pulse_runs.c.message_id.is_not(None)


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run whose lease somebody holds, and where its process is, as far as was recorded."""

    run: Run
    lease_token: str
    lease_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Owner:
    """The process of the server that holds a lease, as it registered itself."""

    pid: int
    started_at: datetime
    stopped: bool


def claim(
    tx: Transaction,
    offers: Sequence[Offer],
    *,
    node: Node,
    lease: timedelta,
    agents: AgentDirectory,
    runtimes: RuntimeCatalog,
    requests: Requests,
    default_max_runtime_ms: int,
    per_agent: int | None,
) -> list[Claim]:
    """Take the oldest runs that may start, as many as there are offers. No two servers get the same run.

    Which may start is told in `claims`; `per_agent` is how many runs of one agent may be at work at once.

    The prompt of one whose target is a subject is sent there; it is held until its time is over.

    None while the fleet is on hold or stopped: they wait, in their order.
    """
    if not gate(tx).starts:
        return []
    now = tx.now()
    chosen = claims.choose(
        tx, limit=len(offers), per_agent=per_agent, here=agents.is_here(pulse_runs.c.agent_id)
    )
    found = []
    for run_id, offer in zip(chosen, offers, strict=False):
        taken = _take(tx, run_id, offer, node=node, expires_at=now + lease, agents=agents, runtimes=runtimes)
        if taken is not None and taken.run.target_subject is not None:
            within = timedelta(milliseconds=taken.run.max_runtime or default_max_runtime_ms)
            taken = _ask(tx, taken, offer, requests=requests, within=within, until=now + within + lease)
        if taken is not None:
            found.append(taken)
    return found


def renew(tx: Transaction, lease_tokens: Sequence[str], *, lease: timedelta) -> dict[str, bool]:
    """Extend the leases that are still held, and the tokens of their runs.

    Returns the runs still held, each with whether somebody asked to cancel it. A run that is missing is
    no longer ours.
    """
    expires_at = tx.now() + lease
    held = tx.execute(
        pulse_runs.update()
        .where(_RUNNING, pulse_runs.c.lease_token.in_(lease_tokens))
        .values(lease_expires_at=expires_at)
        .returning(pulse_runs.c.id, pulse_runs.c.cancel_requested_at)
    ).all()
    tokens.extend_of_run(tx, [row.id for row in held], expires_at=expires_at)
    return {row.id: row.cancel_requested_at is not None for row in held}


def record_process(
    tx: Transaction, run_id: str, lease_token: str, *, pid: int, started_at: str | None, runtime: str
) -> bool:
    """Store which process does the work, so that an orphan can be told. False if the lease is lost."""
    statement = _held(run_id, lease_token).values(pid=pid, process_started_at=started_at, runtime=runtime)
    return tx.execute(statement).rowcount == 1


def release(tx: Transaction, run_id: str, lease_token: str) -> bool:
    """Give back a run that was claimed but never started. False if the lease is lost."""
    statement = _held(run_id, lease_token).values(
        status=RunState.QUEUED,
        # Of a stopped fleet this run is one that waits now, not one that is to be ended.
        cancel_requested_at=sa.case(
            (pulse_runs.c.reason == RunReason.FLEET_STOPPED, None), else_=pulse_runs.c.cancel_requested_at
        ),
        reason=sa.case((pulse_runs.c.reason == RunReason.FLEET_STOPPED, None), else_=pulse_runs.c.reason),
        started_at=None,
        host=None,
        boot_id=None,
        lease_owner=None,
        lease_token=None,
        lease_expires_at=None,
    )
    if tx.execute(statement).rowcount == 0:
        return False
    tokens.revoke_of_run(tx, run_id)
    tx.emit("pulse.run.queued", run_id)
    return True


def finish(
    tx: Transaction,
    run: Run,
    lease_token: str,
    outcome: Outcome,
    *,
    deliveries: DeliverySettler,
    next_id: str,
) -> bool:
    """End a run: its state, its tokens, the message that started it, and the event, in one commit.

    So is what follows from it: another attempt, with the id `next_id`, or an outcome that counts for its
    schedule. One that was cancelled ends with the reason that was stored with the request. False, with
    nothing changed, if the lease is no longer held or the run has ended already.
    """
    if outcome.reason is RunReason.CANCEL_REQUESTED and (asked := _asked_by(tx, run.id)) is not None:
        outcome = replace(outcome, reason=asked, error=_WORDS[asked])
    standing = aftermath.standing_of(tx, run.schedule_id)
    now = tx.now()
    began = run.started_at or now
    duration_ms = max(0, (now - began) // timedelta(milliseconds=1))
    statement = _held(run.id, lease_token).values(
        status=outcome.state,
        reason=outcome.reason,
        finished_at=now,
        duration_ms=duration_ms,
        output=outcome.output,
        error=outcome.error,
        exit_code=outcome.exit_code,
        **_account_values(outcome.account),
        lease_token=None,
        lease_expires_at=None,
    )
    if tx.execute(statement).rowcount == 0:
        return False
    tokens.revoke_of_run(tx, run.id)
    if run.delivery_id is not None:
        deliveries.settle(
            tx, delivery_id=run.delivery_id, run_id=run.id, state=outcome.state, reason=outcome.reason
        )
    runs.tell_finished(
        tx, run.id, outcome, schedule_id=run.schedule_id, agent_id=run.agent_id, duration_ms=duration_ms
    )
    if outcome.reason is RunReason.QUESTION and outcome.account is not None and outcome.account.question:
        # A run that is blocked has no attempt after it that would need the id.
        questions.ask(tx, run, outcome.account.question, question_id=next_id)
    aftermath.follow(tx, run, outcome, standing, next_id=next_id)
    return True


def take_over(tx: Transaction, held: HeldRun, *, lease_token: str, node: Node, lease: timedelta) -> bool:
    """Become the holder of a run whose lease is exactly as it was read. False if anything moved since.

    Where its process was recorded stays as it is: that is what the new holder has to look at.
    """
    statement = (
        _held(held.run.id, held.lease_token)
        .where(pulse_runs.c.lease_expires_at == held.lease_expires_at)
        .values(lease_owner=node.id, lease_token=lease_token, lease_expires_at=tx.now() + lease)
    )
    if tx.execute(statement).rowcount == 0:
        return False
    tokens.revoke_of_run(tx, held.run.id)
    return True


def expired(connection: sa.Connection, now: datetime, *, limit: int) -> list[HeldRun]:
    """Running runs whose lease has run out. Those that were asked of a subject are ended by `answers`."""
    statement = (
        sa.select(*RUN_COLUMNS)
        .where(_RUNNING, ~_ASKED, pulse_runs.c.lease_expires_at <= now)
        .order_by(pulse_runs.c.created_at, pulse_runs.c.id)
        .limit(limit)
    )
    return [_held_run(row) for row in connection.execute(statement)]


def asked(connection: sa.Connection, *, after: str, limit: int) -> list[HeldRun]:
    """A page of the running runs that were asked of a subject, by id, from behind `after`."""
    statement = (
        sa.select(*RUN_COLUMNS)
        .where(_RUNNING, _ASKED, pulse_runs.c.id > after)
        .order_by(pulse_runs.c.id)
        .limit(limit)
    )
    return [_held_run(row) for row in connection.execute(statement)]


def locked(tx: Transaction, held: HeldRun) -> Run | None:
    """A run that is still held by that lease, locked until the end of the transaction."""
    statement = sa.select(*RUN_COLUMNS).where(
        pulse_runs.c.id == held.run.id, _RUNNING, pulse_runs.c.lease_token == held.lease_token
    )
    row = tx.execute(statement.with_for_update()).one_or_none()
    return None if row is None else run_of(row)


def of_local_nodes(connection: sa.Connection, node: Node) -> list[tuple[HeldRun, Owner]]:
    """Running runs held by other servers of this boot of this machine, with what is known of each server."""
    statement = (
        sa.select(*RUN_COLUMNS)
        .join(nodes, nodes.c.id == pulse_runs.c.lease_owner)
        .where(_RUNNING, ~_ASKED, *_neighbours(node))
        .order_by(pulse_runs.c.created_at, pulse_runs.c.id)
    )
    owners = {
        row.id: Owner(row.pid, row.started_at, row.stopped_at is not None)
        for row in connection.execute(sa.select(nodes).where(*_neighbours(node)))
    }
    held = [_held_run(row) for row in connection.execute(statement)]
    return [(one, owners[one.run.lease_owner or ""]) for one in held]


def record_session(tx: Transaction, run_id: str, lease_token: str, session_id: str) -> bool:
    """Store the session of a run that is at work, so that it can be resumed however the run ends. False if
    the lease is lost."""
    return tx.execute(_held(run_id, lease_token).values(session_id=session_id)).rowcount == 1


def _account_values(account: Account | None) -> dict[str, object]:
    """The columns of what a run said about itself; what it did not say keeps what is stored."""
    if account is None:
        return {}
    said = {
        "runtime": account.runtime,
        "session_id": account.session_id,
        "model": account.model,
        "usage": dict(account.usage) or None,
        "cost_microusd": account.cost_microusd,
        "question": None if account.question is None else dict(account.question),
    }
    return {name: value for name, value in said.items() if value is not None}


def owner_of(connection: sa.Connection, node_id: str) -> Owner | None:
    """The server of this id, as it registered itself."""
    row = connection.execute(sa.select(nodes).where(nodes.c.id == node_id)).one_or_none()
    return None if row is None else Owner(row.pid, row.started_at, row.stopped_at is not None)


def _asked_by(tx: Transaction, run_id: str) -> RunReason | None:
    """Why the end of a run was asked for, if not by a person."""
    stored: RunReason | None = tx.execute(
        sa.select(pulse_runs.c.reason).where(pulse_runs.c.id == run_id)
    ).scalar_one_or_none()
    return stored if stored in _WORDS else None


def _neighbours(node: Node) -> tuple[sa.ColumnElement[bool], ...]:
    return (nodes.c.id != node.id, nodes.c.host == node.host, nodes.c.boot_id == node.boot_id)


def _take(
    tx: Transaction,
    run_id: str,
    offer: Offer,
    *,
    node: Node,
    expires_at: datetime,
    agents: AgentDirectory,
    runtimes: RuntimeCatalog,
) -> Claim | None:
    row = tx.execute(
        pulse_runs.update()
        .where(pulse_runs.c.id == run_id, pulse_runs.c.status == RunState.QUEUED)
        .values(
            status=RunState.RUNNING,
            started_at=tx.now(),
            host=node.host,
            boot_id=node.boot_id,
            lease_owner=node.id,
            lease_token=offer.lease_token,
            lease_expires_at=expires_at,
        )
        .returning(*RUN_COLUMNS)
    ).one_or_none()
    if row is None:
        return None
    run = run_of(row)
    agent = agents.find_agent(tx, run.agent_id) if run.agent_id is not None else None
    token = NewToken(
        offer.token_id,
        offer.token_secret,
        subject=agent.subject if agent is not None else f"relay.system.pulse.{run.schedule_id or run.id}",
        scopes=_SCOPES,
        run_id=run.id,
        agent_id=agent.id if agent is not None else None,
    )
    tokens.mint(tx, token, expires_at=expires_at)
    tx.emit(
        "pulse.run.started",
        run.id,
        {"scheduleId": run.schedule_id, "agentId": run.agent_id, "node": node.id, "host": node.host},
    )
    taken = claim_of(run, offer.lease_token, token, agent, runtimes)
    # A run that cannot start for another reason spends nothing.
    if agent is None or taken.obstacle is not None:
        return taken
    refusal = agents.take_call(tx, agent.id)
    return taken if refusal is None else replace(taken, argv=(), obstacle=_refused(refusal))


def _ask(
    tx: Transaction, taken: Claim, offer: Offer, *, requests: Requests, within: timedelta, until: datetime
) -> Claim:
    """Send the prompt of a run to its subject, and hold the run until then."""
    run = taken.run
    question = Question(
        offer.message_id,
        run.target_subject or "",
        sender=taken.token.subject,
        prompt=run.prompt,
        run_id=run.id,
        within=within,
    )
    refused = requests.ask(tx, question)
    if refused is not None:
        return replace(taken, obstacle=Outcome(RunState.FAILED, RunReason.UNDELIVERED, refused))
    held = _held(run.id, taken.lease_token).values(message_id=offer.message_id, lease_expires_at=until)
    tx.execute(held)
    return replace(taken, asked=True)


def _refused(refusal: CallRefusal) -> Outcome:
    over = refusal.code == RunReason.BUDGET_EXCEEDED
    return Outcome(
        RunState.FAILED, RunReason.BUDGET_EXCEEDED if over else RunReason.START_FAILED, refusal.detail
    )


def _held(run_id: str, lease_token: str) -> sa.Update:
    return pulse_runs.update().where(
        pulse_runs.c.id == run_id,
        pulse_runs.c.status == RunState.RUNNING,
        pulse_runs.c.lease_token == lease_token,
    )


def _held_run(row: Sequence[Any]) -> HeldRun:
    run = run_of(row)
    # The table's CHECK gives every running run a token; the expiry is set together with it.
    assert run.lease_token is not None
    assert run.lease_expires_at is not None
    return HeldRun(run, run.lease_token, run.lease_expires_at)
