"""The command runtime by itself: starting, reading, waiting, ending."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dorkos.runtimes import command
from dorkos.runtimes.command import CommandRuntime, CommandTurn
from dorkos.runtimes.protocol import Exit, Printed, RunSpec, StartFailedError
from dorkos.vocabulary import OutputStream

DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
while True: signal.pause()
"""


async def started(folder: Path, program: str, *arguments: str, prompt: str = "") -> CommandTurn:
    """A Python program at work."""
    argv = (sys.executable, "-c", program, *arguments)
    return await CommandRuntime().start(RunSpec(argv, prompt, folder, {"PATH": os.defpath}))


async def everything(process: CommandTurn) -> bytes:
    """All that the process prints."""
    return b"".join([said.data async for said in process.events() if isinstance(said, Printed)])


async def test_output_and_exit(tmp_path: Path) -> None:
    """What is printed comes out by stream, and the exit says how it ended."""
    process = await started(tmp_path, "import sys; print('out'); sys.exit('err')")
    pieces = [said async for said in process.events()]
    assert sorted(pieces, key=str) == [
        Printed(OutputStream.STDERR, b"err\n"),
        Printed(OutputStream.STDOUT, b"out\n"),
    ]
    assert await process.wait() == Exit(1, None)
    await process.close()


async def test_nothing_is_inherited(tmp_path: Path) -> None:
    """The program has the given directory and environment, its own session, and none of our open files."""
    ours, other = os.pipe()
    os.set_inheritable(ours, True)
    program = f"""
import os
def is_open(number):
    try: os.fstat(number)
    except OSError: return False
    return True
print(os.getcwd(), os.getsid(0) == os.getpid(), "HOME" in os.environ, is_open({ours}))
"""
    process = await started(tmp_path, program)
    assert (await everything(process)).decode().split() == [
        str(tmp_path),
        "True",
        "False",
        "False",
    ]
    await process.close()
    os.close(ours)
    os.close(other)


async def test_a_slow_reader_slows_the_program(tmp_path: Path) -> None:
    """A program that prints without end is not read ahead of its reader: memory stays flat."""
    process = await started(tmp_path, "while True: print('x' * 1023)")
    output = process.events()
    await anext(output)
    # Everything between the program and us: the pipe and the stream's buffer.
    buffered = [len(reader._buffer) for reader in process._readers.values()]  # type: ignore[attr-defined]  # Is there.
    assert max(buffered) <= 4 * 16 * 1024 + 64 * 1024
    await output.aclose()
    process.kill()
    assert await process.wait() == Exit(None, signal.SIGKILL)
    await process.close()


async def test_terminate_asks_first(tmp_path: Path) -> None:
    """A program that ends on SIGTERM ends in its own way."""
    program = (
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\nsignal.pause()"
    )
    process = await started(tmp_path, program)
    await anext(process.events())
    assert await process.terminate(30) == Exit(7, None)
    await process.close()


async def test_terminate_kills_after_the_grace(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed."""
    process = await started(tmp_path, DEAF)
    await anext(process.events())
    assert await process.terminate(0.05) == Exit(None, signal.SIGKILL)
    await process.close()


async def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    """Whoever lets go of a process leaves nothing behind; closing twice is harmless."""
    process = await started(tmp_path, DEAF)
    await process.close()
    await process.close()
    assert await process.wait() == Exit(None, signal.SIGKILL)


async def test_after_the_end_no_signal_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process id may be somebody else's by then."""
    process = await started(tmp_path, "")
    await process.wait()
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(pid))
    process.kill()
    await process.terminate(1)
    await process.close()
    assert sent == []


async def test_the_end_is_noticed_without_pidfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, a thread of the process waits for its end."""
    monkeypatch.delattr(os, "pidfd_open")
    process = await started(tmp_path, "import sys; sys.stdin.read(); sys.exit(5)")
    assert "dorkos-child" in {thread.name for thread in threading.enumerate()}
    assert await process.wait() == Exit(5, None)
    await process.close()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("no-such-program",), "was not found"),
        (("./script",), "was not found"),
        (("./text",), "may not be executed"),
        (("./binary",), "could not be started"),
        ((sys.executable, "x" * 200_000), "could not be started"),
        ((sys.executable, "a\x00b"), "could not be started"),
    ],
)
async def test_what_cannot_start_says_why(tmp_path: Path, argv: tuple[str, ...], says: str) -> None:
    """A missing program or interpreter, one that is none, and arguments the system refuses."""
    for name, text, mode in (
        ("script", "#!/no/such/interpreter\n", 0o755),
        ("text", "hello", 0o644),
        ("binary", "\x00\x01\x02", 0o755),
    ):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(StartFailedError, match=says):
        await CommandRuntime().start(RunSpec(argv, "", tmp_path, {"PATH": os.defpath}))


async def test_the_program_is_looked_for_on_the_path_of_the_run(tmp_path: Path) -> None:
    """PATH of the given environment counts, not the server's."""
    tool = tmp_path / "my-tool"
    # Not Python: a checkout may lie under a path with a space, which no such first line can name.
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    spec = RunSpec(("my-tool",), "", tmp_path, {"PATH": str(tmp_path)})
    process = await CommandRuntime().start(spec)
    assert await everything(process) == b"mine\n"
    await process.close()


async def test_a_cancelled_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody waits for the start any more, what was started is killed."""
    popen = command._popen
    cancelled, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    made: asyncio.Future[subprocess.Popen[bytes]] = loop.create_future()

    def slow(argv: list[str], spec: RunSpec) -> subprocess.Popen[bytes]:
        loop.call_soon_threadsafe(began.set)
        cancelled.wait(30)
        process = popen(argv, spec)
        loop.call_soon_threadsafe(made.set_result, process)
        return process

    monkeypatch.setattr(command, "_popen", slow)
    starting = asyncio.create_task(started(tmp_path, "import signal; signal.pause()"))
    await began.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    cancelled.set()
    process = await made
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGKILL
