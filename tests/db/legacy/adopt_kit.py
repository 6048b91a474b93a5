"""Homes of DorkOS for Node brought over as the program does it, for tests of what is stored then."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dorkos import storage
from dorkos.clock import ManualClock
from dorkos.db.engine import sqlite_driver
from dorkos.home import Home
from dorkos.testing import create_sqlite_file
from tests.db.legacy.relay_kit import FIXTURES

if TYPE_CHECKING:
    from dorkos.db.legacy.adopt import Adoption

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NOW_TEXT = "2026-11-24T12:00:00.000Z"
# What differs between two databases that hold the same.
_OF_THE_FILE = ("epoch", "schema_fingerprint", "relay:rules")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Target:
    """A data directory of ours."""

    home: Home

    def adopt(self, source: Path, *, url: str | None = None) -> Adoption:
        """Bring `source` over, as `dorkos db adopt` does."""
        return storage.adopt(self.home, source, url, ManualClock(NOW), lambda _: None)

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """What a query answers."""
        return rows_of(self.home.database_path, sql, *values)

    def by_id(self, table: str) -> dict[str, dict[str, Any]]:
        """A table by its ids."""
        return {row["id"]: row for row in self.rows(f"SELECT * FROM {table}")}

    def kept(self, key: str) -> str | None:
        """The original that is kept under `lineage:` and this key."""
        found = self.rows("SELECT value FROM system_state WHERE key = ?", f"lineage:{key}")
        return found[0]["value"] if found else None

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table, but what belongs to this file alone."""
        return dump_of(self.home.database_path)


def new_target(folder: Path) -> Target:
    """A data directory with a migrated, empty database. `folder` must not exist."""
    target = Target(Home(folder))
    target.home.prepare()
    create_sqlite_file(target.home.database_path)
    return target


def copy_of(name: str, folder: Path) -> Path:
    """A fixture home that a test may change."""
    return Path(shutil.copytree(FIXTURES / name, folder / name))


def rows_of(database: Path, sql: str, *values: object) -> list[dict[str, Any]]:
    """What a query answers on any SQLite file; undecodable bytes of texts are shown by `surrogateescape`."""
    with closing(sqlite_driver().connect(str(database))) as connection:
        connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
        cursor = connection.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def dump_of(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of a database of ours, but what belongs to the file alone."""
    tables = [
        row["name"]
        for row in rows_of(
            database, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        if row["name"] != "schema_ledger"
    ]
    dump = {table: rows_of(database, f'SELECT * FROM "{table}"') for table in tables}
    dump["system_state"] = [row for row in dump["system_state"] if row["key"] not in _OF_THE_FILE]
    return {table: sorted(rows, key=repr) for table, rows in dump.items()}


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@cache
def sums() -> dict[str, str]:
    """The SHA-256 of each fixture file, as noted when it was made."""
    lines = (FIXTURES / "SHA256SUMS").read_text("ascii").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def ulid_for(table: str, uuid: str, created_at: str) -> str:
    """The id that a row with a UUID gets, worked out from what is promised about it."""
    at = round(datetime.fromisoformat(created_at).timestamp() * 1000)
    number = (at << 80) | int.from_bytes(
        hashlib.sha256(f"dorkos:{table}:{uuid}".encode()).digest()[:10], "big"
    )
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def shown(value: object) -> object:
    """A value of the expected files as it is shown: the half emoji at the end of a text as one U+FFFD."""
    if isinstance(value, dict) and "$invalid_utf8_hex" in value:
        stored = bytes.fromhex(value["$invalid_utf8_hex"])
        assert stored.endswith(b"\xed\xa0\xbd")
        return stored[:-3].decode() + "\ufffd"
    return value


@cache
def _brought(name: str) -> tuple[Target, Adoption]:
    folder = Path(tempfile.mkdtemp(prefix="dorkos-brought-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = new_target(folder / "home")
    return target, target.adopt(FIXTURES / name)


def brought(name: str) -> Target:
    """A fixture home in a fresh data directory. Only to be read."""
    return _brought(name)[0]


def brought_adoption(name: str) -> Adoption:
    """What that import said."""
    return _brought(name)[1]
