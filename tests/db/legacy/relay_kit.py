"""The homes of DorkOS for Node for tests of what Relay makes of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from dorkos.db.legacy import mesh, relay
from dorkos.db.legacy.home import LegacyHome
from dorkos.db.legacy.report import Report

FIXTURES = Path(__file__).parents[2] / "fixtures" / "legacy"
HOMES = (
    "home-three-databases",
    "home-node-0002",
    "home-node-0004",
    "home-wal",
    "home-upgraded-by-server",
)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
FOLDERS = ("new", "cur", "failed")


@dataclass(frozen=True, slots=True)
class Collected:
    """What was read of a home: rows by table, and the report."""

    rows: dict[str, list[dict[str, Any]]]
    report: Report

    def by_id(self, table: str) -> dict[str, dict[str, Any]]:
        """The rows of a table by their ids, which must differ."""
        found = {row["id"]: row for row in self.rows[table]}
        assert len(found) == len(self.rows[table])
        return found

    def mailbox(self, name: str) -> dict[str, Any]:
        """The mailbox of this hash."""
        (found,) = (row for row in self.rows["relay_endpoints"] if row["hash"] == name)
        return found

    def delivery(self, mailbox: str, message_id: str) -> dict[str, Any]:
        """The delivery of a message to the mailbox of this hash."""
        endpoint_id = self.mailbox(mailbox)["id"]
        (found,) = (
            row
            for row in self.rows["relay_index"]
            if row["endpoint_id"] == endpoint_id and row["message_id"] == message_id
        )
        return found


@cache
def expected(home: str) -> dict[str, Any]:
    """The content of a fixture home as its makers wrote it down."""
    content: dict[str, Any] = json.loads((FIXTURES / "expected" / f"{home}.json").read_text("utf-8"))
    return content


def expected_files(home: str) -> list[tuple[str, str, str, dict[str, Any]]]:
    """Every message file of a home: mailbox, folder, file id, envelope."""
    return [
        (mailbox, folder, file_id, held["envelope"] if folder == "failed" else held)
        for mailbox, folders in expected(home)["mailboxes"].items()
        for folder in FOLDERS
        for file_id, held in folders[folder].items()
    ]


def expected_rows(home: str, *tables: str) -> list[tuple[str, dict[str, Any]]]:
    """Every row of these tables in all databases of a home, with where it stands."""
    return [
        (f"{database} {table}", row)
        for database, content in expected(home)["databases"].items()
        for table in tables
        for row in content["tables"].get(table, {"rows": []})["rows"]
    ]


def copy_of(home: str, folder: Path) -> Path:
    """A home that a test may change."""
    return Path(shutil.copytree(FIXTURES / home, folder / home))


def collect(path: Path) -> Collected:
    """Read everything of Relay from a home."""
    report = Report()
    with LegacyHome(path, report) as home:
        agents = mesh.collect(home, Report(), NOW)["agents"]
        return Collected(relay.collect(home, report, NOW, agents=agents), report)


@cache
def collected(home: str) -> Collected:
    """What is read of an untouched fixture home. Reading leaves no trace, so it may stay in place."""
    return collect(FIXTURES / home)
