"""A real `dorkos up` in a process of its own, for tests that start, ask, kill and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import httpx

from tests import nursery

# A start from nothing, as a person starts it.
PROGRAM = ("-m", "dorkos")
_LOOKED_AT_ONCE = ("PYTHON", "LANG", "LC_")
READY = "DorkOS ready on "


class ServerProcess:
    """A server on a data directory and a free port. As a context manager it is started and stopped."""

    # Whether those without a program of their own are copies of a process that has loaded it.
    copied: ClassVar[bool] = False

    def __init__(
        self,
        home: Path,
        *,
        boundary: Path,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        """Nothing is started yet. `environment` adds to, and wins over, the usual one. Who names a program
        has it started from nothing.
        """
        self.home = home
        self.url = ""
        self.output: list[str] = []
        self._program = program
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DORK")},
            "DORK_HOME": str(home),
            "DORKOS_PORT": "0",
            "DORKOS_BOUNDARY": str(boundary),
            **(environment or {}),
        }
        self._process: subprocess.Popen[str] | nursery.Child | None = None
        self._drain: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """For other programs that should speak to this server."""
        return {**self._environment, "DORKOS_URL": self.url}

    @property
    def token(self) -> str:
        """The operator's token."""
        return (self.home / "token").read_text(encoding="ascii").strip()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self, extra: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it says that it is ready. `extra` variables hold for this one life."""
        environment = {**self._environment, **(extra or {})}
        self._process = self._copy(environment) or subprocess.Popen(
            [sys.executable, *(self._program or PROGRAM), "up"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output.append(line)
            if line.startswith(READY):
                self.url = line.removeprefix(READY).strip()
                # Keep the pipe empty, or the server would one day block on writing to it.
                self._drain = threading.Thread(
                    target=self._collect, args=(self._process.stdout,), daemon=True
                )
                self._drain.start()
                return
        self._process.wait()
        self._process.stdout.close()
        raise RuntimeError("the server ended before it was ready:\n" + "".join(self.output[-50:]))

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it in good order; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(how)
        try:
            code = self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()  # It would stay behind, and be in the way of all that comes after.
            raise
        self._close()
        return code

    def client(self, token: str | None = None) -> httpx.Client:
        """A client that speaks as the operator, or as whoever's token is given."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        # Nobody speaks TLS here: to load whom to trust then would take longer than most requests do.
        return httpx.Client(base_url=self.url, headers=headers, timeout=40, verify=False)

    def _copy(self, environment: Mapping[str, str]) -> nursery.Child | None:
        """None where it would not be the same: an interpreter looks at some variables when it starts."""
        if not self.copied or self._program is not None:
            return None
        names = {name for name in {*environment, *os.environ} if name.startswith(_LOOKED_AT_ONCE)}
        if any(environment.get(name) != os.environ.get(name) for name in names):
            return None
        return nursery.start(["up"], environment)

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if self._drain is not None:
            self._drain.join(timeout=30)
        self._process.stdout.close()

    def _collect(self, stdout: object) -> None:
        for line in stdout:  # type: ignore[attr-defined]  # A text stream.
            self.output.append(line)
