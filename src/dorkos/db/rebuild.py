"""Rebuilding tables inside a migration, the same way on both engines.

The old tables are copied aside into temporary tables and dropped; the revision then creates the new
ones from its own frozen definitions and carries the rows over. Names never collide this way (on
PostgreSQL constraint names are unique in a schema), and on SQLite the stored CREATE TABLE reads as if
the table had never been another. The copy is part of the transaction: a crash leaves the old tables.

Dropping a parent would delete its children if SQLite's foreign keys were on, so the runner turns them
off before it begins. On PostgreSQL every table that refers to a rebuilt one must be rebuilt with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import sqlalchemy as sa

from dorkos.db.step import Step

_BATCH = 500


class Aside:
    """The rows of the tables that were set aside, as they were stored."""

    def __init__(self, step: Step) -> None:
        """Belong to one step."""
        self._step = step

    def rows(self, table: str, order_by: str) -> Iterator[dict[str, Any]]:
        """Every row of the old `table`, streamed in the order of these columns."""
        statement = sa.text(f'SELECT * FROM "{_aside(table)}" ORDER BY {order_by}')  # noqa: S608 - Names come from a revision.
        result = self._step.connection.execute(statement, execution_options={"yield_per": _BATCH})
        for row in result.mappings():
            yield dict(row)


@contextmanager
def rebuilding(step: Step, *tables: str) -> Iterator[Aside]:
    """Set `tables` aside and drop them; inside the block the revision makes and fills their successors.

    Every row must be carried over by the block: the runner counts, and refuses a table that lost rows.
    """
    run = step.connection.exec_driver_sql
    for table in tables:
        run(f'CREATE TEMPORARY TABLE "{_aside(table)}" AS SELECT * FROM "{table}"')  # noqa: S608 - As above.
    if step.dialect == "postgresql":
        # One statement, so that tables which refer to each other need no order.
        run("DROP TABLE " + ", ".join(f'"{table}"' for table in tables))
    else:
        for table in tables:
            run(f'DROP TABLE "{table}"')
    yield Aside(step)
    for table in tables:
        run(f'DROP TABLE "{_aside(table)}"')


def fill(step: Step, table: sa.TableClause, rows: Iterable[Mapping[str, object]]) -> int:
    """Insert `rows`, which all have the same keys, in batches. Returns how many there were."""
    count = 0
    source = iter(rows)
    while batch := [dict(row) for row in islice(source, _BATCH)]:
        step.connection.execute(table.insert(), batch)
        count += len(batch)
    return count


def carry(step: Step, table: sa.Table) -> None:
    """Bring every row of the old table over as it stands. What is new takes its default.

    For tables whose old columns all live on under the same name and type.
    """
    present = step.connection.exec_driver_sql(f'SELECT * FROM "{_aside(table.name)}" LIMIT 0')  # noqa: S608 - As above.
    columns = ", ".join(f'"{name}"' for name in present.keys())  # noqa: SIM118 - A result, not a mapping.
    step.connection.exec_driver_sql(
        f'INSERT INTO "{table.name}" ({columns}) SELECT {columns} FROM "{_aside(table.name)}"'  # noqa: S608 - As above.
    )


def _aside(table: str) -> str:
    return f"aside_{table}"
