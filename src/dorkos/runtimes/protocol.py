"""What every runtime offers: start the work of one run, read what it prints, wait for it, end it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dorkos.vocabulary import OutputStream


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What to start. `argv` and `environment` are complete: nothing is inherited or passed to a shell."""

    argv: tuple[str, ...]
    prompt: str
    cwd: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with an exit code, or by a signal (its number), never both."""

    code: int | None
    signal: int | None

    @property
    def ok(self) -> bool:
        """Whether it says that it succeeded."""
        return self.code == 0


class StartFailedError(Exception):
    """The work could not begin. The message is for the person who set it up."""


class RuntimeProcess(Protocol):
    """Work that was started. It is a process group of its own, ended as a whole."""

    @property
    def pid(self) -> int:
        """The id of its process and of its group."""
        ...

    def output(self) -> AsyncIterator[tuple[OutputStream, bytes]]:
        """What it prints, in the order in which it arrived, until everything was read.

        Nothing is read ahead of the consumer beyond small buffers: a slow consumer slows the program.
        May be called once. Ends soon after the process even if a process that left its group keeps the
        pipe open.
        """
        ...

    async def wait(self) -> Exit:
        """How it ended. Whatever it left running in its group is killed first. May be called again."""
        ...

    async def terminate(self, grace_s: float) -> Exit | None:
        """Ask the group to end, kill it after `grace_s`. None if it is still there soon after that."""
        ...

    def kill(self) -> None:
        """Kill the group now. Harmless once it has ended."""
        ...

    async def close(self) -> None:
        """Kill whatever is left and free pipes and handles. Always call it; harmless to repeat."""
        ...


class Runtime(Protocol):
    """A way to do the work of a run."""

    async def start(self, spec: RunSpec) -> RuntimeProcess:
        """Start it. Raises `StartFailedError`."""
        ...
