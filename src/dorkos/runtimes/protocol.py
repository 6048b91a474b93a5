"""What every runtime offers: take one turn of an agent, say what happens, be waited for, be ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dorkos.runtimes.events import Event
from dorkos.vocabulary import OutputStream, PermissionMode


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What one turn is given. `argv` and `environment` are complete: nothing is inherited.

    `argv` is the program of a runtime that needs one to be named, and empty otherwise. The token of the run
    is in the environment alone, as DORKOS_TOKEN.
    """

    argv: tuple[str, ...]
    prompt: str
    cwd: Path
    environment: Mapping[str, str]
    permission_mode: PermissionMode = PermissionMode.DEFAULT
    system_context: str | None = None
    """What the agent is told about itself and why it runs, apart from the prompt."""
    resume: str | None = None
    """The session to go on with."""
    mcp_url: str | None = None
    """Where our own tools are served to it."""
    max_runtime_ms: int | None = None
    """When it will be ended, counted from its start. Whoever started it keeps this time."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How the work ended: with an exit code, or by a signal (its number), never both."""

    code: int | None
    signal: int | None

    @property
    def ok(self) -> bool:
        """Whether it says that it succeeded."""
        return self.code == 0


@dataclass(frozen=True, slots=True)
class Printed:
    """Bytes that a program printed and that are no event."""

    stream: OutputStream
    data: bytes


Said = Event | Printed


class StartFailedError(Exception):
    """The work could not begin. The message is for the person who set it up."""


class Turn(Protocol):
    """Work that was started. Where it is a process, it is a group of its own, ended as a whole."""

    @property
    def pid(self) -> int | None:
        """The id of its process and of its group; None for work inside this process."""
        ...

    def events(self) -> AsyncIterator[Said]:
        """What it says and prints, in the order in which it arrived, until everything was read.

        Nothing is read ahead of the consumer beyond small buffers: a slow consumer slows the program.
        May be called once. Ends soon after the process even if a process that left its group keeps the
        pipe open.
        """
        ...

    async def wait(self) -> Exit:
        """How it ended. Whatever it left running is killed first, in its group or out of it. May be called
        again."""
        ...

    async def terminate(self, grace_s: float) -> Exit | None:
        """Ask it to end, kill it after `grace_s`. None if it is still there soon after that."""
        ...

    def kill(self) -> None:
        """Kill it now. Harmless once it has ended."""
        ...

    async def close(self) -> None:
        """Kill whatever is left and free pipes and handles. Always call it; harmless to repeat."""
        ...


class Runtime(Protocol):
    """A way to take the turns of an agent."""

    @property
    def reports(self) -> bool:
        """Whether work of this kind says its result itself; if so, ending without one is a failure."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether its work ends with this process, leaving nothing behind that could be at work."""
        ...

    async def start(self, spec: RunSpec) -> Turn:
        """Start it. Raises `StartFailedError`."""
        ...
