"""Processes of this machine that are not our children: is it still the same one, and killing its group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from datetime import datetime

import psutil

from dorkos.node import process_started_at

_KILLED_WITHIN_S = 2.0
_LOOK_S = 0.05
# A server registers within seconds of its start. A process with its id that began later than this is
# another one. Generous, because the time of the registration may come from the database's clock.
_REGISTERED_WITHIN_S = 120.0


def is_same_process(pid: int, started_at: str | None) -> bool:
    """Whether the process that was recorded still runs. One that only waits to be reaped does not."""
    return started_at is not None and process_started_at(pid) == started_at and not _is_zombie(pid)


def server_is_gone(pid: int, registered_at: datetime) -> bool:
    """Whether a server process of this boot of this machine is provably not running any more.

    It is if the id is free, is ours (then we got it after the other ended), or belongs to a process that
    began well after the server registered. In doubt it is not, and its leases decide.
    """
    if pid == os.getpid():
        return True
    try:
        began = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
    return _is_zombie(pid) or began > registered_at.timestamp() + _REGISTERED_WITHIN_S


async def kill_orphan(pid: int, started_at: str) -> bool:
    """Kill the group led by exactly this process. Returns whether it is over.

    Only an exact match is killed: an id may have been given to somebody else's process by now.
    """
    deadline = time.monotonic() + _KILLED_WITHIN_S
    while is_same_process(pid, started_at):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_LOOK_S)
    return True


def has_another_process(pid: int, started_at: str | None) -> bool:
    """Whether the id belongs to a process that began at another time: then none of ours has it any more."""
    found = process_started_at(pid)
    return found is not None and found != started_at


async def kill_remains(pid: int) -> bool:
    """Kill what is left of a group whose leader has ended. Returns whether nothing of it is left.

    A run's program may end while a child it started in its group goes on. The system gives the id of a
    group to nobody else while the group has members, so whatever is in it is the run's. The caller has
    made sure that no other process has the id by now.
    """
    deadline = time.monotonic() + _KILLED_WITHIN_S
    while members := [member for member in psutil.pids() if _is_member(member, pid)]:
        if time.monotonic() > deadline:
            return False
        for member in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        await asyncio.sleep(_LOOK_S)
    return True


def _is_member(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group and not _is_zombie(pid)
    except OSError:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
