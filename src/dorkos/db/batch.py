"""Committing the changes that wait together, as one transaction, so that one sync serves them all.

First all of them at once. If one fails after it has changed something, the transaction is rolled back and
they run again, a savepoint each, so that it rolls back alone. Most refusals come before anything is changed
and cost nobody a second try. If the transaction fails as a whole, each change runs again alone, which shows
who is to blame.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol, cast

import sqlalchemy as sa

from dorkos.db.database import Change, Transaction
from dorkos.db.group import Group
from dorkos.errors import DorkError


@dataclass(frozen=True, slots=True)
class Job:
    """A change, and who waits for what it returns."""

    change: Change[Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change, once its transaction is committed."""

    value: Any = None
    fault: Exception | None = None
    has_events: bool = False


class Alike(ABC):
    """A change of which several that follow one another in a commit are applied together."""

    __slots__ = ()

    @abstractmethod
    def __call__(self, tx: Transaction) -> None:
        """Apply it alone."""

    @classmethod
    @abstractmethod
    def together(cls, tx: Transaction, changes: Sequence[Any]) -> Sequence[DorkError | None]:
        """Apply them in their order, as if each came alone: what each is refused with, None if it is not.

        One that is refused has changed nothing.
        """


class NotBegunError(Exception):
    """No transaction could be begun, such as for a lock that another program holds."""


class NotTogetherError(Exception):
    """A change failed after it had changed something, so all of the transaction has to be rolled back."""


class TransactionLostError(Exception):
    """The database itself ended the transaction, so no change of it is stored."""


class Apply(Protocol):
    """Applies changes in an open transaction, to be committed when it returns."""

    def __call__(
        self,
        connection: sa.Connection,
        batch: Sequence[Job],
        now: Callable[[], datetime],
        take_back: TakeBack,
    ) -> list[Outcome]:
        """What becomes of each if the transaction is committed."""
        ...


TakeBack = Callable[[Any, Exception], bool]
"""Takes back what a change did before its fault, by `return_to_savepoint` on the driver's connection. False
if the database has ended the transaction as a whole."""

Commit = Callable[[Sequence[Job], Apply], list[Outcome]]
"""Begins a transaction, lets the changes be applied in it, and commits. What it raises is not committed."""


def commit_all(
    batch: Sequence[Job], commit: Commit, explain: Callable[[Exception], Exception]
) -> list[Outcome]:
    """Commit a batch in as few transactions as it takes; what became of each change. Never raises.

    `explain` turns a fault of the database into the refusal that it stands for.
    """
    return [
        outcome if outcome.fault is None else Outcome(fault=explain(outcome.fault))
        for outcome in _committed(batch, commit)
    ]


def _committed(batch: Sequence[Job], commit: Commit) -> list[Outcome]:
    try:
        try:
            return commit(batch, apply_together)
        except NotTogetherError:
            if len(batch) == 1:
                raise
            return commit(batch, apply_apart)
    except NotBegunError as fault:
        # Nobody of the batch is to blame, and each alone would wait as long for whoever is in the way.
        return [Outcome(fault=cause_of(fault)) for _ in batch]
    except Exception as fault:  # noqa: BLE001  # The batch failed as a whole; who is to blame shows alone.
        return [Outcome(fault=cause_of(fault))] if len(batch) == 1 else _each_alone(batch, commit)


def _each_alone(batch: Sequence[Job], commit: Commit) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for job in batch:
        try:
            outcomes += commit([job], apply_together)
        except NotBegunError as fault:
            return outcomes + [Outcome(fault=cause_of(fault)) for _ in batch[len(outcomes) :]]
        except Exception as fault:  # noqa: BLE001  # It is told to whoever waits for this change.
            outcomes.append(Outcome(fault=cause_of(fault)))
    return outcomes


def cause_of(fault: Exception) -> Exception:
    """What the database or the change itself raised."""
    wraps = isinstance(fault, TransactionLostError | NotTogetherError | NotBegunError)
    return fault.__cause__ if wraps and isinstance(fault.__cause__, Exception) else fault


def apply_together(
    connection: sa.Connection, batch: Sequence[Job], now: Callable[[], datetime], take_back: TakeBack
) -> list[Outcome]:
    """Apply all, what they hand over written at the end. Raises `NotTogetherError`, or a fault of that."""
    del take_back  # No change is taken back here alone: all of them run again.
    group = Group(connection)
    outcomes: list[Outcome] = []
    for jobs in _pieces(batch):
        group.has_written = False
        tx = Transaction(connection, now, group)
        try:
            several = _outcomes(jobs, tx)
            tx.hand_over_events()
        except DorkError as refusal:
            if len(jobs) > 1 or group.has_written or group.fault is not None:
                raise NotTogetherError from refusal
            outcomes.append(Outcome(fault=refusal))
            continue
        except Exception as fault:
            raise NotTogetherError from fault
        if group.fault is not None:  # The change caught it, and what waited of others would be missing.
            raise NotTogetherError from group.fault
        outcomes += several
    group.write()
    return outcomes


def _pieces(batch: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in their order: those that are applied together as one piece, each of the others alone."""
    for kind, jobs in groupby(batch, lambda job: type(job.change)):
        if issubclass(kind, Alike):
            yield list(jobs)
        else:
            yield from ([job] for job in jobs)


def _outcomes(jobs: list[Job], tx: Transaction) -> list[Outcome]:
    if len(jobs) == 1:
        return [Outcome(value=_result(jobs[0], tx), has_events=bool(tx.events))]
    changes = [job.change for job in jobs]
    refusals = cast(Alike, changes[0]).together(tx, changes)
    return [Outcome(fault=refusal, has_events=refusal is None) for refusal in refusals]


def apply_apart(
    connection: sa.Connection, batch: Sequence[Job], now: Callable[[], datetime], take_back: TakeBack
) -> list[Outcome]:
    """Apply all, a savepoint each: one that raises rolls back alone. Raises `TransactionLostError`."""
    return [_apply_one(connection, job, now, take_back) for job in batch]


def return_to_savepoint(raw: Any) -> None:
    """Take back what the change under way has done so far; the transaction goes on after it."""
    raw.execute("ROLLBACK TO change")
    raw.execute("RELEASE change")


def _apply_one(
    connection: sa.Connection, job: Job, now: Callable[[], datetime], take_back: TakeBack
) -> Outcome:
    raw = connection.connection.dbapi_connection
    assert raw is not None
    execute: Callable[[str], object] = raw.execute
    execute("SAVEPOINT change")
    tx = Transaction(connection, now)
    try:
        value = _result(job, tx)
        tx.finish()
    except Exception as fault:  # It rolls back alone; the others of the batch go on.
        # A full disk may end the whole transaction. The next SAVEPOINT would silently open a new
        # one, and this batch's earlier changes would be answered without being stored.
        if not take_back(raw, fault):
            raise TransactionLostError from fault
        return Outcome(fault=fault)
    execute("RELEASE change")
    return Outcome(value=value, has_events=bool(tx.events))


def _result(job: Job, tx: Transaction) -> Any:
    """What the change returns. What it raises can be told to whoever waits for it."""
    try:
        return job.change(tx)
    except BaseException as fault:
        if isinstance(fault, Exception) and not isinstance(fault, StopIteration):
            raise
        # The one is refused by a future, which would leave unanswered whoever is told after; the others would
        # end the writer, and then nothing is stored any more.
        raise RuntimeError(f"A change ended with {type(fault).__name__}.") from fault
