"""Commands that an Agent Client Protocol agent runs by its client: started, read, ended, and limited."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

OUTPUT_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024


@dataclass
class Terminal:
    """A command at work, or over. Of its output the end is kept."""

    process: asyncio.subprocess.Process
    limit: int
    output: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    async def read(self) -> None:
        """Take in what it prints until it is over."""
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(_READ_BYTES):
            self.output += data
            if len(self.output) > self.limit:
                del self.output[: len(self.output) - self.limit]
                self.truncated = True
        await self.process.wait()

    @property
    def text(self) -> str:
        """What was kept; a character that was cut in two is left out."""
        return self.output.decode("utf-8", "ignore")

    @property
    def exit(self) -> tuple[int | None, str | None] | None:
        """Its exit code, or the signal that ended it; None while it is at work."""
        code = self.process.returncode
        if code is None:
            return None
        return (code, None) if code >= 0 else (None, signal.Signals(-code).name)


class Terminals:
    """The commands of one session. They stay in the group of the run, so that its end is theirs."""

    def __init__(self) -> None:
        """None yet."""
        self._open: dict[str, Terminal] = {}
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._count = 0

    async def start(
        self, argv: list[str], *, cwd: str, environment: Mapping[str, str], limit: int | None
    ) -> str:
        """Start a command and answer its id. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._count += 1
        name = f"terminal-{self._count}"
        terminal = Terminal(process, min(limit or OUTPUT_BYTES, OUTPUT_BYTES))
        self._open[name] = terminal
        self._readers[name] = asyncio.create_task(terminal.read(), name=f"dorkos.{name}")
        return name

    def get(self, name: str) -> Terminal | None:
        """The command of this id, or None."""
        return self._open.get(name)

    async def wait(self, name: str) -> Terminal | None:
        """The command of this id once it is over."""
        if name not in self._open:
            return None
        await asyncio.shield(self._readers[name])
        return self._open[name]

    def kill(self, name: str) -> None:
        """End a command. Harmless once it is over."""
        terminal = self._open.get(name)
        if terminal is not None and terminal.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                terminal.process.kill()

    async def release(self, name: str) -> None:
        """End a command and forget it."""
        self.kill(name)
        self._open.pop(name, None)
        reader = self._readers.pop(name, None)
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def close(self) -> None:
        """End all of them."""
        for name in list(self._open):
            await self.release(name)
