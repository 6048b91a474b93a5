"""Runs that were asked of a Relay subject, in the database: what came back, and how they end by it.

| the request                                  | the run                                      |
|----------------------------------------------|----------------------------------------------|
| is answered in time                          | completed, and the answer is its output      |
| reaches nobody                               | failed, undelivered                          |
| was taken by somebody who cannot answer now  | failed, no_reply                             |
| is not answered when its time is over        | timeout: undelivered if nobody took it, else |
|                                              | no_reply                                     |
| is cancelled before                          | cancelled; taken back if nobody took it      |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.pulse import aftermath, leases, output
from dorkos.pulse.capture import TAIL_CHARACTERS, pieces, within
from dorkos.pulse.leases import HeldRun
from dorkos.pulse.model import Answer, AnswerState, DeliverySettler, Outcome, OutputChunk, Requests, Run
from dorkos.pulse.outcomes import CANCELLED
from dorkos.pulse.redaction import Secrets
from dorkos.vocabulary import OutputStream, RunReason, RunState


def settled(
    connection: sa.Connection, waiting: Sequence[HeldRun], now: datetime, requests: Requests
) -> list[HeldRun]:
    """Those of them that can be ended: answered, without hope of an answer, or asked to be cancelled."""
    return [
        held
        for held in waiting
        if held.run.cancel_requested_at is not None
        or _look(connection, held.run, now, requests).state is not AnswerState.PENDING
    ]


def conclude(
    tx: Transaction,
    held: HeldRun,
    *,
    requests: Requests,
    deliveries: DeliverySettler,
    secrets: Secrets,
    max_output_bytes: int,
    next_id: str,
) -> bool:
    """End the run by what came back; the answer is read, and nobody waits for it any more, in one commit.

    False, with nothing changed, if it is to be waited for, or if somebody else was faster.
    """
    # In the order in which everything else locks: the schedule, the run, then what belongs to Relay.
    aftermath.standing_of(tx, held.run.schedule_id)
    run = leases.locked(tx, held)
    if run is None:
        return False
    answer = _look(tx, run, tx.now(), requests)
    if answer.state is AnswerState.REPLIED:
        text = secrets.hide(answer.text)
        _store(tx, held, text, max_output_bytes)
        requests.close(tx, run.message_id or "")
        outcome = Outcome(RunState.COMPLETED, output=text[-TAIL_CHARACTERS:])
    elif answer.state is AnswerState.PENDING and run.cancel_requested_at is None:
        return False
    else:
        outcome = _unanswered(run, answer, untaken=requests.close(tx, run.message_id or ""))
    return leases.finish(tx, run, held.lease_token, outcome, deliveries=deliveries, next_id=next_id)


def _unanswered(run: Run, answer: Answer, *, untaken: bool) -> Outcome:
    if run.cancel_requested_at is not None:
        taken = f"{CANCELLED}. {run.target_subject} had taken the message, and may still be at work on it."
        return Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED, CANCELLED if untaken else taken)
    state = RunState.TIMEOUT if answer.state is AnswerState.LATE else RunState.FAILED
    return Outcome(state, RunReason.UNDELIVERED if untaken else RunReason.NO_REPLY, answer.detail)


def _look(source: sa.Connection | Transaction, run: Run, now: datetime, requests: Requests) -> Answer:
    return requests.look(source, run.message_id or "", now)


def _store(tx: Transaction, held: HeldRun, text: str, max_output_bytes: int) -> None:
    kept = within(text, max_output_bytes)
    chunks = [OutputChunk(seq, OutputStream.STDOUT, piece) for seq, piece in enumerate(pieces(kept), start=1)]
    if len(kept) < len(text):
        cut = f"Output beyond {max_output_bytes} bytes was dropped.\n"
        chunks.append(OutputChunk(len(chunks) + 1, OutputStream.SYSTEM, cut))
    if chunks:
        output.append(tx, held.run.id, held.lease_token, chunks)
