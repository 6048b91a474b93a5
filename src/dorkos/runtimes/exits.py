"""Watching a child process end, and killing what it leaves behind before its id can be used again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading

from dorkos.runtimes.protocol import Exit


class ExitWatch:
    """Waits for the end of a process that leads a group, without reaping it first.

    As long as the process is not reaped, its id, which is also the group's, belongs to it: signals to the
    group can only reach what it started. So its end is noticed first, then the group is killed, and only
    then is it reaped. After that no signal is sent any more.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """Begin to watch. Needs a running event loop; uses no thread where the system has pidfds."""
        self._process = process
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Exit] = self._loop.create_future()
        self._pidfd: int | None = None
        self._watch()

    @property
    def done(self) -> bool:
        """Whether the process has ended and was reaped."""
        return self.future.done()

    async def wait(self) -> Exit:
        """How it ended."""
        return await asyncio.shield(self.future)

    def signal_group(self, number: int) -> None:
        """Send a signal to the whole group; nothing if the process was reaped already."""
        if not self.done:
            # On macOS a group of which only the ended leader is left answers PermissionError.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def signal_leader(self, number: int) -> None:
        """Send a signal to the process alone; nothing if it was reaped already."""
        if not self.done:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _watch(self) -> None:
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):  # Kernels and sandboxes without it.
                self._pidfd = os.pidfd_open(self._process.pid)
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._ended)
        else:
            threading.Thread(target=self._wait_in_thread, name="dorkos-child", daemon=True).start()

    def _wait_in_thread(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        if self.done:
            return
        self.signal_group(signal.SIGKILL)
        code = self._process.wait()
        self.future.set_result(Exit(code, None) if code >= 0 else Exit(None, -code))
