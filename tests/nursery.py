"""Servers that begin as a copy of a process that has loaded the program already.

Most of what a server costs until it is ready is the loading of modules, and the tests start some hundred
servers. Here one process, for each worker, loads them once and forks: the child takes the environment, the
folder and the output that were asked for, and runs `dorkos up` as the command line does. Where the start of a
program is the fact, a test starts a real one instead.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
# More than an environment takes.
_REQUEST = 1 << 20


class Child:
    """A process that the nursery forked, spoken to as to one of our own."""

    def __init__(self, asked: socket.socket, output: int) -> None:
        """`asked` tells its id, and later how it ended."""
        self._asked = asked
        self._code: int | None = None
        self.stdout = os.fdopen(output)
        self.pid = int(self._told())

    def poll(self) -> int | None:
        """How it ended; None while it lives."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """How it ended: an exit code, or a signal as a negative number."""
        if self._code is None:
            self._asked.settimeout(timeout)
            try:
                self._code = int(self._told())
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("dorkos up", timeout or 0.0) from None
            self._asked.close()
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def _told(self) -> bytes:
        told = self._asked.recv(64)
        if not told:
            raise RuntimeError("the nursery has ended; what it wrote stands above")
        return told


def start(words: Sequence[str], environment: Mapping[str, str]) -> Child:
    """`dorkos` with these words, in the folder of this process; its output and its errors are one stream."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    request = json.dumps({"words": list(words), "environment": dict(environment), "folder": str(Path.cwd())})
    try:
        socket.send_fds(_nursery(), [request.encode()], [theirs.fileno(), write])
    finally:
        theirs.close()
        os.close(write)
    return Child(ours, read)


@cache
def _nursery() -> socket.socket:
    """The way to the process of this worker; it ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            cwd=_ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("DORK")},
        )

    def end() -> None:
        ours.close()
        process.wait(timeout=30)

    atexit.register(end)
    return ours


def main() -> int:
    """Load the program, and fork on request. Each child comes back from there to be a command of its own."""
    from dorkos.cli.main import main as command_line
    from dorkos.db.engine import sqlite_driver

    # What takes long, and what every server imports after all: when it locks and migrates.
    for name in ("dorkos.serving", "alembic.operations", "alembic.runtime.migration", "filelock"):
        importlib.import_module(name)
    sqlite_driver()

    assert threading.active_count() == 1, "a fork would leave the other threads behind"
    gc.freeze()
    words = _forked_on_request()
    return 0 if words is None else command_line(words)


def _forked_on_request() -> list[str] | None:
    """In a child the words of its command; None when nobody can ask any more."""
    with ExitStack() as stack:
        asking = stack.enter_context(socket.socket(fileno=os.dup(0)))
        woken, wake = map(stack.enter_context, socket.socketpair())
        wake.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # Whoever presses Ctrl-C means the tests, which end this.
        signal.set_wakeup_fd(wake.fileno())
        ready = stack.enter_context(selectors.DefaultSelector())
        ready.register(asking, selectors.EVENT_READ)
        ready.register(woken, selectors.EVENT_READ)
        children: dict[int, socket.socket] = {}
        while True:
            if woken in [key.fileobj for key, _ in ready.select()]:
                woken.recv(4096)
                _tell_ends(children)
                continue
            request, fds, _, _ = socket.recv_fds(asking, _REQUEST, 2)
            if not request:
                return None
            told = socket.socket(fileno=fds[0])
            child = os.fork()
            if child == 0:
                for other in (told, *children.values()):
                    other.close()
                break
            os.close(fds[1])
            told.send(str(child).encode())
            children[child] = told
        signal.set_wakeup_fd(-1)
    return _become(json.loads(request), fds[1])


def _become(asked: dict[str, Any], output: int) -> list[str]:
    """Take the surroundings that were asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, what in enumerate((nothing, output, output)):
        os.dup2(what, number)
    for what in (nothing, output):
        os.close(what)
    # Those of before know what they were opened on.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1, errors="backslashreplace")
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    words: list[str] = asked["words"]
    return words


def _tell_ends(children: dict[int, socket.socket]) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        with children.pop(child) as told, suppress(OSError):  # Whoever asked may be gone.
            told.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    sys.exit(main())
