"""The `command` runtime: any program, as argv, with the prompt on its standard input or in an argument.

No shell is involved, so nothing in a prompt is ever interpreted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator, Mapping
from typing import IO

from dorkos.runtimes.events import Event, EventReader
from dorkos.runtimes.exits import ExitWatch
from dorkos.runtimes.protocol import Exit, Printed, RunSpec, Said, StartFailedError
from dorkos.runtimes.strays import MARK, end_strays
from dorkos.vocabulary import OutputStream

READ_BYTES = 16 * 1024
_WORDS = re.compile(r"\{(?:prompt|resume)\}")
_KILLED_WITHIN_S = 2.0
# After the end of the process its pipes are empty in no time. Only a process that left the group can keep
# one open; it is waited for this long and read this much further, then let go.
_AFTER_EXIT_S = 0.4
_AFTER_EXIT_BYTES = 1024 * 1024


_PROMPT = "{prompt}"


class CommandRuntime:
    """Starts programs of this machine."""

    reports = False
    in_process = False

    async def start(self, spec: RunSpec) -> CommandTurn:
        """Start the program in a session of its own. Raises `StartFailedError`, saying what is missing.

        `{prompt}` in an argument is replaced by the prompt. If no argument has it, the prompt is on the
        standard input; a program that gets it both ways would read it twice. `{resume}` is replaced by the
        session to go on with, or by nothing.
        """
        if not spec.argv:
            raise StartFailedError("The runtime `command` needs a program: name one as `command`.")
        words = {_PROMPT: spec.prompt, "{resume}": spec.resume or ""}
        stdin = "" if any(_PROMPT in argument for argument in spec.argv) else spec.prompt
        return await start_program([_filled(argument, words) for argument in spec.argv], spec, stdin)


def _filled(argument: str, words: Mapping[str, str]) -> str:
    """The argument with its words replaced, all at once: what a prompt says is never looked at."""
    return _WORDS.sub(lambda found: words[found[0]], argument)


async def start_program(
    argv: list[str], spec: RunSpec, stdin: str, *, ends_others: bool = False
) -> CommandTurn:
    """Start exactly this program, in the place and environment of `spec`. Raises `StartFailedError`.

    `ends_others`: when it is asked to end, only the program itself is asked, as it ends what it started.
    """
    handover = _Handover()
    try:
        # In a thread: starting waits for exec, which may wait for a slow disk.
        started = await asyncio.to_thread(lambda: handover.offer(_popen(argv, spec)))
    except asyncio.CancelledError:
        handover.refuse()
        raise
    turn = CommandTurn(started, run_id=spec.environment.get(MARK), ends_others=ends_others)
    await turn.connect(stdin.encode("utf-8", "replace"))
    return turn


def _popen(argv: list[str], spec: RunSpec) -> subprocess.Popen[bytes]:
    if not os.path.isdir(spec.cwd):  # noqa: PTH112  # Path.is_dir raises for a parent without permission.
        raise StartFailedError(f"The working directory {spec.cwd} does not exist or cannot be entered.")
    try:
        return subprocess.Popen(
            argv,
            cwd=spec.cwd,
            env=dict(spec.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError as fault:
        raise StartFailedError(
            f"The program {argv[0]!r}, or the interpreter it names, was not found"
            f" (PATH is {spec.environment.get('PATH', 'empty')})."
        ) from fault
    except PermissionError as fault:
        raise StartFailedError(f"{fault.filename or argv[0]} may not be executed or entered.") from fault
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else str(fault)
        raise StartFailedError(f"The program {argv[0]!r} could not be started: {reason}.") from fault


class _Handover:
    """Hands a process from the thread that started it to a caller, or kills it if the caller is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = False
        self._offered: subprocess.Popen[bytes] | None = None

    def offer(self, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            self._offered = process
            if self._refused:
                _end(process)
        return process

    def refuse(self) -> None:
        with self._lock:
            self._refused = True
            if self._offered is not None:
                _end(self._offered)


def _end(process: subprocess.Popen[bytes]) -> None:
    with process, contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _said(piece: Event | bytes) -> Said:
    return Printed(OutputStream.STDOUT, piece) if isinstance(piece, bytes) else piece


class _Input(asyncio.BaseProtocol):
    """Knows whether the pipe to the program's standard input is closed."""

    closed = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True


class CommandTurn:
    """A started program. See `Turn` for the meaning of each method."""

    def __init__(
        self, started: subprocess.Popen[bytes], *, run_id: str | None = None, ends_others: bool = False
    ) -> None:
        """Take charge of a process that leads a session of its own, and carries the id of its run."""
        self._ends_others = ends_others
        self._run_id = run_id
        self._strays: asyncio.Future[bool] | None = None
        self.pid = started.pid
        self._process = started
        self._exits = ExitWatch(started)
        self._readers: dict[OutputStream, asyncio.StreamReader] = {}
        self._outputs: list[asyncio.ReadTransport] = []
        self._input: tuple[asyncio.WriteTransport, _Input] | None = None

    async def connect(self, stdin: bytes) -> None:
        """Connect the pipes and begin to write `stdin`."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = {
            OutputStream.STDOUT: await self._reader(process.stdout),
            OutputStream.STDERR: await self._reader(process.stderr),
        }
        # The transport writes as the program reads, and forgets the rest when it stops reading: neither a
        # program that never reads nor one that closes its input can hold anything up.
        loop = asyncio.get_running_loop()
        self._input = await loop.connect_write_pipe(_Input, process.stdin)
        self._input[0].write(stdin)
        self._input[0].write_eof()

    async def events(self) -> AsyncGenerator[Said, None]:
        """See `Turn.events`. Events are read from standard output."""
        reader = EventReader()
        async with contextlib.aclosing(self._output()) as pieces:
            async for stream, data in pieces:
                if stream is OutputStream.STDOUT:
                    for said in reader.take(data):
                        yield _said(said)
                else:
                    yield Printed(stream, data)
        for said in reader.close():
            yield _said(said)

    async def _output(self) -> AsyncGenerator[tuple[OutputStream, bytes], None]:
        pieces: asyncio.Queue[tuple[OutputStream, bytes]] = asyncio.Queue(maxsize=1)
        readers = [
            asyncio.create_task(self._read_all(stream, reader, pieces))
            for stream, reader in self._readers.items()
        ]
        over = asyncio.gather(*readers)
        try:
            while not (over.done() and pieces.empty()):
                next_piece = asyncio.create_task(pieces.get())
                await asyncio.wait((next_piece, over), return_when=asyncio.FIRST_COMPLETED)
                if next_piece.done():
                    yield next_piece.result()
                else:
                    next_piece.cancel()
        finally:
            over.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError):
                await over

    async def wait(self) -> Exit:
        """See `Turn.wait`."""
        ended = await self._exits.wait()
        await self._end_strays()
        return ended

    async def terminate(self, grace_s: float) -> Exit | None:
        """See `Turn.terminate`."""
        if self._ends_others:
            self._exits.signal_leader(signal.SIGTERM)
        else:
            self._exits.signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._exits.wait()
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_WITHIN_S):
                ended = await self._exits.wait()
            return ended if await self._end_strays() else None
        return None

    def kill(self) -> None:
        """See `Turn.kill`."""
        self._exits.signal_group(signal.SIGKILL)

    async def close(self) -> None:
        """See `Turn.close`."""
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED_WITHIN_S):
                await self._exits.wait()
            await self._end_strays()
        for transport in self._outputs:
            transport.close()
        # The transport closes by itself once all is written, and must not be touched after that.
        if self._input is not None and not self._input[1].closed:
            self._input[0].abort()

    async def _end_strays(self) -> bool:
        """Kill what left the group, once the program has ended. Returns whether none is left."""
        if self._run_id is None:
            return True
        if self._strays is None:
            # In a thread: it reads a file of every process of the machine.
            self._strays = asyncio.ensure_future(asyncio.to_thread(end_strays, self._run_id))
        return await asyncio.shield(self._strays)

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2 * READ_BYTES)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._outputs.append(transport)
        return reader

    async def _read_all(
        self,
        stream: OutputStream,
        reader: asyncio.StreamReader,
        pieces: asyncio.Queue[tuple[OutputStream, bytes]],
    ) -> None:
        left = _AFTER_EXIT_BYTES
        while left > 0:
            piece = await self._read(reader)
            if not piece:
                return
            if self._exits.done:
                left -= len(piece)
            await pieces.put((stream, piece))

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """The next piece, empty at the end, or when nothing comes any more after the process ended."""
        reading = asyncio.create_task(reader.read(READ_BYTES))
        try:
            await asyncio.wait((reading, self._exits.future), return_when=asyncio.FIRST_COMPLETED)
            # Twice: when the loop itself stood still for that long, the time is up before what waits in the
            # pipe was taken in. Between the two it has turned.
            for _ in range(2):
                if not reading.done():
                    await asyncio.wait((reading,), timeout=_AFTER_EXIT_S)
            return reading.result() if reading.done() else b""
        finally:
            reading.cancel()
