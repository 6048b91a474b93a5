"""Where the databases of tests are."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dorkos import testing


@pytest.mark.parametrize(("free", "taken"), [(2 * 1024**3, True), (2 * 1024**3 - 1, False)])
def test_memory_is_used_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, taken: bool
) -> None:
    """A container's few megabytes would be full in the middle of a run."""
    monkeypatch.setattr(testing, "_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert testing.folder_in_memory() == (tmp_path if taken else None)


def test_without_a_folder_in_memory_the_usual_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system that has none, a database is made where temporary files are."""
    monkeypatch.setattr(testing, "_MEMORY", tmp_path / "none")
    assert testing.folder_in_memory() is None
    with testing._sqlite_copy() as path:
        assert path.stat().st_size


class Slow:
    """A PostgreSQL that takes its time."""

    def __init__(self) -> None:
        self.faults: list[Exception] = [AssertionError(), subprocess.TimeoutExpired("pg_ctl", 10)]

    def start(self) -> None:
        if self.faults:
            raise self.faults.pop()


def test_a_postgresql_that_starts_slowly_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up at first, then found starting, at last ready; though not for ever."""
    monkeypatch.setattr(testing, "_LOOK_S", 0)
    server = Slow()
    testing.start_patiently(server)
    assert server.faults == []
    monkeypatch.setattr(testing, "_STARTED_WITHIN_S", -1)
    with pytest.raises(subprocess.TimeoutExpired):
        testing.start_patiently(Slow())


def test_programs_of_tests_hear_an_interrupt() -> None:
    """Also in a run that a shell has started in the background, for which it has such signals ignored."""
    program = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
