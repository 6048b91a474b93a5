"""Rows of the lineage in each of its tables, enough for several pages of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

ROWS = 60
_AT = "2026-02-27T08:07:00.001Z"


def fill_lineage(connection: sa.Connection) -> None:
    """Put them into a database at the first migration."""
    schedules = [
        {
            "id": f"S{number:03}",
            "name": f"näme {number}",
            "cron": "every day at noon" if number % 7 == 0 else "0 9 * * *",
            "timezone": "Mars/Olympus_Mons" if number % 11 == 0 else "UTC",
            "prompt": "do it " * 40,
            "status": "active",
            "created_at": _AT,
            "updated_at": _AT,
        }
        for number in range(ROWS)
    ]
    runs = [
        {
            "id": f"R{number:03}",
            "schedule_id": f"S{number % ROWS:03}",
            "status": ("running", "completed", "failed", "cancelled")[number % 4],
            "trigger": "scheduled",
            "started_at": _AT,
            "output": "x" * 500,
            "created_at": _AT,
        }
        for number in range(3 * ROWS)
    ]
    agents = [
        {
            "id": f"A{number:03}",
            "name": f"agent {number}",
            "runtime": "codex",
            "project_path": f"/srv/{number}",
            "namespace": "default",
            "capabilities_json": "[]",
            "status": "active",
            "registered_at": _AT,
            "updated_at": _AT,
        }
        for number in range(ROWS)
    ]
    messages = [
        {
            "id": f"M{number:03}",
            "subject": f"relay.team.{number % 5}",
            "endpoint_hash": hashlib.sha256(f"relay.team.{number % 5}".encode()).hexdigest()[:12],
            "status": ("pending", "delivered", "failed")[number % 3],
            "expires_at": "2099-01-01T00:00:00.000Z",
            "payload": json.dumps({"content": "y" * 300}),
            "created_at": _AT,
        }
        for number in range(3 * ROWS)
    ]
    traces = [
        {
            "id": f"T{number:03}",
            "message_id": f"M{number:03}",
            "trace_id": "t",
            "subject": "s",
            "status": "sent",
            "sent_at": _AT,
        }
        for number in range(ROWS)
    ]
    denials = [{"id": f"D{number}", "path": f"/no/{number}", "created_at": _AT} for number in range(ROWS)]
    buckets = [{"agent_id": f"A{n:03}", "bucket_minute": 29_539_673, "count": 7} for n in range(ROWS)]
    tables: Mapping[str, Sequence[Mapping[str, object]]] = {
        "pulse_schedules": schedules,
        "pulse_runs": runs,
        "agents": agents,
        "relay_index": messages,
        "relay_traces": traces,
        "agent_denials": denials,
        "rate_limit_buckets": buckets,
    }
    for table, rows in tables.items():
        columns = {column["name"] for column in sa.inspect(connection).get_columns(table)}
        names = [name for name in rows[0] if name in columns]
        marks = ", ".join(f":{name}" for name in names)
        quoted = ", ".join(f'"{name}"' for name in names)
        connection.execute(sa.text(f"INSERT INTO {table} ({quoted}) VALUES ({marks})"), rows)
