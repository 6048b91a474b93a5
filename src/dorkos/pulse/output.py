"""What runs printed, in the database: numbered chunks, appended in order by whoever holds the lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

# PostgreSQL's INSERT compiles to the same ON CONFLICT text on SQLite; the other way round it does not.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.database import Transaction
from dorkos.db.schema.pulse import pulse_run_output, pulse_runs
from dorkos.pulse.model import OutputChunk
from dorkos.vocabulary import ACTIVE_RUN_STATES


@dataclass(frozen=True, slots=True)
class OutputPage:
    """Chunks in order. `final` says that nothing will ever come after them."""

    chunks: tuple[OutputChunk, ...]
    final: bool


_HELD = sa.select(pulse_runs.c.id).where(
    pulse_runs.c.id == sa.bindparam("of_id"), pulse_runs.c.lease_token == sa.bindparam("of_token")
)
_INSERT = insert(pulse_run_output).on_conflict_do_nothing()


def append(tx: Transaction, run_id: str, lease_token: str, chunks: Sequence[OutputChunk]) -> bool:
    """Store chunks. Storing the same ones again changes nothing. False if the lease is lost.

    The event carries only the newest number: the text is read from the table by whoever wants it.
    """
    if tx.execute(_HELD, {"of_id": run_id, "of_token": lease_token}).one_or_none() is None:
        return False
    now = tx.now()
    tx.execute(
        _INSERT,
        [
            {"run_id": run_id, "seq": chunk.seq, "stream": chunk.stream, "at": now, "text": chunk.text}
            for chunk in chunks
        ],
    )
    tx.emit("pulse.run.output", run_id, {"seq": chunks[-1].seq})
    return True


def page(connection: sa.Connection, run_id: str, *, after: int, limit: int) -> OutputPage | None:
    """The chunks numbered above `after`, at most `limit`; None if there is no such run."""
    state = connection.execute(
        sa.select(pulse_runs.c.status).where(pulse_runs.c.id == run_id)
    ).scalar_one_or_none()
    if state is None:
        return None
    statement = (
        sa.select(
            pulse_run_output.c.seq,
            pulse_run_output.c.stream,
            pulse_run_output.c.text,
            pulse_run_output.c.at,
        )
        .where(pulse_run_output.c.run_id == run_id, pulse_run_output.c.seq > after)
        .order_by(pulse_run_output.c.seq)
        .limit(limit + 1)
    )
    found = [OutputChunk(**row) for row in connection.execute(statement).mappings()]
    final = state not in ACTIVE_RUN_STATES and len(found) <= limit
    return OutputPage(tuple(found[:limit]), final)
