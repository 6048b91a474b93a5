"""The scripted runtime by itself."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

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
from dorkos.runtimes.script import STEPS
from dorkos.runtimes.scripted import ScriptedRuntime, ScriptedTurn


async def started(
    folder: Path, script: str, *, runtime: ScriptedRuntime | None = None, resume: str | None = None
) -> ScriptedTurn:
    spec = RunSpec((), script, folder, {"DORKOS_RUN_ID": "R1"}, resume=resume)
    return await (runtime or ScriptedRuntime()).start(spec)


async def said(folder: Path, *steps: str, resume: str | None = None) -> tuple[list[Said], Exit]:
    turn = await started(folder, "\n".join(("#!scripted", *steps)), resume=resume)
    events = [each async for each in turn.events()]
    return events, await turn.wait()


async def test_words_are_said_back(tmp_path: Path) -> None:
    """A prompt that is no script is the answer."""
    turn = await started(tmp_path, "Write the report.")
    assert [each async for each in turn.events()] == [Result(ResultStatus.COMPLETED, "Write the report.")]
    assert await turn.wait() == Exit(0, None)


async def test_each_step_says_its_event(tmp_path: Path) -> None:
    """Text, remarks, tools, usage and session come out in the order of the lines, variables filled in."""
    events, ended = await said(
        tmp_path,
        "say run {DORKOS_RUN_ID}",
        "log aside",
        "tool Bash",
        "usage 3 4 50 m-1",
        "session",
        "# no step",
    )
    assert events == [
        Text("run R1\n"),
        Log("aside"),
        ToolCall("Bash", "Bash", ToolStatus.COMPLETED),
        Usage("m-1", 3, 4, 50),
        Session("scripted-R1"),
        Result(ResultStatus.COMPLETED),
    ]
    assert ended == Exit(0, None)


async def test_a_resumed_session_keeps_its_name(tmp_path: Path) -> None:
    """`session` and `{resume}` are the session that goes on."""
    events, _ = await said(tmp_path, "session", "say {resume}", resume="before")
    assert events[:2] == [Session("before"), Text("before\n")]


@pytest.mark.parametrize(
    ("step", "expected", "code"),
    [
        ("fail overloaded try later", Result(ResultStatus.FAILED, kind="overloaded", error="try later"), 1),
        ("unavailable gone", Result(ResultStatus.UNAVAILABLE, error="gone", hint="The script says so."), 1),
        ("done", Result(ResultStatus.COMPLETED), 0),
    ],
)
async def test_the_last_step_is_the_result(tmp_path: Path, step: str, expected: Result, code: int) -> None:
    """What comes after the end of a turn is not done."""
    assert await said(tmp_path, step, "say never") == ([expected], Exit(code, None))


async def test_a_question_comes_before_its_result(tmp_path: Path) -> None:
    """`ask` tells the question with its answers, and the turn is blocked."""
    events, _ = await said(tmp_path, "ask Which one? | red | blue")
    assert events == [Question("Which one?", ("red", "blue")), Result(ResultStatus.BLOCKED)]


async def test_an_exit_has_no_result(tmp_path: Path) -> None:
    """`exit` ends like a program that says nothing about itself."""
    assert await said(tmp_path, "exit 3") == ([], Exit(3, None))


async def test_lines_are_appended_inside_the_working_directory_only(tmp_path: Path) -> None:
    """`append` leaves a trace that a test can count; a file elsewhere is a failure."""
    await said(tmp_path, "append journal {DORKOS_RUN_ID}", "append journal again")
    assert (tmp_path / "journal").read_text() == "R1\nagain\n"
    [result], _ = await said(tmp_path, "append ../journal out")
    assert isinstance(result, Result)
    assert "not in the working directory" in (result.error or "")


@pytest.mark.parametrize("step", ["sing", "usage 1", "usage a b", "exit x", 'tool "', "append"])
async def test_a_line_that_is_no_step_fails_by_name(tmp_path: Path, step: str) -> None:
    """A script with a fault in it is a failed turn that says so, never a success."""
    events, ended = await said(tmp_path, step)
    result = events[-1]
    assert isinstance(result, Result)
    assert (result.status, result.kind, ended) == (ResultStatus.FAILED, "script", Exit(1, None))


async def test_a_script_waits_for_its_signal(tmp_path: Path) -> None:
    """`wait` is told when it is reached, and goes on when it is let pass."""
    runtime = ScriptedRuntime()
    turn = await started(tmp_path, "#!scripted\nwait here\nsay on", runtime=runtime)
    await runtime.reached("here")
    runtime.let_pass("here")
    assert [each async for each in turn.events()] == [Text("on\n"), Result(ResultStatus.COMPLETED)]


async def test_ending_a_script(tmp_path: Path) -> None:
    """A hanging script ends when asked; a deaf one only when killed. Closing ends either."""
    turn = await started(tmp_path, "#!scripted\nhang")
    assert await turn.terminate(30) == Exit(None, signal.SIGTERM)
    runtime = ScriptedRuntime()
    turn = await started(tmp_path, "#!scripted\ndeaf\nwait here", runtime=runtime)
    await runtime.reached("here")
    assert await turn.terminate(0.01) == Exit(None, signal.SIGKILL)
    turn = await started(tmp_path, "#!scripted\nhang")
    await turn.close()
    await turn.close()
    async with asyncio.timeout(30):
        assert [each async for each in turn.events()] == []


def test_every_step_is_explained() -> None:
    """Each word of the language has its sentence."""
    assert all(meaning.endswith(".") for _, meaning in STEPS.values())
