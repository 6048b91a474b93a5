"""What a server really stores: ids are ULIDs, instants are text of one width, deliveries use three words."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from dorkos.db.engine import sqlite_driver
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Instant, Ulid
from tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("stored")

_ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# The tables that the operations below fill.
_FILLED = {
    *("agents", "agent_denials", "pulse_schedules", "pulse_slots", "pulse_runs", "pulse_run_output"),
    *("relay_endpoints", "relay_messages", "relay_index", "relay_dead_letters", "events", "tokens", "nodes"),
    *("schema_ledger", "system_state"),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A database that a server filled by what people and agents ask of it."""
    folder = tmp_path_factory.mktemp("used")
    with ServerProcess(folder / "home", boundary=folder) as server:
        with server.client() as client, client.stream("GET", "/api/events") as stream:
            _use(client, stream.iter_lines(), folder)
        assert server.stop(signal.SIGTERM) == 0
    with closing(sqlite_driver().connect(str(folder / "home" / "dork.db"))) as connection:
        yield connection


def _use(client: httpx.Client, lines: Iterator[str], folder: Path) -> None:
    """Register, schedule, run, send, claim, acknowledge, reject, deny, hold and resume."""

    def ask(method: str, where: str, /, **body: Any) -> Any:
        answer = client.request(method, f"/api/{where}", json=body or None)
        assert answer.is_success, answer.text
        return answer.json()

    project = folder / "worker"
    (project / ".dork").mkdir(parents=True)
    argv = [sys.executable, "-c", "print('done')"]
    manifest = {"name": "worker", "runtime": "command", "entrypoint": argv}
    (project / ".dork" / "agent.json").write_text(json.dumps(manifest), encoding="utf-8")
    agent = ask("POST", "mesh/agents", path=str(project))
    (folder / "denied").mkdir()
    ask("POST", "mesh/deny", path=str(folder / "denied"), reason="private")

    what = {"prompt": "work", "cwd": str(folder), "command": argv}
    every_second = ask("POST", "pulse/schedules", name="often", cron="* * * * * *", **what)
    _until(lines, "pulse.run.finished")
    ask("PATCH", f"pulse/schedules/{every_second['id']}", enabled=False)
    manual = ask("POST", "pulse/schedules", name="asked", cron="@manual", **what)
    ask("POST", f"pulse/schedules/{manual['id']}/trigger")
    ask("POST", "relay/messages", subject=agent["subject"], payload={"content": "hello"})
    _until(lines, "relay.delivery.acked")

    inbox = "relay.human.ada"
    ask("POST", "relay/endpoints", subject=inbox)
    for number in range(3):
        ask("POST", "relay/messages", subject=inbox, payload=number)
    first, second = ask("POST", f"relay/endpoints/{inbox}/claim", limit=2)["deliveries"]
    ask("POST", f"relay/endpoints/{inbox}/ack", messageId=first["messageId"], leaseToken=first["leaseToken"])
    ask(
        "POST",
        f"relay/endpoints/{inbox}/nack",
        messageId=second["messageId"],
        leaseToken=second["leaseToken"],
        reject=True,
    )
    ask("POST", "system/fleet", mode="hold", reason="test")
    ask("POST", "system/fleet", mode="running")


def _until(lines: Iterator[str], kind: str) -> None:
    """Read the stream through the next event of this kind."""
    next(line for line in lines if line == f"event: {kind}")


def test_every_part_left_rows(stored: Any) -> None:
    """Otherwise the tests below would look at nothing."""
    empty = [table for table in sorted(_FILLED) if not stored.execute(f"SELECT 1 FROM {table}").fetchone()]
    assert empty == []


def test_every_id_is_a_ulid(stored: Any) -> None:
    """In every column that holds one, of every table."""
    wrong = [
        f"{table.name}.{column.name}: {value!r}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, Ulid)
        for (value,) in stored.execute(f"SELECT {column.name} FROM {table.name}")
        if value is not None and not (isinstance(value, str) and _ULID.fullmatch(value))
    ]
    assert wrong == []


def test_every_instant_is_text_of_one_width(stored: Any) -> None:
    """Never an integer, never of another form: only so is the order of texts the order of times."""
    wrong = [
        f"{table.name}.{column.name}: {kind} {value!r}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, Instant)
        for kind, value in stored.execute(f"SELECT typeof({column.name}), {column.name} FROM {table.name}")
        if kind != "null" and not (kind == "text" and _INSTANT.fullmatch(value))
    ]
    assert wrong == []


def test_deliveries_are_pending_delivered_or_failed(stored: Any) -> None:
    """One of each was made here; the lineage's API asked for `new` and `cur`, which no row ever said."""
    found = {status for (status,) in stored.execute("SELECT DISTINCT status FROM relay_index")}
    assert found == {"pending", "delivered", "failed"}


def test_migrations_are_in_the_ledger_and_in_no_number(stored: Any) -> None:
    """`user_version` is nobody's business here."""
    assert stored.execute("PRAGMA user_version").fetchone() == (0,)
    assert stored.execute("SELECT count(*) FROM schema_ledger").fetchone()[0] >= 5
