"""Questions that blocked runs left for a person. Functions run inside the caller's transaction.

A run that ends with a question raises an approval of the kind `question` in the same commit. Resuming the run
answers it. It has no expiry: nothing waits for it but its own run, which may be resumed at any time. A person
may close it without an answer, and it is closed with the schedule of its run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import approvals, pulse_runs
from dorkos.pulse.model import Run
from dorkos.vocabulary import ApprovalKind, ApprovalStatus, RunState

_A = approvals.c
# Written out, not bound: SQLite uses a partial index only where it can read the condition.
_PENDING = _A.status == sa.literal(ApprovalStatus.PENDING, _A.status.type, literal_execute=True)
_OF_RUNS = _A.kind == ApprovalKind.QUESTION


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question of a run that waits for its answer. `content` is what is asked, and by which run."""

    id: str
    run_id: str
    content: Mapping[str, Any]
    created_at: datetime


def ask(tx: Transaction, run: Run, question: Mapping[str, Any], *, question_id: str) -> None:
    """Leave the question of a run that just ended as blocked."""
    content = {
        **question,
        "runId": run.id,
        "scheduleId": run.schedule_id,
        "agentId": run.agent_id,
        "prompt": run.prompt,
    }
    written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    tx.execute(
        approvals.insert(),
        {
            "id": question_id,
            "kind": ApprovalKind.QUESTION,
            "run_id": run.id,
            "content": content,
            "content_hash": hashlib.sha256(written.encode("ascii")).hexdigest(),
            "status": ApprovalStatus.PENDING,
            "created_at": tx.now(),
        },
    )
    tx.emit("pulse.question.asked", question_id, {"runId": run.id, "question": question["question"]})


def answer(tx: Transaction, run_id: str, text: str, *, by: str) -> bool:
    """Close the open question of a run with this answer. False, and nothing done, if it has none."""
    closed = tx.execute(
        approvals.update()
        .where(_A.run_id == run_id, _OF_RUNS, _PENDING)
        .values(status=ApprovalStatus.APPROVED, answer=text, decided_at=tx.now(), decided_by=by)
        .returning(_A.id)
    )
    answered = list(closed.scalars())
    for question_id in answered:
        tx.emit("pulse.question.answered", question_id, {"runId": run_id}, actor=by)
    return bool(answered)


def close_of_run(
    tx: Transaction, run_id: str, status: ApprovalStatus, *, answer: str | None, by: str
) -> bool:
    """Close the open question of a run without an answer; the run stays as it ended. False if it has none."""
    return _close(tx, _A.run_id == run_id, status, answer=answer, by=by)


def close_of_schedule(tx: Transaction, schedule_id: str, *, by: str) -> None:
    """Close the questions of a schedule's runs: it is deleted, and nothing of it may go on."""
    blocked = sa.select(pulse_runs.c.id).where(
        pulse_runs.c.schedule_id == schedule_id, pulse_runs.c.status == RunState.BLOCKED
    )
    _close(tx, _A.run_id.in_(blocked), ApprovalStatus.SUPERSEDED, answer=None, by=by)


def _close(
    tx: Transaction, where: sa.ColumnElement[bool], status: ApprovalStatus, *, answer: str | None, by: str
) -> bool:
    closed = tx.execute(
        approvals.update()
        .where(where, _OF_RUNS, _PENDING)
        .values(status=status, answer=answer, decided_at=tx.now(), decided_by=by)
        .returning(_A.id, _A.run_id)
    ).all()
    for row in closed:
        facts = {"runId": row.run_id, "status": status.value, "answer": answer}
        tx.emit("pulse.question.closed", row.id, facts, actor=by)
    return bool(closed)


def waiting(connection: sa.Connection, *, limit: int) -> list[AskedQuestion]:
    """Open questions, the longest waiting first."""
    columns = [_A[name] for name in AskedQuestion.__dataclass_fields__]
    statement = sa.select(*columns).where(_OF_RUNS, _PENDING).order_by(_A.created_at, _A.id).limit(limit)
    return [AskedQuestion(*row) for row in connection.execute(statement)]
