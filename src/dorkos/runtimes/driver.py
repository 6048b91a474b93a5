"""What a driver is: a module that drives one kind of agent, in a child process of its own.

The libraries that talk to agents are loaded there and never in the server: one that leaks, hangs or crashes
ends that process, and what ends a run ends all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from dorkos.runtimes.events import Event, Result

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class DriverRequest:
    """What one run asks of an agent. The token is in the environment alone, as DORKOS_TOKEN."""

    prompt: str
    cwd: str
    permission_mode: str = "default"
    """One of `PermissionMode`: what may be done without asking."""
    system_context: str | None = None
    """What the agent is told about itself and why it runs, apart from the prompt."""
    resume: str | None = None
    """The session to go on with."""
    max_turns: int | None = None
    max_cost_microusd: int | None = None
    mcp_url: str | None = None
    """Where our own tools are served."""
    model: str | None = None
    argv: tuple[str, ...] = ()
    """The agent's program, where the driver does not bring its own."""

    def encoded(self) -> str:
        """The request as the driver reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def decoded(cls, text: str) -> DriverRequest:
        """The request in `text`. Raises ValueError."""
        said = json.loads(text)
        if not isinstance(said, dict) or not isinstance(said.get("prompt"), str):
            raise ValueError("a request is a JSON object with a prompt")
        known = {name: value for name, value in said.items() if name in cls.__slots__}
        known["argv"] = tuple(known.get("argv") or ())
        return cls(**known)


class Driver(Protocol):
    """A module that drives one kind of agent."""

    async def drive(self, request: DriverRequest, emit: Emit) -> Result:
        """Do the work, saying what happens by `emit`. A cancelled call has ended the agent when it returns.

        Raises `UnavailableError` if what it needs is not installed; anything else it raises is a failure.
        """
        ...


class UnavailableError(Exception):
    """What a driver needs is missing. `hint` says how to get it."""

    def __init__(self, message: str, *, hint: str) -> None:
        """`message` names what is missing."""
        super().__init__(message)
        self.hint = hint
