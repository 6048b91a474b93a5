"""What was read of Relay, written: every value as it was collected, on both engines, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.connections import migrating_postgres, migrating_sqlite
from dorkos.db.legacy.adopt import Adoption, adopt_into_postgres, adopt_into_sqlite
from dorkos.db.legacy.collecting import Rules
from dorkos.db.legacy.report import PART
from dorkos.db.schema.relay import relay_endpoints, relay_index, relay_messages
from dorkos.db.schema.tables import metadata
from dorkos.testing import create_sqlite_file, empty_postgres
from dorkos.vocabulary import DeliveryStatus
from tests.db.legacy.relay_kit import FIXTURES, HOMES, NOW, Collected, collected, copy_of

_RULES = Rules(lambda _cron, _zone: None, None)
_TABLES = (
    "relay_adapters",
    "relay_endpoints",
    "relay_messages",
    "relay_index",
    "relay_dead_letters",
    "relay_traces",
    "relay_rules",
)
_CONSOLE = "relay.system.console"


def _adopt(source: Path, target: Path) -> Adoption:
    target.parent.mkdir(parents=True, exist_ok=True)
    return adopt_into_sqlite(
        source,
        target,
        backups=target.parent / "backups",
        clock=ManualClock(NOW),
        rules=_RULES,
        say=lambda _text: None,
    )


def _rows(connection: sa.Connection, table: str) -> dict[str, dict[str, Any]]:
    return {row["id"]: dict(row) for row in connection.execute(metadata.tables[table].select()).mappings()}


def _content(connection: sa.Connection) -> dict[str, list[Any]]:
    return {
        name: list(connection.execute(table.select().order_by(*table.primary_key)))
        for name, table in metadata.tables.items()
    }


@contextmanager
def _adopted(home: str, engine: str, folder: Path) -> Iterator[sa.Connection]:
    if engine == "sqlite":
        _adopt(FIXTURES / home, folder / "target" / "dork.db")
        with migrating_sqlite(folder / "target" / "dork.db") as connection:
            yield connection
        return
    with empty_postgres() as url:
        adopt_into_postgres(
            FIXTURES / home, url, clock=ManualClock(NOW), rules=_RULES, say=lambda _text: None
        )
        with migrating_postgres(url) as connection:
            yield connection


def _compare(connection: sa.Connection, read: Collected) -> None:
    for table in _TABLES:
        stored = _rows(connection, table)
        expected = read.by_id(table)
        assert stored.keys() == expected.keys()
        for row_id, row in expected.items():
            for column, value in row.items():
                if column not in (PART, "created_at", "updated_at") or table.startswith("relay_m"):
                    assert stored[row_id][column] == value, f"{table} {row_id} {column}"


@pytest.mark.parametrize("home", HOMES)
def test_every_row_is_written_as_it_was_read(home: str, tmp_path: Path) -> None:
    """Every table of Relay, every column, in SQLite."""
    with _adopted(home, "sqlite", tmp_path) as connection:
        _compare(connection, collected(home))


@pytest.mark.parametrize("home", ["home-three-databases", "home-node-0002"])
def test_every_row_is_written_as_it_was_read_on_postgresql(home: str, tmp_path: Path) -> None:
    """Among them U+0000 and a lone surrogate, which its text could not hold unescaped."""
    with _adopted(home, "postgresql", tmp_path) as connection:
        _compare(connection, collected(home))


@pytest.mark.parametrize("home", HOMES)
def test_the_second_import_adds_nothing(home: str, tmp_path: Path) -> None:
    """And says so: what it finds is there already, and every table stays as it was."""
    target = tmp_path / "target" / "dork.db"
    first = _adopt(FIXTURES / home, target)
    with migrating_sqlite(target) as connection:
        before = _content(connection)
    second = _adopt(FIXTURES / home, target)
    with migrating_sqlite(target) as connection:
        assert _content(connection) == before
    assert first.added > 0
    assert second.added == 0
    for part, count in first.report.parts.items():
        if "relay" in part:
            assert count.added + count.already == count.found
            assert second.report.count_of(part).already == count.found


def test_the_second_import_adds_nothing_on_postgresql() -> None:
    """Mailboxes are found again by their subjects, and their counts stay."""
    home = FIXTURES / "home-three-databases"
    with empty_postgres() as url:
        first, second = (
            adopt_into_postgres(home, url, clock=ManualClock(NOW), rules=_RULES, say=lambda _text: None)
            for _ in range(2)
        )
        with migrating_postgres(url) as connection:
            endpoints = _rows(connection, "relay_endpoints")
    assert first.added > 0
    assert second.added == 0
    assert endpoints.keys() == collected(home.name).by_id("relay_endpoints").keys()
    for endpoint_id, row in collected(home.name).by_id("relay_endpoints").items():
        for column in ("position", "pending_count", "pending_bytes"):
            assert endpoints[endpoint_id][column] == row[column]


@pytest.mark.parametrize("home", HOMES)
def test_every_source_says_how_much_of_it_came(home: str, tmp_path: Path) -> None:
    """A delivery that a file and an index row both tell of counts for both."""
    report = _adopt(FIXTURES / home, tmp_path / "target" / "dork.db").report
    for part, count in report.parts.items():
        if "relay" in part:
            assert (count.added, count.already, count.unreadable) == (count.found, 0, 0), part


def _with_mail(path: Path) -> str:
    """A database that has a console already, with one message waiting at position 7."""
    path.parent.mkdir(parents=True)
    create_sqlite_file(path)
    endpoint_id, message_id, delivery_id = (f"01ARZ3NDEKTSV4RRFFQ69G5FA{letter}" for letter in "VWX")
    with migrating_sqlite(path) as connection, connection.begin():
        connection.execute(
            relay_endpoints.insert(),
            {
                "id": endpoint_id,
                "subject": _CONSOLE,
                "hash": "8806c7805369",
                "position": 7,
                "pending_count": 1,
                "pending_bytes": 4,
                "created_at": NOW,
            },
        )
        connection.execute(
            relay_messages.insert(),
            {
                "id": message_id,
                "chain_id": message_id,
                "subject": _CONSOLE,
                "payload": "null",
                "bytes": 4,
                "hop_count": 0,
                "max_hops": 5,
                "created_at": NOW,
            },
        )
        connection.execute(
            relay_index.insert(),
            {
                "id": delivery_id,
                "message_id": message_id,
                "endpoint_id": endpoint_id,
                "position": 7,
                "available_at": NOW,
                "created_at": NOW,
            },
        )
    return endpoint_id


def test_a_mailbox_that_is_there_already_takes_the_old_mail_behind_its_own(tmp_path: Path) -> None:
    """It keeps its id; positions go on, and the counts are those of what waits."""
    target = tmp_path / "target" / "dork.db"
    endpoint_id = _with_mail(target)
    _adopt(FIXTURES / "home-three-databases", target)
    read = collected("home-three-databases").mailbox("8806c7805369")
    with migrating_sqlite(target) as connection:
        (console,) = (
            row for row in _rows(connection, "relay_endpoints").values() if row["subject"] == _CONSOLE
        )
        lying = [
            row for row in _rows(connection, "relay_index").values() if row["endpoint_id"] == endpoint_id
        ]
        messages = _rows(connection, "relay_messages")
    assert console["id"] == endpoint_id
    assert sorted(row["position"] for row in lying) == list(range(7, 8 + read["position"]))
    assert console["position"] == 7 + read["position"]
    pending = [row for row in lying if row["status"] is DeliveryStatus.PENDING]
    assert console["pending_count"] == len(pending) == 1 + read["pending_count"]
    assert console["pending_bytes"] == sum(messages[row["message_id"]]["bytes"] for row in pending)


def test_two_homes_share_their_mailboxes(tmp_path: Path) -> None:
    """Each brings its own mail to the same subjects; agents, rules and counts stay consistent."""
    target = tmp_path / "target" / "dork.db"
    _adopt(FIXTURES / "home-three-databases", target)
    _adopt(FIXTURES / "home-node-0002", target)
    with migrating_sqlite(target) as connection:
        endpoints = _rows(connection, "relay_endpoints")
        deliveries = _rows(connection, "relay_index")
        messages = _rows(connection, "relay_messages")
    first, second = collected("home-three-databases"), collected("home-node-0002")
    assert len(deliveries) == len(first.rows["relay_index"]) + len(second.rows["relay_index"])
    assert len({row["subject"] for row in endpoints.values()}) == len(endpoints)
    for endpoint_id, endpoint in endpoints.items():
        lying = [row for row in deliveries.values() if row["endpoint_id"] == endpoint_id]
        pending = [row for row in lying if row["status"] is DeliveryStatus.PENDING]
        assert len({row["position"] for row in lying}) == len(lying)
        assert endpoint["position"] == max((row["position"] for row in lying), default=0)
        assert endpoint["pending_count"] == len(pending)
        assert endpoint["pending_bytes"] == sum(messages[row["message_id"]]["bytes"] for row in pending)


def test_a_home_that_grew_brings_only_what_is_new(tmp_path: Path) -> None:
    """One more message in an old mailbox: it stands behind the others, and they stay as they are."""
    home = copy_of("home-three-databases", tmp_path)
    target = tmp_path / "target" / "dork.db"
    _adopt(home, target)
    envelope = {
        "id": "01KM0000000000000000000000",
        "subject": _CONSOLE,
        "from": "relay.human.ada",
        "budget": {"hopCount": 1, "maxHops": 5, "ancestorChain": [_CONSOLE], "callBudgetRemaining": 9},
        "createdAt": "2026-03-18T10:00:00.000Z",
        "payload": "late",
    }
    path = home / "relay/mailboxes/8806c7805369/new/01KM0000000000000000000001.json"
    path.write_text(json.dumps(envelope), "utf-8")
    grown = _adopt(home, target)
    count = grown.report.count_of("relay/mailboxes")
    assert (count.added, count.already) == (1, count.found - 1)
    with migrating_sqlite(target) as connection:
        deliveries = _rows(connection, "relay_index")
        late = deliveries["01KM0000000000000000000001"]
        mailbox = _rows(connection, "relay_endpoints")[late["endpoint_id"]]
    same = [row for row in deliveries.values() if row["endpoint_id"] == late["endpoint_id"]]
    assert late["position"] == mailbox["position"] == max(row["position"] for row in same)
    assert len({row["position"] for row in same}) == len(same)
