"""The fleet's mode: whether work may start at all, for every server on one database.

It is one row of `system_state`; without it the fleet runs. Whoever starts something asks `gate` first, in
the transaction that starts it. So this holds: once a change of the mode has been answered, nothing that
the mode forbids is started by any server.

On SQLite there is one writer. On PostgreSQL `gate` takes an advisory lock, shared with others who start
something, until its transaction ends. A change takes that lock alone: it waits for the starts under way,
and those behind it read the new mode. PostgreSQL grants locks in the order of asking, so no load, however
steady, keeps a change waiting for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.
from sqlalchemy.ext.compiler import compiles

from dorkos.clock import from_iso, iso
from dorkos.db.database import Database, Transaction
from dorkos.db.hold import FLEET_KEY
from dorkos.db.prepared import Prepared
from dorkos.db.schema.pulse import pulse_runs
from dorkos.db.schema.relay import relay_endpoints
from dorkos.db.schema.system import system_state
from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.vocabulary import FleetMode, RunState

CHANGED = "system.fleet.changed"

# Arbitrary and ours. Those before are the lock of the events and that of migrations.
_LOCK = 0x444F524B_0003
_ALWAYS = datetime.max.replace(tzinfo=UTC)
_WORDS = {
    FleetMode.RUNNING: "running",
    FleetMode.DRAIN: "draining",
    FleetMode.HOLD: "on hold",
    FleetMode.STOP: "stopped",
}


@dataclass(frozen=True, slots=True)
class Fleet:
    """The mode, who set it, why and when. `since` None: it was never set, or what is stored is unreadable.

    `held_until` is the instant at which the fleet was last set to running again.
    """

    mode: FleetMode = FleetMode.RUNNING
    reason: str | None = None
    actor: str | None = None
    since: datetime | None = None
    held_until: datetime | None = None

    @property
    def starts(self) -> bool:
        """Whether what was accepted may start: queued runs and pending deliveries."""
        return self.mode in (FleetMode.RUNNING, FleetMode.DRAIN)

    @property
    def fires(self) -> bool:
        """Whether new work may come up: due instants and runs asked for by hand."""
        return self.mode is FleetMode.RUNNING

    @property
    def paused_before(self) -> datetime | None:
        """Due instants before this get no run, None for no such bound.

        That is every instant while the mode is not `running`; and afterwards those until the fleet was set
        running again which nobody had decided, because no server was there.
        """
        return self.held_until if self.fires else _ALWAYS

    def __str__(self) -> str:
        """The mode in a sentence for a person, with its time and reason."""
        since = "" if self.since is None else f" since {iso(self.since)}"
        return f"The fleet is {_WORDS[self.mode]}{since}{f': {self.reason}' if self.reason else ''}"

    def refusal(self, what: str) -> DorkError:
        """Why something is not started. `what` says it in a sentence of its own."""
        return DorkError(
            ErrorCode.FLEET_ON_HOLD,
            f"{str(self).rstrip('.')}. {what}",
            hint="`dorkos fleet` shows what waits, `dorkos fleet resume` lets it go on.",
            details={"mode": self.mode.value, "since": None if self.since is None else iso(self.since)},
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a hold keeps back, and what is still at work."""

    runs_queued: int
    runs_running: int
    deliveries_pending: int


class _Lock(sa.ColumnElement[Any]):
    """The advisory lock on PostgreSQL; nothing on SQLite, whose one writer needs none."""

    inherit_cache = False

    def __init__(self, function: str) -> None:
        self.function = function


@compiles(_Lock)
def _no_lock(_lock: _Lock, _compiler: Any, **_options: Any) -> str:
    return "NULL"


@compiles(_Lock, "postgresql")
def _postgres_lock(lock: _Lock, _compiler: Any, **_options: Any) -> str:
    return f"{lock.function}({_LOCK})"


_TOGETHER = Prepared(sa.select(_Lock("pg_advisory_xact_lock_shared").label("locked")))
_ALONE = Prepared(sa.select(_Lock("pg_advisory_xact_lock").label("locked")))
_VALUE = sa.select(system_state.c.value).where(system_state.c.key == FLEET_KEY)
_READ = Prepared(_VALUE)
# Written out, because a partial index is used only for values that are seen in the statement.
_ACTIVE: sa.ColumnElement[bool] = sa.literal_column("status IN ('queued', 'running')")


def gate(tx: Transaction) -> Fleet:
    """The mode, which stays as it is until this transaction ends. See the module.

    Ask before locking any row: a change may wait for this transaction, and must not be waited for in turn.
    """
    tx.run(_TOGETHER, {})
    # A statement of its own: on PostgreSQL it sees what was committed while the lock was waited for.
    return _fleet(tx.recall(_READ, {}))


def read(connection: sa.Connection | Transaction) -> Fleet:
    """The mode as it is now. Whoever starts something asks `gate` instead."""
    return _fleet([tuple(row) for row in connection.execute(_VALUE)])


def change(tx: Transaction, mode: FleetMode, *, reason: str | None, actor: str) -> tuple[Fleet, bool]:
    """Set the mode; the mode that there is now, and whether that was a change.

    The mode that it has already changes nothing, neither reason nor time.
    """
    tx.run(_ALONE, {})
    before = _fleet(tx.run(_READ, {}))
    if before.mode is mode and (before.fires or before.since is not None):
        return before, False
    now = tx.now()
    held_until = before.held_until
    if mode is FleetMode.RUNNING:
        # A clock that jumped back must not give back instants that are over.
        held_until = now if held_until is None else max(now, held_until)
    after = Fleet(mode, reason, actor, now, held_until)
    stored = insert(system_state).values(key=FLEET_KEY, value=_text(after))
    tx.execute(stored.on_conflict_do_update(index_elements=["key"], set_={"value": stored.excluded.value}))
    tx.emit(
        CHANGED,
        FLEET_KEY,
        {"from": before.mode.value, "to": mode.value, "reason": reason},
        actor=actor,
    )
    return after, True


def waiting(connection: sa.Connection) -> Waiting:
    """How much waits and works at this moment."""
    by_state = {
        row.status: row.number
        for row in connection.execute(
            sa.select(pulse_runs.c.status, sa.func.count().label("number"))
            .where(_ACTIVE)
            .group_by(pulse_runs.c.status)
        )
    }
    pending = sa.cast(sa.func.coalesce(sa.func.sum(relay_endpoints.c.pending_count), 0), sa.BigInteger)
    return Waiting(
        by_state.get(RunState.QUEUED, 0),
        by_state.get(RunState.RUNNING, 0),
        connection.execute(sa.select(pending)).scalar_one(),
    )


class FleetService:
    """The fleet's mode as the operations see it."""

    def __init__(self, database: Database) -> None:
        """Keeps nothing: the mode is read anew each time."""
        self._database = database

    async def fleet(self) -> Fleet:
        """The mode."""
        return await self._database.read(read)

    async def look(self) -> tuple[Fleet, Waiting]:
        """The mode and what waits, from one snapshot."""
        return await self._database.read(lambda connection: (read(connection), waiting(connection)))

    async def change(self, mode: FleetMode, *, reason: str | None, actor: str) -> tuple[Fleet, bool]:
        """Set the mode in a change of its own. See `change`."""
        return await self._database.write(lambda tx: change(tx, mode, reason=reason, actor=actor))


def _fleet(rows: list[tuple[Any, ...]]) -> Fleet:
    return _parsed(rows[0][0]) if rows else Fleet()


@lru_cache(maxsize=8)
def _parsed(text: str) -> Fleet:
    """The stored mode. One that cannot be read is a hold: nobody knows that work may start."""
    try:
        stored = json.loads(text)
        return Fleet(
            FleetMode(stored["mode"]),
            _word(stored, "reason"),
            _word(stored, "actor"),
            _instant(stored, "since"),
            _instant(stored, "held_until"),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return Fleet(FleetMode.HOLD, "the stored mode cannot be read")


def _instant(stored: Mapping[str, Any], name: str) -> datetime | None:
    return None if stored.get(name) is None else from_iso(stored[name])


def _word(stored: Mapping[str, Any], name: str) -> str | None:
    word = stored.get(name)
    if word is not None and not isinstance(word, str):
        raise TypeError(f"{name} is no text")
    return word


def _text(fleet: Fleet) -> str:
    return to_json(
        {
            "mode": fleet.mode,
            "reason": fleet.reason,
            "actor": fleet.actor,
            "since": None if fleet.since is None else iso(fleet.since),
            "held_until": None if fleet.held_until is None else iso(fleet.held_until),
        }
    )
