"""`Database`, the one door to stored state: `read` and `write`, the same on both engines."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from dorkos.db.faults import explain
from dorkos.db.group import Group, Part
from dorkos.db.prepared import Prepared
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode

log = logging.getLogger("dorkos.db")

T = TypeVar("T")
P = TypeVar("P", bound=Part)

_INSERT_EVENT = Prepared(events.insert(), "kind", "entity_id", "actor", "at", "data")

Query = Callable[[sa.Connection], T]


@dataclass(frozen=True, slots=True)
class EmittedEvent:
    """An event that a change wants committed with itself. `data` is a JSON object."""

    kind: str
    entity_id: str
    data: Mapping[str, object]
    actor: str | None


class Transaction:
    """What a change works with: statements, the time, and the events that go with it.

    A change must be synchronous, short (about 500 rows; bulk work comes in chunks), free of network and
    other side effects, and safe to run again: the engine repeats it after a conflict or when its batch
    was lost. It never catches a database error: on PostgreSQL the transaction is broken by then.
    """

    def __init__(
        self, connection: sa.Connection, now: Callable[[], datetime], group: Group | None = None
    ) -> None:
        """Wrap one open transaction. `now` is the clock that leases and cursors are measured by; `group` has
        the changes that are committed with this one."""
        self._group = group or Group(connection)
        self._clock = now
        self._now: datetime | None = None
        self.events: list[EmittedEvent] = []

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`, for the few statements that each has to be told in its own words."""
        return self._group.connection.dialect.name

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> sa.CursorResult[Any]:
        """Run one statement in this transaction."""
        return self._group.execute(statement, parameters)

    def run(self, prepared: Prepared, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Run one hot statement in this transaction; the rows that it answers."""
        return self._group.run(prepared, values)

    def run_many(self, prepared: Prepared, many: Sequence[Mapping[str, Any]]) -> list[list[tuple[Any, ...]]]:
        """Run one hot statement for each of several values, in their order; what each of them answers."""
        return self._group.run_many(prepared, many)

    def add(self, prepared: Prepared, values: Mapping[str, Any]) -> None:
        """Insert a row, together with those of other changes: before the commit, and before any statement
        that could see it. A fault of the row comes out only then, and costs everybody a second try, so this
        is for rows that are known to fit.
        """
        self._group.add(prepared, values)

    def recall(self, prepared: Prepared, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """What a query answers. It is asked once for all changes of a commit, until one changes its table."""
        return self._group.recall(prepared, values)

    def part(self, kind: type[P]) -> P:
        """Something that the changes of one commit share. See `dorkos.db.group`."""
        return self._group.part(kind)

    def now(self) -> datetime:
        """The time of this change, the same at every call: the injected clock on SQLite, the database's on
        PostgreSQL.

        Several servers share a PostgreSQL and their clocks differ; leases and cursors compare only
        times from here.
        """
        if self._now is None:
            self._now = self._clock()
        return self._now

    def emit(
        self, kind: str, entity_id: str, data: Mapping[str, object] | None = None, *, actor: str | None = None
    ) -> None:
        """Record that something changed. The event is stored with this change or not at all."""
        self.events.append(EmittedEvent(kind, entity_id, dict(data or {}), actor))

    def hand_over_events(self) -> None:
        """Let what was emitted be stored. Called by the engine when the change has returned."""
        if not self.events:
            return
        at = self.now()
        for e in self.events:
            self.add(
                _INSERT_EVENT,
                {"kind": e.kind, "entity_id": e.entity_id, "actor": e.actor, "at": at, "data": e.data},
            )

    def finish(self) -> None:
        """Store all that waits, events last. For a change that is committed by itself."""
        self.hand_over_events()
        self._group.write()


Change = Callable[[Transaction], T]


class Database(ABC):
    """Stored state. Reads see one snapshot each; a write returns after its commit was synced to disk."""

    dialect: str

    def __init__(self) -> None:
        """Begin with nobody listening for commits, and nothing known to be damaged."""
        # What was found damaged while serving, in words. It stays until the server is started again: a
        # page that could be read at the second try is no reason for trust.
        self.damage: str | None = None
        self._stopping = False
        self._listeners: list[Callable[[], None]] = []

    @abstractmethod
    async def open(self) -> None:
        """Connect. The schema must be up to date: see `dorkos.db.migrate`."""

    @abstractmethod
    async def close(self) -> None:
        """Finish the writes that were accepted, then disconnect. Safe to call again."""

    @abstractmethod
    async def read(self, query: Query[T]) -> T:
        """Run `query` in a thread on a snapshot of its own. It never blocks a writer."""

    @abstractmethod
    async def write(self, change: Change[T]) -> T:
        """Apply `change` atomically and durably, and return what it returned.

        Returns only after a successful, synced commit. If `change` raises, nothing of it is stored and
        the exception comes out here. A cancelled caller does not cancel its change. Raises
        `outcome_unknown` when the connection broke, or the file was taken away, during COMMIT.
        """

    def begin_to_stop(self) -> None:
        """Say that the server is stopping: where another program holds the file, no change waits long then.

        A stop ends with several changes, and each would wait in its turn. Whoever is refused finds
        `database_busy`; what it wanted to store, others see when its lease ends.
        """
        self._stopping = True

    def on_events(self, listener: Callable[[], None]) -> None:
        """Call `listener`, in the event loop, after commits that stored events in this process.

        It is a hint to look, not a message: it may come late, once for many commits, or (for another
        server's commits) not at all. Correctness comes from reading positions.
        """
        self._listeners.append(listener)

    def _explained(self, fault: Exception) -> Exception:
        """The refusal that a fault stands for; damage is remembered, and told once."""
        explained = explain(fault)
        if isinstance(explained, DorkError) and explained.code is ErrorCode.DATABASE_CORRUPT:
            if self.damage is None:
                log.error("the stored data is damaged: %s", fault)
            self.damage = explained.message
        return explained

    def _notify(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:  # A listener's fault must not look like the writer's.
                log.exception("a listener for committed events failed")
