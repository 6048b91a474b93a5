"""Processes that a run started and that left its group, found by what they carry: the id of the run.

A program may put what it starts into a session of its own, as Claude Code does with every command it runs and
as daemons do. No signal to the group reaches those, and once their parent is gone nothing leads to them but
their environment. One that drops the variable, or belongs to another user, is not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "DORKOS_RUN_ID"
_WITHIN_S = 2.0
_LOOK_S = 0.02
_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "environ").exists()


def end_strays(run_id: str, *, within_s: float = _WITHIN_S) -> bool:
    """Kill every process that carries the id of the run, but this one. Returns whether none is left.

    Looks again until there is none: one that is found too late may have started another. Blocks; takes some
    milliseconds where there is nothing to kill.
    """
    deadline = time.monotonic() + within_s
    while True:
        # Those that only wait to be reaped have no environment any more.
        found = [pid for pid in _ours() if pid != os.getpid() and _carries(pid, run_id)]
        if not found:
            return True
        for pid in found:
            _kill(pid, run_id)
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)


def _ours() -> Iterator[int]:
    if _HAS_PROC:
        yield from (int(name) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208  # Twice as fast.
    else:
        yield from psutil.pids()


def _carries(pid: int, run_id: str) -> bool:
    try:
        if _HAS_PROC:
            with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:  # noqa: PTH123  # Hundreds of them.
                return f"{MARK}={run_id}".encode() in file.read().split(b"\0")
        return psutil.Process(pid).environ().get(MARK) == run_id
    except (OSError, psutil.Error):
        return False  # It has ended, or belongs to somebody else.


def _kill(pid: int, run_id: str) -> None:
    """Kill it, unless the id has gone over to another process since."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, signal.SIGKILL)
            return
        handle = os.pidfd_open(pid)
        try:
            if _carries(pid, run_id):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
