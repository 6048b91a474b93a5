"""A part of a transaction that can be taken back alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from dorkos.db.faults import explain


@contextmanager
def savepoint(connection: sa.Connection) -> Iterator[None]:
    """Keep what the block does, or take it back if it raises; the transaction around it goes on.

    A full disk ends that as a whole on SQLite, savepoints and all. Then the refusal that the fault stands for
    is raised, which is for whoever began the transaction.
    """
    nested = connection.begin_nested()
    try:
        yield
    except BaseException as fault:
        if _is_over(connection):
            # There is nothing left to go back to: asking for it would only hide why.
            explained = explain(fault) if isinstance(fault, Exception) else fault
            if explained is fault:
                raise
            raise explained from fault
        nested.rollback()
        raise
    nested.commit()


def _is_over(connection: sa.Connection) -> bool:
    raw = connection.connection.dbapi_connection
    return connection.dialect.name == "sqlite" and raw is not None and not raw.in_transaction
