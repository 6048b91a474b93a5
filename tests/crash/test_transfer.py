"""Some dozens of batches of rows on their way to PostgreSQL, and a kill in the middle.

`TRANSFER_ROWS=200000 make test ARGS='tests/crash/test_transfer.py'` moves more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dorkos.clock import SystemClock
from dorkos.db.engine import sqlite_driver
from dorkos.db.exporting import export_to_file
from dorkos.db.importing import import_export
from dorkos.db.migrate import migrate_postgres
from dorkos.db.rows import BATCH_ROWS
from dorkos.db.transfer import transfer_to_postgres
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres

_ROWS = int(os.environ.get("TRANSFER_ROWS", "48000"))
_EACH = _ROWS // 4
# A transfer that kills its own process, as nothing but kill -9 does, when so many rows are in.
_KILLED = """
import os, signal, sys
from pathlib import Path
from dorkos.clock import SystemClock
from dorkos.db.transfer import transfer_to_postgres

def progress(what, done, total):
    if what == "copying" and done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

transfer_to_postgres(Path(sys.argv[1]), sys.argv[2], clock=SystemClock(), progress=progress)
"""


def _fill(path: Path) -> None:
    create_sqlite_file(path)
    at = "2026-03-01T09:00:00.000Z"
    ids = [f"01J{number:023}" for number in range(_EACH)]
    tables: dict[str, list[tuple[object, ...]]] = {
        "relay_endpoints (id, subject, hash, created_at)": [("01E", "relay.human.ada", "abc", at)],
        "relay_messages (id, subject, sender, payload, bytes, chain_id, hop_count, max_hops, created_at)": [
            (i, "relay.human.ada", "relay.human.bob", f'{{"content": "ö {i}"}}', 40, i, 0, 5, at) for i in ids
        ],
        "relay_index (id, message_id, endpoint_id, position, available_at, created_at)": [
            (i, i, "01E", number, at, at) for number, i in enumerate(ids)
        ],
        "relay_traces (id, message_id, trace_id, subject, status, sent_at, latency_us)": [
            (i, i, i, "relay.human.ada", "sent", at, 2**40 + number) for number, i in enumerate(ids)
        ],
        "events (kind, entity_id, at, data)": [("relay.message.published", i, at, "{}") for i in ids],
    }
    with closing(sqlite_driver().connect(str(path), isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for table, rows in tables.items():
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        connection.execute("COMMIT")


@pytest.mark.timeout(240)
def test_a_large_transfer_survives_a_kill_and_comes_back_the_same(tmp_path: Path) -> None:
    """Killed half-way it is not served, resumes with what was in, and every digest is equal in the end."""
    source = tmp_path / "dork.db"
    _fill(source)
    before = source.read_bytes()
    with empty_postgres() as url:
        command = [sys.executable, "-c", _KILLED, str(source), url, str(_ROWS // 2)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        with pytest.raises(DorkError) as refusal:
            migrate_postgres(url, clock=SystemClock())
        assert refusal.value.code is ErrorCode.MOVE_UNFINISHED

        moved = transfer_to_postgres(source, url, clock=SystemClock())
        assert _ROWS // 2 <= moved.resumed < _ROWS // 2 + 2 * BATCH_ROWS
        assert moved.tables["events"].rows == _EACH
        assert source.read_bytes() == before

        exported = export_to_file(url, to=tmp_path / "export.jsonl", folder=tmp_path, clock=SystemClock())
        assert exported.digest == moved.digest
    with (tmp_path / "export.jsonl").open("rb") as file:
        back = import_export(file, tmp_path / "back.db", backups=tmp_path, clock=SystemClock())
    assert back.digest == moved.digest
