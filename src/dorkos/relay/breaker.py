"""Circuit breakers: a mailbox whose deliveries keep failing takes nothing for a while.

    closed --faults in a row--> open --after the cooldown, one message--> half_open --success--> closed
                                  ^                                           |
                                  +----------------- fault -------------------+

A fault is one of delivery: an adapter that cannot send, a run that cannot be started or is lost sight of.
What a consumer says of a message itself, by a nack or a failed run, is none. While the one message on
probation is under way nothing else is taken; if nothing is heard of it for another cooldown, the next may go.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_breakers as b
from dorkos.relay.model import Breaker
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import BreakerState

CLOSED = Breaker(BreakerState.CLOSED, 0)

_STATE = Prepared(sa.select(b.c.state).where(b.c.endpoint_id == sa.bindparam("endpoint")))
_RESET = Prepared(
    sa.update(b)
    .where(
        b.c.endpoint_id == sa.bindparam("endpoint"),
        sa.or_(b.c.state != BreakerState.CLOSED, b.c.failures > 0),
    )
    .values(
        state=BreakerState.CLOSED,
        failures=0,
        opened_at=None,
        probe_at=None,
        updated_at=sa.bindparam("now"),
    )
    .returning(b.c.endpoint_id)
)


def fault(
    tx: Transaction, endpoint_id: str, detail: str, settings: RelaySettings, *, subject: str
) -> BreakerState:
    """Count a fault of delivery, in the change that records it; the state that this leaves.

    As many in a row as `relay.breakerFailures` open the circuit; one on probation opens it again.
    """
    now = tx.now()
    counted = insert(b).values(endpoint_id=endpoint_id, failures=1, updated_at=now)
    circuit = tx.execute(
        counted.on_conflict_do_update(
            index_elements=["endpoint_id"], set_={"failures": b.c.failures + 1, "updated_at": now}
        ).returning(b.c.state, b.c.failures)
    ).one()
    state, failures = BreakerState(circuit.state), int(circuit.failures)
    trips = state is BreakerState.HALF_OPEN or (
        state is BreakerState.CLOSED and failures >= settings.breaker_failures
    )
    if not trips:
        return state
    tx.execute(
        sa.update(b)
        .where(b.c.endpoint_id == endpoint_id, b.c.state == state)
        .values(state=BreakerState.OPEN, opened_at=now, probe_at=now + _cooldown(settings))
    )
    tx.emit(
        "relay.breaker.opened",
        endpoint_id,
        {"subject": subject, "failures": failures, "detail": detail},
        actor=None,
    )
    return BreakerState.OPEN


def success(tx: Transaction, endpoint_id: str, *, subject: str, actor: str | None = None) -> None:
    """Something was delivered, or `actor` says that it can be: the circuit is closed and counts anew."""
    was = tx.run(_STATE, {"endpoint": endpoint_id})
    if not was:
        return
    reset = tx.run(_RESET, {"endpoint": endpoint_id, "now": tx.now()})
    if reset and was[0][0] is not BreakerState.CLOSED:
        tx.emit("relay.breaker.closed", endpoint_id, {"subject": subject}, actor=actor)


def take_probe(tx: Transaction, endpoint_id: str, settings: RelaySettings, *, subject: str) -> bool:
    """Whether this message may be the one on probation. Of several at once, one may."""
    now = tx.now()
    taken = tx.execute(
        sa.update(b)
        .where(
            b.c.endpoint_id == endpoint_id,
            b.c.state.in_([BreakerState.OPEN, BreakerState.HALF_OPEN]),
            b.c.probe_at <= now,
        )
        .values(state=BreakerState.HALF_OPEN, probe_at=now + _cooldown(settings), updated_at=now)
        .returning(b.c.endpoint_id)
    ).one_or_none()
    if taken is not None:
        tx.emit("relay.breaker.probed", endpoint_id, {"subject": subject}, actor=None)
    return taken is not None


def find(connection: sa.Connection | Transaction, endpoint_id: str) -> Breaker:
    """The circuit of a mailbox; closed if nothing was ever counted."""
    return every(connection, [endpoint_id]).get(endpoint_id, CLOSED)


def every(
    connection: sa.Connection | Transaction, endpoint_ids: list[str] | None = None
) -> dict[str, Breaker]:
    """The circuits on which something was counted, by mailbox; None asks for all of them."""
    statement = sa.select(b.c.endpoint_id, b.c.state, b.c.failures, b.c.opened_at, b.c.probe_at)
    if endpoint_ids is not None:
        statement = statement.where(b.c.endpoint_id.in_(endpoint_ids))
    return {row[0]: Breaker(*row[1:]) for row in connection.execute(statement)}


def _cooldown(settings: RelaySettings) -> timedelta:
    return timedelta(seconds=settings.breaker_cooldown_seconds)
