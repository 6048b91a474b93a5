"""Settling a message when the run it started has ended."""

from __future__ import annotations

from datetime import timedelta

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_index as i
from dorkos.relay import breaker, deadletters, delivery, endpoints
from dorkos.relay.inbox import DELIVERIES, IS_PENDING, delivery_of
from dorkos.relay.model import Delivery
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason, RunReason, RunState

# After the n-th attempt the message waits n times this long.
RETRY_STEP = timedelta(seconds=5)
# An agent's budget slides by the minute; a look more often would only fill the list of runs.
BUDGET_STEP = timedelta(minutes=5)
# Ends of a run that tell of the way to the agent, not of what it did.
_FAULTS = frozenset({RunReason.UNCONFIRMED, RunReason.START_FAILED, RunReason.UNAVAILABLE})
# Ends of a run that never got as far as the agent, through no fault.
_SAYS_NOTHING = frozenset({RunReason.BUDGET_EXCEEDED, RunReason.SHUTDOWN, RunReason.LEASE_EXPIRED})


def settle(
    tx: Transaction,
    *,
    delivery_id: str,
    run_id: str,
    state: RunState,
    reason: RunReason | None,
    settings: RelaySettings,
) -> None:
    """Settle the delivery that `run_id` holds, in the commit that ends the run.

    | the run                   | the message                                                 |
    |---------------------------|-------------------------------------------------------------|
    | completed                 | delivered                                                   |
    | blocked on a question     | delivered: the agent has it, and goes on with the answer    |
    | interrupted, unconfirmed  | dead letter: the program may still be at work               |
    | cancelled, fleet_stopped  | given back as below: it was not this message that was stopped |
    | cancelled                 | dead letter: somebody did not want it done                  |
    | budget_exceeded           | given back, and this was no attempt: it waits for the agent |
    | anything else             | given back with a growing delay, until its attempts are used up |

    A delivery that the run does not hold (any more) is left alone. What would be given back to a mailbox
    that was closed in the meantime becomes a dead letter. A run that could not be started, or was lost sight
    of, is a fault of the mailbox's circuit; one that ran, however it ended, is none.
    """
    held = _held(tx, delivery_id, run_id)
    if held is None:
        return
    _tell_breaker(tx, held, state, reason, settings)
    if state is RunState.COMPLETED or reason is RunReason.QUESTION:
        delivery.settle_delivered(tx, held, actor=held.endpoint_subject)
    elif reason is RunReason.UNCONFIRMED:
        detail = f"The run {run_id} was lost sight of: whether it did its work is not known."
        _bury(tx, held, DeadLetterReason.RUN_UNCONFIRMED, detail)
    elif state is RunState.CANCELLED and reason is not RunReason.FLEET_STOPPED:
        _bury(tx, held, DeadLetterReason.REJECTED, f"The run {run_id} was cancelled.")
    elif _is_closed(tx, held.endpoint_id):
        _bury(tx, held, DeadLetterReason.ENDPOINT_REMOVED, "The mailbox was closed before the run ended.")
    elif reason is RunReason.BUDGET_EXCEEDED:
        delivery.put_off(tx, held, delay=BUDGET_STEP, actor=held.endpoint_subject)
    else:
        delivery.give_back(
            tx,
            held,
            delay=RETRY_STEP * held.attempts,
            max_attempts=settings.max_attempts,
            actor=held.endpoint_subject,
        )


def _tell_breaker(
    tx: Transaction, held: Delivery, state: RunState, reason: RunReason | None, settings: RelaySettings
) -> None:
    if reason in _FAULTS:
        breaker.fault(
            tx,
            held.endpoint_id,
            f"The run {held.run_id} ended with {reason}.",
            settings,
            subject=held.endpoint_subject,
        )
    elif state is not RunState.CANCELLED and reason not in _SAYS_NOTHING:
        breaker.success(tx, held.endpoint_id, subject=held.endpoint_subject)


def _held(tx: Transaction, delivery_id: str, run_id: str) -> Delivery | None:
    row = tx.execute(
        DELIVERIES.where(i.c.id == delivery_id, i.c.run_id == run_id, IS_PENDING).with_for_update(of=i)
    ).one_or_none()
    return None if row is None else delivery_of(row)


def _bury(tx: Transaction, held: Delivery, reason: DeadLetterReason, detail: str) -> None:
    deadletters.fail(tx, i.c.id == held.id, reason, detail, actor=held.endpoint_subject, run_id=held.run_id)


def _is_closed(tx: Transaction, endpoint_id: str) -> bool:
    # Locked, because a closing that runs at the same time leaves alone what a run still holds.
    endpoint = endpoints.lock(tx, endpoint_id)
    return endpoint is None or endpoint.closed_at is not None
