"""The catalogues that the migrations lead through, read from a database that is thrown away."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dorkos.clock import SystemClock
from dorkos.db.apply import apply_pending
from dorkos.db.connections import migrating_sqlite
from dorkos.db.drift import Catalogue, catalogue
from dorkos.db.ledger import revisions


def replay(directory: Path) -> list[Catalogue]:
    """What an empty SQLite database holds before the first migration and after each, in order.

    Raises `migration_failed` for a migration that cannot run.
    """
    known = revisions(directory)
    found: list[Catalogue] = [{}]
    with (
        tempfile.TemporaryDirectory(prefix="dorkos-replay-") as folder,
        migrating_sqlite(Path(folder) / "dork.db") as connection,
    ):
        for count in range(1, len(known) + 1):
            apply_pending(connection, known[:count], clock=SystemClock(), say=_silent)
            with connection.begin():
                found.append(catalogue(connection))
    return found


def _silent(_: str) -> None:
    pass
