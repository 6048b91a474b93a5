"""Comparing two databases' catalogues: the one that is, and the one that is declared.

Alembic's autogenerate misses changed CHECKs and partial indexes, so both catalogues are read in full.
A catalogue says for each table which facts hold, a fact being a name such as `column cron` with a
normalised description; what engines only spell differently (case, quotes, spaces) is no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from dorkos.db import drift_postgres, drift_sqlite
from dorkos.db.engine import sqlite_driver

Catalogue = Mapping[str, Mapping[str, str]]


def catalogue(connection: sa.Connection) -> Catalogue:
    """Every table of the connection's database (PostgreSQL: of its current schema). Changes nothing."""
    if connection.dialect.name == "postgresql":
        return drift_postgres.catalogue(connection)
    return drift_sqlite.catalogue(connection)


def declared_catalogue(metadata: sa.MetaData, connection: sa.Connection) -> Catalogue:
    """The catalogue that `metadata` leads to on the connection's engine. Made once for each state of it.

    On SQLite it is built in memory, on PostgreSQL as temporary tables (which need no right to make
    schemas) inside a savepoint that is rolled back; the connection must be in a transaction there.
    """
    if connection.dialect.name == "sqlite":
        return declared_sqlite(metadata)
    engine = f"postgresql {connection.dialect.server_version_info}"
    return _kept(metadata, engine, partial(_made_on_postgres, metadata, connection))


def declared_sqlite(metadata: sa.MetaData) -> Catalogue:
    """The catalogue of a database in memory that was made from `metadata`."""
    return _kept(metadata, "sqlite", partial(_made_in_memory, metadata))


def _kept(metadata: sa.MetaData, engine: str, make: Callable[[], Catalogue]) -> Catalogue:
    tables = metadata.tables.values()
    parts = ((table.columns, table.constraints, table.indexes) for table in tables)
    # A declaration only ever grows.
    state = (len(tables), *(len(part) for three in parts for part in three))
    made: dict[str, tuple[tuple[int, ...], Catalogue]] = metadata.info.setdefault("dorkos.catalogues", {})
    if engine not in made or made[engine][0] != state:
        made[engine] = (state, make())
    return made[engine][1]


def _made_on_postgres(metadata: sa.MetaData, connection: sa.Connection) -> Catalogue:
    attempt = connection.begin_nested()
    try:
        connection.exec_driver_sql("SET LOCAL search_path TO pg_temp")
        metadata.create_all(connection, checkfirst=False)
        return catalogue(connection)
    finally:
        attempt.rollback()


def _made_in_memory(metadata: sa.MetaData) -> Catalogue:
    engine = sa.create_engine("sqlite://", module=sqlite_driver(), poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            metadata.create_all(connection, checkfirst=False)
            return catalogue(connection)
    finally:
        engine.dispose()


def differences(a: Catalogue, b: Catalogue, *, names: tuple[str, str] = ("a", "b")) -> list[str]:
    """What differs, one sentence each, naming table and column; empty means alike."""
    in_a, in_b = names
    found = [f"table {table} is only in {in_a}" for table in sorted(a.keys() - b.keys())]
    found += [f"table {table} is only in {in_b}" for table in sorted(b.keys() - a.keys())]
    for table in sorted(a.keys() & b.keys()):
        left, right = a[table], b[table]
        for fact in sorted(left.keys() | right.keys()):
            if fact not in right:
                found.append(f"{table}: {fact} ({left[fact]}) is only in {in_a}")
            elif fact not in left:
                found.append(f"{table}: {fact} ({right[fact]}) is only in {in_b}")
            elif left[fact] != right[fact]:
                found.append(f"{table}: {fact} is {left[fact]} in {in_a} and {right[fact]} in {in_b}")
    return found


def live_differences(connection: sa.Connection, metadata: sa.MetaData) -> list[str]:
    """How our tables in a database that is in use differ from `metadata`; empty means not at all.

    Tables that are not ours are passed over: replication tools and extensions keep theirs beside them.
    """
    declared = declared_catalogue(metadata, connection)
    live = _only(catalogue(connection), declared.keys())
    return differences(live, declared, names=("the database", "the code"))


def _only(whole: Catalogue, tables: Collection[str]) -> Catalogue:
    return {table: facts for table, facts in whole.items() if table in tables}
