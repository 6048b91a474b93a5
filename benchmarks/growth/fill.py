"""A database with a history: so many messages that were delivered, and as many runs that ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from benchmarks.ours import SUBJECT, Ours
from dorkos.db.database import Database
from dorkos.db.engine import sqlite_driver
from dorkos.db.schema.system import SEARCH_KEY
from dorkos.home import Home
from dorkos.ids import new_id
from dorkos.relay import search
from dorkos.relay.subjects import subject_hash

SCHEDULES = 100
_CHUNK = 50_000
# One instant of one schedule after the other, so many seconds apart.
APART_S = 6
FIRST_DAY = "2026-01-01"
_AT = f"strftime('%Y-%m-%dT%H:%M:%S.000Z', '{FIRST_DAY}', (n * {APART_S}) || ' seconds')"
_NUMBERS = (
    "WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {end}) "
)
MAILBOX = new_id()
RARE = "zanzibar"

_BEGIN = (
    f"""
INSERT INTO relay_endpoints (id, subject, hash, position, created_at)
VALUES ('{MAILBOX}', '{SUBJECT}', '{subject_hash(SUBJECT)}', {{count}}, '{FIRST_DAY}T00:00:00.000Z')
""",
    f"""{_NUMBERS.format(first=0, end=SCHEDULES)}
INSERT INTO pulse_schedules (id, name, prompt, command, decided_until, created_at, updated_at)
SELECT printf('01S%023d', n), 'job ' || n, 'go', '["true"]', at, at, at
FROM (SELECT n, {_AT} AS at FROM numbers)
""",
)
_ROWS = (
    f"""
INSERT INTO relay_messages (id, subject, sender, payload, bytes, chain_id, hop_count, max_hops, created_at)
SELECT printf('01J%023d', n), '{SUBJECT}', 'relay.human.writer',
    '{{"content": "The report for today is ready.", "number": ' || n || '}}', 60, printf('01J%023d', n),
    1, 5, {_AT}
FROM numbers
""",
    f"""
INSERT INTO relay_index
    (id, message_id, endpoint_id, position, status, available_at, created_at, delivered_at)
SELECT printf('01J%023d', n), printf('01J%023d', n), '{MAILBOX}', n + 1, 'delivered', at, at, at
FROM (SELECT n, {_AT} AS at FROM numbers)
""",
    f"""
INSERT INTO relay_traces
    (id, message_id, trace_id, endpoint_id, subject, sender, status, hop_count, sent_at, delivered_at,
    latency_us)
SELECT printf('01J%023d', n), printf('01J%023d', n), printf('01J%023d', n), '{MAILBOX}', '{SUBJECT}',
    'relay.human.writer', 'delivered', 1, at, at, 5000
FROM (SELECT n, {_AT} AS at FROM numbers)
""",
    f"""
INSERT INTO events (kind, entity_id, actor, at, data)
SELECT 'relay.message.published', printf('01J%023d', n), 'relay.human.writer', {_AT}, '{{}}' FROM numbers
""",
    f"""
INSERT INTO pulse_slots
    (id, schedule_id, due_at, through_at, count, verdict, reason, revision, decided_at)
SELECT printf('01J%023d', n), printf('01S%023d', n % {SCHEDULES}), at, at, 1, 'run', 'due', 1, at
FROM (SELECT n, {_AT} AS at FROM numbers)
""",
    f"""
INSERT INTO pulse_runs
    (id, schedule_id, slot_id, status, prompt, chain_id, created_at, started_at, finished_at, duration_ms)
SELECT printf('01J%023d', n), printf('01S%023d', n % {SCHEDULES}), printf('01J%023d', n),
    CASE WHEN n % 7 = 0 THEN 'failed' ELSE 'completed' END, 'go', printf('01J%023d', n), at, at, at, 1000
FROM (SELECT n, {_AT} AS at FROM numbers)
""",
)
_WORDS = (
    "INSERT INTO relay_search (id, message_id) SELECT n + 1, printf('01J%023d', n) FROM numbers",
    f"""
INSERT INTO relay_search_words (rowid, words)
SELECT n + 1, 'content the report for today is ready number ' || n || iif(n % 100 = 0, ' {RARE}', '')
FROM numbers
""",
)
# How far the index is: a server has nothing to make up for.
_INDEXED = (
    f"""
INSERT INTO system_state (key, value)
SELECT '{SEARCH_KEY}', json_object(
    'epoch', (SELECT value FROM system_state WHERE key = 'epoch'),
    'position', (SELECT max(position) FROM events),
    'after', NULL
)
""",
)


class Stored(Ours):
    """DorkOS with `count` messages, deliveries, hops, events, due instants and runs in its past."""

    def __init__(self, count: int) -> None:
        """Nothing is made yet."""
        super().__init__()
        self.count = count

    def _database(self, home: Home) -> Database:
        database = super()._database(home)
        self.path = home.database_path
        _fill(self.path, (text.format(count=self.count) for text in _BEGIN), _ROWS, self.count, alone=True)
        return database

    async def _open_mailbox(self) -> None:
        """It is there. What is not migrated but derived, the search index and the numbers, is made."""
        await self.database.write(search.make)
        await asyncio.to_thread(_fill, self.path, _INDEXED, _WORDS, self.count)
        await self.system.relay.metering.work()


def _fill(path: Path, begin: Iterable[str], rows: Iterable[str], count: int, *, alone: bool = False) -> None:
    with closing(sqlite_driver().connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        if alone:
            # Else gigabytes would go through the WAL first.
            connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("BEGIN")
        for text in begin:
            connection.execute(text)
        for text in rows:
            for first in range(0, count, _CHUNK):
                numbers = _NUMBERS.format(first=first, end=min(first + _CHUNK, count))
                connection.execute(numbers + text)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
