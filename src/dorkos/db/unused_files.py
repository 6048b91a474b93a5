"""What lies in a data directory and is not looked at, because the state is kept in PostgreSQL.

Whoever sets `database.url` on a directory that was in use finds an empty DorkOS, and has lost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dorkos.db.legacy.recognition import DATABASE, holds_store_beside
from dorkos.db.probe import probe_sqlite
from dorkos.errors import DorkError, ErrorCode


@dataclass(frozen=True, slots=True)
class UnusedFiles:
    """What is there, and what to do about it."""

    message: str
    advice: str


def unused_files(home: Path) -> UnusedFiles | None:
    """What a data directory holds that PostgreSQL stands in the place of; None if nothing.

    Reads only. What cannot be looked at is passed over: it must not keep a server from starting that has no
    use for it.
    """
    try:
        state = probe_sqlite(home / DATABASE)
    except DorkError as refusal:
        return _of_node(home) if refusal.code is ErrorCode.DATABASE_LINEAGE else None
    if state is not None and state.entries:
        return UnusedFiles(
            f"{home / DATABASE} is not used: database.url names PostgreSQL",
            "If its rows were not brought over, take `database.url` away to go on with it, or move it by "
            "`dorkos db transfer URL` into an empty database. If they were, put the file elsewhere.",
        )
    try:
        return _of_node(home) if holds_store_beside(home) else None
    except DorkError:
        return None


def _of_node(home: Path) -> UnusedFiles:
    return UnusedFiles(
        f"What DorkOS for Node left in {home} is not used: database.url names PostgreSQL",
        f"If it was not brought over: dorkos db adopt '{home}' --database URL. If it was, put it elsewhere.",
    )
