"""What DorkOS for Node left in a home, and how far it had led its database."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dorkos.db.legacy.mendable import refuse_mendable
from dorkos.errors import DorkError, ErrorCode

DATABASE = "dork.db"
# Where a home of the lineage kept its state before it had a `dork.db`.
OLDER_STORES = ("pulse.db", "schedules.json", "mesh/mesh.db", "relay/index.db")
# Any of these makes a directory a home of the lineage.
STORES = (
    DATABASE,
    *OLDER_STORES,
    "relay/mailboxes",
    "relay/access-rules.json",
    "relay/adapters.json",
    "relay/subscriptions.json",
)
LEDGER = "__drizzle_migrations"

# Hash and instant (milliseconds since 1970) of the three migrations that are opened in place: 0000, 0001
# and 0002. Its ids are NULL in every row.
_KNOWN = frozenset(
    (
        ("f2a7dcaafc18719c17634aa5f1916f01bf02026edf4fa8d7bc823ec974783075", 1772141678848),
        ("122b8403caf2442cacf1b7446c3ea3252aa3d868370355bbe0c7a55835430b5b", 1772142245164),
        ("0e9a1c66fce8ac60d9fa0615129aaba194d5468848dcabcf2b6c2fab582f9e04", 1772143064263),
    )
)


def is_known(ledger: Iterable[tuple[object, object]]) -> bool:
    """Whether a ledger, as pairs of hash and instant, holds the three known migrations and nothing else."""
    rows = list(ledger)
    return len(rows) == len(_KNOWN) and frozenset(rows) == _KNOWN


def holds_any_store(home: Path) -> bool:
    """Whether a directory may be a home of the lineage.

    Raises what `refuse_mendable` raises: a folder that may not be entered is not an empty one.
    """
    return any(_may_be_there(home / store) for store in STORES)


def holds_store_beside(home: Path) -> bool:
    """Whether a directory holds a store of the lineage other than a `dork.db`. Raises as above."""
    return any(_may_be_there(home / store) for store in STORES if store != DATABASE)


def holds_only_older_stores(home: Path) -> bool:
    """Whether a home has no `dork.db` yet, but a store that the lineage had before it. Raises as above."""
    if any(_may_be_there(home / f"{DATABASE}{suffix}") for suffix in ("", "-wal")):
        return False
    return any(_may_be_there(home / store) and (home / store).is_file() for store in OLDER_STORES)


def refuse_to_hide(home: Path) -> None:
    """Raise `database_lineage` where a new database would hide older stores: nobody would look at them again.

    Raises as above, too.
    """
    if holds_only_older_stores(home):
        raise DorkError(
            ErrorCode.DATABASE_LINEAGE,
            f"{home} holds what DorkOS for Node left, which was not taken over yet. Nothing was changed.",
            hint=f"Take it over first: dorkos --home '{home}' db migrate. Or name another data directory.",
        )


def _may_be_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError as fault:
        refuse_mendable(path, fault)
    return True
