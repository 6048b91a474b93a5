"""The child process that drives an agent: `python -m dorkos.runtimes.driver_main NAME`.

It reads one request, as a JSON document, from its standard input, and says on its standard output what
happens, as `dorkos.runtimes.events`. SIGTERM asks it to cancel. It says `cancelled` once the agent has ended;
if it does not, the server kills the group.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import cast

from dorkos.runtimes.availability import install_hint
from dorkos.runtimes.driver import Driver, DriverRequest, Emit, UnavailableError
from dorkos.runtimes.events import Event, Log, Result, ResultStatus, encode, fitting
from dorkos.runtimes.strays import MARK, end_strays

_LOOK_S = 1.0
_REMARK_CHARACTERS = 500
_OURS = "dorkos.runtimes.{}_driver"


async def perform(drive: Callable[[DriverRequest, Emit], Awaitable[Result]], text: str, emit: Emit) -> int:
    """Drive the agent with the request in `text`, say the result, and answer the exit code."""
    logging.basicConfig(handlers=[_Remarks(emit)], level=logging.WARNING, force=True)
    work = asyncio.ensure_future(_result(drive, text, emit))
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":  # Its loops take no signal handlers; there the group is killed.
        loop.add_signal_handler(signal.SIGTERM, work.cancel)
        loop.add_signal_handler(signal.SIGINT, work.cancel)
    watch = asyncio.ensure_future(_end_with_the_server(work))
    try:
        result = await work
    except asyncio.CancelledError:
        result = Result(ResultStatus.CANCELLED)
    finally:
        watch.cancel()
    emit(result)
    return 0 if result.status is ResultStatus.COMPLETED else 1


class _Remarks(logging.Handler):
    """What the libraries log, as remarks of one line: a traceback of theirs is no part of an answer."""

    def __init__(self, emit: Emit) -> None:
        super().__init__()
        self._emit = emit

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[1] if record.exc_info else None
        said = record.getMessage() + (f": {type(fault).__name__}: {fault}" if fault is not None else "")
        self._emit(Log(" ".join(said.split())[:_REMARK_CHARACTERS], record.levelname.lower()))


async def _end_with_the_server(work: asyncio.Future[Result]) -> None:
    """End all of it once whoever started this process is gone: nobody could stop it or see its end."""
    server = os.getppid()
    while os.getppid() == server:  # noqa: ASYNC110  # The system tells nobody that a parent has gone.
        await asyncio.sleep(_LOOK_S)
    if run_id := os.environ.get(MARK):
        end_strays(run_id)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    work.cancel()


async def _result(drive: Callable[[DriverRequest, Emit], Awaitable[Result]], text: str, emit: Emit) -> Result:
    try:
        return await drive(DriverRequest.decoded(text), emit)
    except UnavailableError as missing:
        return Result(ResultStatus.UNAVAILABLE, kind="unavailable", error=str(missing), hint=missing.hint)
    except Exception as fault:  # noqa: BLE001  # Whatever the agent's library raises is the end of this run.
        emit(Log(f"{type(fault).__name__}: {fault}", "error"))
        return Result(ResultStatus.FAILED, kind=type(fault).__name__, error=str(fault) or repr(fault))


def emit_line(event: Event) -> None:
    """Write the event to standard output, at once."""
    for each in fitting(event):
        sys.stdout.write(encode(each) + "\n")
    sys.stdout.flush()


def load(name: str) -> Driver:
    """The driver of that name: a module `dorkos.runtimes.<name>_driver`, or the file at that path.

    Raises `UnavailableError`.
    """
    path = Path(name)
    try:
        found = _load_file(path) if path.is_absolute() else importlib.import_module(_OURS.format(name))
    except (ImportError, OSError) as fault:
        hint = "Install what it imports." if path.is_absolute() else install_hint(name)
        raise UnavailableError(f"The runtime {path.stem!r} cannot be loaded: {fault}.", hint=hint) from fault
    if not callable(getattr(found, "drive", None)):
        raise UnavailableError(
            f"{name} has no function `drive`.", hint="See docs/runtimes.md for what a runtime must offer."
        )
    return cast(Driver, found)


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"dorkos_runtime_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and the like look for the module of what they are given.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(name: str) -> int:
    """Serve one request and answer the exit code."""

    async def drive(request: DriverRequest, emit: Emit) -> Result:
        return await load(name).drive(request, emit)

    return asyncio.run(perform(drive, sys.stdin.read(), emit_line))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
