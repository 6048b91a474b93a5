"""Facts about the child process that drives an agent."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from dorkos.runtimes.driver import DriverRequest, UnavailableError
from dorkos.runtimes.driver_main import load
from dorkos.runtimes.events import Event, Result, ResultStatus, Text, parse

_AGENT = """
import asyncio
from dorkos.runtimes.driver import UnavailableError
from dorkos.runtimes.events import Result, ResultStatus, Text

async def drive(request, emit):
    emit(Text(request.prompt))
    if request.prompt == "crash":
        raise RuntimeError("boom")
    if request.prompt == "missing":
        raise UnavailableError("no such program", hint="install it")
    if request.prompt == "wait":
        await asyncio.Event().wait()
    return Result(ResultStatus.COMPLETED, request.prompt)
"""


async def _start(tmp_path: Path, text: str) -> asyncio.subprocess.Process:
    driver = tmp_path / "agent.py"
    driver.write_text(_AGENT)
    source = Path(__file__).parents[2] / "src"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dorkos.runtimes.driver_main",
        str(driver),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    return process


def _events(output: bytes) -> list[Event | None]:
    return [parse(line) for line in output.decode().splitlines()]


def _asked(prompt: str) -> str:
    return DriverRequest(prompt=prompt, cwd="/").encoded()


def test_a_request_survives_its_way() -> None:
    """The driver reads what the server wrote; what a newer server says besides does not hurt it."""
    request = DriverRequest("p", "/x", resume="s", argv=("a", "b"))
    assert DriverRequest.decoded(request.encoded()) == request
    assert DriverRequest.decoded(json.dumps({"prompt": "p", "cwd": "/", "newer": 1})).prompt == "p"
    with pytest.raises(ValueError, match="prompt"):
        DriverRequest.decoded("[]")


async def test_the_result_is_the_last_line_and_the_exit_code(tmp_path: Path) -> None:
    """Success exits 0, after the events in their order."""
    process = await _start(tmp_path, _asked("hello"))
    output, _ = await process.communicate()
    assert _events(output) == [Text("hello"), Result(ResultStatus.COMPLETED, "hello")]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("prompt", "status", "kind"),
    [("crash", ResultStatus.FAILED, "RuntimeError"), ("missing", ResultStatus.UNAVAILABLE, "unavailable")],
)
async def test_a_fault_is_a_result_as_well(
    tmp_path: Path, prompt: str, status: ResultStatus, kind: str
) -> None:
    """A driver that raises says how it ended, and does not exit 0."""
    process = await _start(tmp_path, _asked(prompt))
    output, _ = await process.communicate()
    result = _events(output)[-1]
    assert isinstance(result, Result)
    assert (result.status, result.kind) == (status, kind)
    assert result.error
    assert process.returncode == 1


async def test_sigterm_cancels_and_says_so(tmp_path: Path) -> None:
    """A cancel is confirmed by the driver, once its work has ended."""
    process = await _start(tmp_path, _asked("wait"))
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    output = await process.stdout.read()
    assert _events(output) == [Result(ResultStatus.CANCELLED)]
    assert await process.wait() == 1


async def test_a_request_that_is_none_fails(tmp_path: Path) -> None:
    """Nothing is driven by what cannot be read."""
    process = await _start(tmp_path, "{")
    output, _ = await process.communicate()
    result = _events(output)[-1]
    assert isinstance(result, Result)
    assert result.status is ResultStatus.FAILED


@pytest.mark.parametrize(
    ("name", "text"), [("nothing", ""), ("none.py", None), ("needs.py", "import no_such"), ("empty.py", "")]
)
def test_a_driver_that_cannot_be_used_is_unavailable(tmp_path: Path, name: str, text: str | None) -> None:
    """One that is not there, lacks a package or drives nothing is told with what to do, not as a crash."""
    if text is not None and name.endswith(".py"):
        (tmp_path / name).write_text(text)
    with pytest.raises(UnavailableError) as refusal:
        load(str(tmp_path / name) if name.endswith(".py") else name)
    assert refusal.value.hint
