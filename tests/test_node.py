"""What tells one process from another that got its id later."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from dorkos.node import current_boot_id, process_started_at, this_node


def test_the_start_of_a_process_does_not_move_with_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A living orphan must be recognised after the machine's clock was set."""
    before = process_started_at(os.getpid())
    # What the library answers is a time of day, and moves when the clock is set.
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 0.0)

    assert before is not None
    assert process_started_at(os.getpid()) == before


def test_another_process_started_at_another_time() -> None:
    """Also one whose name holds spaces and parentheses."""
    code = "import ctypes; ctypes.CDLL(None).prctl(15, b') (x 1', 0, 0, 0); print(flush=True); input()"
    program = [sys.executable, "-c", code]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        started_at = process_started_at(child.pid)
        child.communicate(b"\n")

    assert started_at is not None
    assert started_at.replace(".", "").isdigit()
    assert started_at != process_started_at(os.getpid())
    assert process_started_at(child.pid) is None


def test_each_life_of_a_server_is_a_node_of_its_own() -> None:
    """Same host, boot and process, another id."""
    one, two = this_node(), this_node()

    assert one.id != two.id
    assert (one.host, one.boot_id, one.pid) == (two.host, two.boot_id, two.pid)
    assert one.boot_id == current_boot_id()
