"""The `scripted` runtime: does what its prompt says, inside this process, the same each time.

It ships as the double of an agent: a schedule of it costs nothing and starts in no time, and everything
around it is real. A prompt that begins with the line `#!scripted` is a script (see `script`); any other is
said back.
`{NAME}` in a line is the variable NAME of the run's environment, `{resume}` the session that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from dorkos.runtimes.events import (
    Log,
    Question,
    Result,
    ResultStatus,
    Session,
    Text,
    ToolCall,
    ToolStatus,
    Usage,
)
from dorkos.runtimes.protocol import Exit, RunSpec, Said
from dorkos.runtimes.script import ScriptError, Step, is_script, read_script

_NAME = re.compile(r"\{([A-Za-z_]+)\}")
_KILLED = Exit(None, signal.SIGKILL)
_ASKED = Exit(None, signal.SIGTERM)


class ScriptedRuntime:
    """Starts scripts, and lets tests hold them at a `wait`."""

    reports = True
    in_process = True

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._reached: dict[str, asyncio.Event] = {}
        self._passed: dict[str, asyncio.Event] = {}

    async def start(self, spec: RunSpec) -> ScriptedTurn:
        """Begin. Never fails: a script that cannot be read is a turn that failed."""
        return ScriptedTurn(spec, self)

    async def reached(self, name: str) -> None:
        """Return once a script has come to `wait NAME`."""
        await self._reached.setdefault(name, asyncio.Event()).wait()

    def let_pass(self, name: str) -> None:
        """Let every script pass `wait NAME`, those that come later as well."""
        self._passed.setdefault(name, asyncio.Event()).set()

    async def hold(self, name: str) -> None:
        """What a script does at `wait NAME`."""
        self._reached.setdefault(name, asyncio.Event()).set()
        await self._passed.setdefault(name, asyncio.Event()).wait()


class ScriptedTurn:
    """A script at work. See `Turn` for the meaning of each method."""

    pid = None

    def __init__(self, spec: RunSpec, runtime: ScriptedRuntime) -> None:
        """Begin with the first step."""
        self._spec = spec
        self._runtime = runtime
        self._said: asyncio.Queue[Said | None] = asyncio.Queue()
        self._deaf = False
        self._how = _ASKED
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._work = asyncio.create_task(self._perform(), name="dorkos.scripted")
        self._work.add_done_callback(self._ended)

    async def events(self) -> AsyncIterator[Said]:
        """See `Turn.events`."""
        while (said := await self._said.get()) is not None:
            yield said

    async def wait(self) -> Exit:
        """See `Turn.wait`."""
        return await asyncio.shield(self._exit)

    async def terminate(self, grace_s: float) -> Exit | None:
        """See `Turn.terminate`."""
        if not self._deaf:
            self._work.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                return await self.wait()
        self.kill()
        return await self.wait()

    def kill(self) -> None:
        """See `Turn.kill`."""
        if not self._work.done():
            self._how = _KILLED
            self._work.cancel()

    async def close(self) -> None:
        """See `Turn.close`."""
        self.kill()
        await self.wait()

    async def _perform(self) -> Exit:
        try:
            result = await self._result()
        except _Exited as ended:
            return Exit(ended.code, None)
        self._said.put_nowait(result)
        return Exit(0 if result.status is ResultStatus.COMPLETED else 1, None)

    def _ended(self, work: asyncio.Task[Exit]) -> None:
        # Here and not in the task: one that is cancelled before its first step never runs any of its code.
        self._exit.set_result(self._how if work.cancelled() else work.result())
        self._said.put_nowait(None)

    async def _result(self) -> Result:
        if not is_script(self._spec.prompt):
            return Result(ResultStatus.COMPLETED, self._spec.prompt)
        try:
            steps = read_script(self._filled(self._spec.prompt))
            for step in steps:
                result = await self._take(step)
                if result is not None:
                    return result
        except (ScriptError, OSError) as fault:
            return Result(ResultStatus.FAILED, kind="script", error=str(fault))
        return Result(ResultStatus.COMPLETED)

    async def _take(self, step: Step) -> Result | None:
        """Do one step; the result if it is the last one."""
        match step.word:
            case "wait":
                await self._runtime.hold(step.words[0])
            case "hang":
                await asyncio.Event().wait()
            case "deaf":
                self._deaf = True
            case "append":
                self._append(step)
            case "exit":
                raise _Exited(_number(step.words[0]))
            case "done" | "fail" | "unavailable" | "ask":
                return self._end(step)
            case _:
                self._said.put_nowait(self._event(step))
        return None

    def _event(self, step: Step) -> Said:
        match step.word:
            case "log":
                return Log(step.rest)
            case "tool":
                return ToolCall(step.words[0], step.words[0], ToolStatus.COMPLETED)
            case "usage":
                return _usage(step.words)
            case "session":
                own = (
                    self._spec.resume or f"scripted-{self._spec.environment.get('DORKOS_RUN_ID', 'session')}"
                )
                return Session(step.words[0] if step.words else own)
            case _:
                return Text(step.rest + "\n")

    def _end(self, step: Step) -> Result:
        match step.word:
            case "ask":
                question, *options = (part.strip() for part in step.rest.split("|"))
                self._said.put_nowait(Question(question, tuple(options)))
                return Result(ResultStatus.BLOCKED)
            case "fail":
                kind, _, words = step.rest.partition(" ")
                return Result(ResultStatus.FAILED, kind=kind or None, error=words or None)
            case "unavailable":
                return Result(ResultStatus.UNAVAILABLE, error=step.rest or None, hint="The script says so.")
            case _:
                return Result(ResultStatus.COMPLETED)

    def _append(self, step: Step) -> None:
        name, _, line = step.rest.partition(" ")
        place = (self._spec.cwd / name).resolve()
        if not place.is_relative_to(Path(self._spec.cwd).resolve()):
            raise ScriptError(f"{name!r} is not in the working directory.")
        with place.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _filled(self, script: str) -> str:
        known = {**self._spec.environment, "resume": self._spec.resume or ""}
        return _NAME.sub(lambda found: known.get(found[1], found[0]), script)


class _Exited(Exception):  # noqa: N818  # It is no error: the script asked for it.
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _usage(words: tuple[str, ...]) -> Usage:
    read, written, *more = words
    cost, model = (more[0] if more else None), (more[1] if len(more) > 1 else None)
    return Usage(model, _number(read), _number(written), None if cost is None else _number(cost))


def _number(word: str) -> int:
    if not word.isascii() or not word.isdigit():
        raise ScriptError(f"{word!r} is no number.")
    return int(word)
