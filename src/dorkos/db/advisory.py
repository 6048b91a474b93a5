"""Taking turns: changes that look before they write, and must not look at the same time as another."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from dorkos.db.database import Transaction


class Turn(IntEnum):
    """What is done by one change at a time. The numbers are arbitrary and ours: those before them are the
    locks of the events, of migrations and of the fleet's mode."""

    RUNS_ARE_CHOSEN = 0x444F524B_0004
    AGENTS_TAKE_PLACES = 0x444F524B_0005


class _Lock(sa.ColumnElement[Any]):
    """The advisory lock on PostgreSQL; nothing on SQLite, whose one writer needs none."""

    inherit_cache = False

    def __init__(self, turn: Turn) -> None:
        self.turn = turn


@compiles(_Lock)
def _no_lock(_lock: _Lock, _compiler: Any, **_options: Any) -> str:
    return "NULL"


@compiles(_Lock, "postgresql")
def _postgres_lock(lock: _Lock, _compiler: Any, **_options: Any) -> str:
    return f"pg_advisory_xact_lock({lock.turn.value})"


def take(tx: Transaction, turn: Turn) -> None:
    """Wait until no other change has the turn, and have it until this one ends.

    What is read after it is as the one before left it: each statement looks anew.
    """
    tx.execute(sa.select(_Lock(turn).label("taken")))
