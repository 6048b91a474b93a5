"""The data directory: where everything of one DorkOS lies, and the lock that only one server can hold."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file, write_file
from dorkos.storable import clean_text

if TYPE_CHECKING:
    from filelock import BaseFileLock

# A lock is given back when its object is collected: whoever drops a Home must not open its directory.
_held_for_life: list[BaseFileLock] = []


class Home:
    """A data directory. Making the object touches nothing; `prepare` makes the directory."""

    def __init__(self, path: Path) -> None:
        """`path` may be relative, a link, and hold any character; it is resolved once, here.

        Raises `home_unwritable` where links lead in a circle.
        """
        self.path = path
        try:
            self.path = path.expanduser().resolve()
        except (OSError, RuntimeError) as fault:
            raise self._unwritable(str(fault)) from fault
        self._held: BaseFileLock | None = None

    @property
    def database_path(self) -> Path:
        """The SQLite database."""
        return self.path / "dork.db"

    @property
    def token_path(self) -> Path:
        """The operator's token."""
        return self.path / "token"

    @property
    def backups_path(self) -> Path:
        """Where snapshots go."""
        return self.path / "backups"

    @property
    def config_path(self) -> Path:
        """The settings file. Beside it may lie the `config.json` of DorkOS for Node."""
        return self.path / "config.toml"

    @property
    def log_path(self) -> Path:
        """What the server logs, as JSON lines; older files lie beside it, as `dorkos.log.1` and so on."""
        return self.path / "logs" / "dorkos.log"

    @property
    def server_path(self) -> Path:
        """Where the running server says which address it listens on: for the command line to find it."""
        return self.path / "server.json"

    @property
    def lock_path(self) -> Path:
        """The file whose lock a server holds. It stays when the server ends: only the lock counts."""
        return self.path / "lock"

    @property
    def holder_path(self) -> Path:
        """The process id of who took the lock last: for people to read, nothing decides by it."""
        return self.path / "lock.pid"

    def prepare(self) -> None:
        """Make the directory, readable by its owner alone, and prove that it can be written.

        The mode of a directory that exists is left alone. Raises `home_unwritable`, also for a path that is
        no text: it stands in answers and files, which are.
        """
        if clean_text(str(self.path)) != str(self.path):
            raise self._unwritable("its path is not UTF-8")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Only writing proves it: modes do not bind root, and a disk may be read-only.
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as fault:
            raise self._unwritable(fault.strerror or str(fault)) from fault

    def lock(self) -> None:
        """Take the lock and hold it until `unlock` or the end of the process, however it ends.

        It is a lock of the operating system on an open file, so a kill leaves nothing stale behind, and
        it counts for every path that leads to this directory. Raises `home_locked` at once if another
        holds it, also within this process; `home_unwritable` if the file cannot be made.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.lock_path, timeout=0, thread_local=False, mode=0o600)
        try:
            lock.acquire()
        except Timeout as fault:
            raise self._locked() from fault
        except OSError as fault:
            raise self._unwritable(fault.strerror or str(fault)) from fault
        self._held = lock
        _held_for_life.append(lock)
        with contextlib.suppress(OSError):  # Information only: without it the refusal names no process.
            write_file(self.holder_path, f"{os.getpid()}\n")

    def unlock(self) -> None:
        """Give the lock back. Safe to call without holding it."""
        if self._held is None:
            return
        with contextlib.suppress(OSError):
            self.holder_path.unlink(missing_ok=True)
        self._held.release()
        _held_for_life.remove(self._held)
        self._held = None

    def is_locked(self) -> bool:
        """Whether a process holds the lock, found out without making or changing a file.

        The lock is tried, shared and for an instant, only where a trace of a holder is left: so a look does
        not come in the way of a server that is about to take it, save on the heels of one that was killed.
        """
        if not (self.holder_path.exists() or self.server_path.exists()):
            return False
        import fcntl

        try:
            descriptor = os.open(self.lock_path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)  # And with it the shared lock, if it was had.
        return False

    def _locked(self) -> DorkError:
        try:
            holder = f" (process {int(read_file(self.holder_path).decode('ascii'))})"
        except (OSError, ValueError):
            holder = ""
        return DorkError(
            ErrorCode.HOME_LOCKED,
            f"Another DorkOS server{holder} holds the data directory {self.path}.",
            hint="Stop that server, or start this one on a directory of its own with --home.",
            details={"home": str(self.path)},
        )

    def _unwritable(self, reason: str) -> DorkError:
        return DorkError(
            ErrorCode.HOME_UNWRITABLE,
            f"The data directory {self.path} cannot be made or written: {reason}.",
            hint="Name another with --home or DORK_HOME, or correct its owner and mode.",
            details={"home": str(self.path)},
        )
