"""The process that servers of the tests are copies of."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import nursery
from tests.server_process import PROGRAM, READY, ServerProcess


def test_a_copy_has_the_surroundings_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its environment, its folder and its output, and it tells how it ended."""
    monkeypatch.chdir(tmp_path)
    child = nursery.start(["status"], {"DORK_HOME": "a hömé", "PATH": os.environ["PATH"]})
    with child.stdout as said:
        assert str(tmp_path / "a hömé") in said.read()
    assert child.wait(timeout=30) == 6
    assert child.poll() == 6


def test_a_copy_that_is_killed_was_killed(tmp_path: Path) -> None:
    """Told as it is of processes of our own; another lives on meanwhile."""
    killed, other = (
        nursery.start(["up", "--port", "0"], {**os.environ, "DORK_HOME": str(tmp_path / name)})
        for name in "ab"
    )
    for child in (killed, other):
        assert any(line.startswith(READY) for line in child.stdout)
    killed.kill()
    assert killed.wait(timeout=30) == -signal.SIGKILL
    assert other.poll() is None
    other.send_signal(signal.SIGTERM)
    other.stdout.read()
    assert other.wait(timeout=30) == 0
    for child in (killed, other):
        child.stdout.close()


@pytest.mark.parametrize(
    ("program", "environment", "copied"),
    [
        (None, {}, True),
        (PROGRAM, {}, False),
        (None, {"PYTHONUTF8": "0"}, False),
        (None, {"LC_ALL": "C"}, False),
    ],
)
def test_what_an_interpreter_looks_at_first_makes_a_start_from_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: tuple[str, ...] | None,
    environment: dict[str, str],
    copied: bool,
) -> None:
    """As does a program that is named."""
    asked: list[Mapping[str, str]] = []
    monkeypatch.setattr(nursery, "start", lambda _words, given: asked.append(given))
    server = ServerProcess(tmp_path, boundary=tmp_path, environment=environment, program=program)
    server._copy(server.environment)
    assert bool(asked) is copied
