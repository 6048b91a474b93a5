"""What `dorkos doctor` says of a PostgreSQL server and our database there. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.connections import migrating_postgres
from dorkos.db.doctor_state import examine_state
from dorkos.db.engine import postgres_url
from dorkos.db.finding import Finding, examined, fault, fine, refused, size, warning
from dorkos.db.migrate import status_postgres
from dorkos.errors import DorkError

_SLOW_MS = 50
_ROUND_TRIPS = 5


def examine_postgres(url: str, *, now: datetime) -> Iterator[Finding]:
    """The server and the database that the URL names, one finding after another. Raises nothing."""
    try:
        with migrating_postgres(url) as plain:
            # Whatever is asked below, the server itself would refuse a change.
            connection = plain.execution_options(postgresql_readonly=True)
            yield examined("database", lambda: _database(connection, url))
            yield examined("latency", lambda: _latency(connection))
            yield examined("commits", lambda: _commits(connection))
            try:
                status = status_postgres(url)
            except DorkError as refusal:
                yield refused("migrations", refusal)
                return
            yield from examine_state(connection, status, now=now)
    except DorkError as refusal:
        yield refused("database", refusal)
    except sa.exc.DBAPIError as broken:
        yield fault("database", f"PostgreSQL ended the connection: {broken.orig}", "Look at its log.")
    yield fine("backups", "made by PostgreSQL's own tools: pg_dump, or its continuous archive")


def _ask(connection: sa.Connection, query: str) -> str:
    with connection.begin():
        return str(connection.exec_driver_sql(query).scalar_one())


def _database(connection: sa.Connection, url: str) -> Finding:
    parsed = postgres_url(url)
    where = f"{parsed.host or 'local socket'}:{parsed.port or 5432}/{parsed.database or ''}"
    version, encoding = _ask(connection, "SHOW server_version"), _ask(connection, "SHOW server_encoding")
    bytes_used = int(_ask(connection, "SELECT pg_database_size(current_database())"))
    facts = {"location": where, "version": version, "encoding": encoding, "sizeBytes": bytes_used}
    told = f"PostgreSQL {version.split()[0]} at {where}, {encoding}, {size(bytes_used)}"
    if encoding != "UTF8":
        advice = "Make one that can hold every text: createdb -E UTF8 -T template0 dorkos"
        return fault("database", told, advice, **facts)
    if _ask(connection, "SELECT pg_is_in_recovery()") == "True":
        return fault(
            "database", f"{told}: a standby, which takes no changes", "Name the primary server.", **facts
        )
    return fine("database", told, **facts)


def _latency(connection: sa.Connection) -> Finding:
    taken = []
    with connection.begin():
        for _ in range(_ROUND_TRIPS):
            began = time.perf_counter()
            connection.exec_driver_sql("SELECT 1").scalar_one()
            taken.append((time.perf_counter() - began) * 1000)
    middle = round(sorted(taken)[len(taken) // 2], 2)
    told = f"{middle:.2f} ms for one question and its answer"
    if middle > _SLOW_MS:
        advice = "Each change asks several times: bring the server and its database closer together."
        return warning("latency", told, advice, milliseconds=middle)
    return fine("latency", told, milliseconds=middle)


def _commits(connection: sa.Connection) -> Finding:
    ours = _ask(connection, "SHOW synchronous_commit")
    default = _ask(connection, "SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'")
    synced, full = _ask(connection, "SHOW fsync"), _ask(connection, "SHOW full_page_writes")
    facts = {"synchronousCommit": ours, "default": default, "fsync": synced, "fullPageWrites": full}
    if synced != "on" or full != "on":
        name = "fsync" if synced != "on" else "full_page_writes"
        return fault(
            "commits",
            f"{name} is off there: a power cut can lose or destroy what was acknowledged",
            f"Set {name} = on in postgresql.conf.",
            **facts,
        )
    told = f"synchronous_commit is {ours}"
    if default != ours:
        told += f", as DorkOS asks for; the server's own default is {default}"
    return fine("commits", told, **facts)
