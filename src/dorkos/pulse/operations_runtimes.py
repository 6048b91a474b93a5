"""Operations on runtimes: which there are, and a run that proves one."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from dorkos.clock import iso
from dorkos.identity.model import Caller
from dorkos.operation import Nothing, NoTool, Operation, Wire
from dorkos.pulse.service import PulseService
from dorkos.pulse.wire import Argument, Argv, Identifier, RunId, Text, Triggered
from dorkos.storable import check_storable
from dorkos.vocabulary import Scope

_PROMPT = "This is a test. Answer with the one word: ready."
_PRINTS = ("echo", "ready")


class RuntimeOut(Wire):
    """A runtime: whether it can be used here, what it is or lacks, and how to get what it lacks."""

    name: str
    usable: bool
    detail: str
    hint: str | None


class TestRuntime(Wire):
    """A runtime to prove, with the program that it needs, if it needs one."""

    name: Identifier
    command: Argv | None = Field(None, description="The program as argv; `command` alone prints a word.")
    cwd: Argument | None = Field(None, description="Absolute working directory; null is the boundary.")
    prompt: Text | None = Field(None, description="What to ask instead of for the word `ready`.")


async def list_runtimes(pulse: PulseService, _caller: Caller, _asked: Nothing) -> list[RuntimeOut]:
    """Those that come with DorkOS, then the person's own."""
    found = await asyncio.to_thread(pulse.runtimes.examine)
    return [RuntimeOut(name=one.name, usable=one.usable, detail=one.detail, hint=one.hint) for one in found]


async def test_runtime(pulse: PulseService, caller: Caller, asked: TestRuntime) -> Triggered:
    """Run it once, end to end, with the least rights."""
    caller.require(Scope.OPERATE)
    prompt = asked.prompt or _PROMPT
    check_storable([prompt, *(asked.command or ()), asked.cwd or ""])
    command = tuple(asked.command) if asked.command is not None else None
    if command is None and asked.name == "command":
        command = _PRINTS
    cwd = None if asked.cwd is None else str(pulse.boundary.confine(asked.cwd))
    run_id = await pulse.store.starts.test_runtime(
        asked.name, command=command, cwd=cwd, prompt=prompt, actor=caller.subject
    )
    return Triggered(run_id=run_id)


class ResumeRun(RunId):
    """A run that ended, and what to tell its agent."""

    prompt: Text = Field(min_length=1, description="The answer to its question, or what to do next.")


class QuestionOut(Wire):
    """A question of a blocked run: `content` holds `question`, `options`, and the run's `prompt`."""

    id: str
    run_id: str
    content: dict[str, Any]
    created_at: str


class QuestionsQuery(Wire):
    """How many."""

    limit: int = Field(100, ge=1, le=500)


async def resume_run(pulse: PulseService, caller: Caller, asked: ResumeRun) -> Triggered:
    """Go on with the session of a run."""
    caller.require(Scope.OPERATE)
    check_storable([asked.prompt])
    run_id = await pulse.store.starts.resume(asked.id, asked.prompt, actor=caller.subject)
    return Triggered(run_id=run_id)


async def list_questions(pulse: PulseService, _caller: Caller, asked: QuestionsQuery) -> list[QuestionOut]:
    """The longest waiting first."""
    found = await pulse.store.starts.questions(limit=asked.limit)
    return [
        QuestionOut(id=one.id, run_id=one.run_id, content=dict(one.content), created_at=iso(one.created_at))
        for one in found
    ]


RUNTIMES: tuple[Operation[PulseService, Any, Any], ...] = (
    Operation(
        "pulse.runtimes.list",
        "List the runtimes and whether each can be used",
        "pulse",
        "GET",
        "/api/pulse/runtimes",
        Scope.OBSERVE,
        Nothing,
        list[RuntimeOut],
        list_runtimes,
        mcp=NoTool("A person chooses what drives agents; a refusal names those that there are."),
    ),
    Operation(
        "pulse.runtimes.test",
        "Prove a runtime by a run",
        "pulse",
        "POST",
        "/api/pulse/runtimes/{name}/test",
        Scope.OPERATE,
        TestRuntime,
        Triggered,
        test_runtime,
        mcp=NoTool("It proves the installation to the person who made it."),
        status=201,
        live=True,
    ),
    Operation(
        "pulse.questions.list",
        "List what blocked runs want to know",
        "pulse",
        "GET",
        "/api/pulse/questions",
        Scope.OBSERVE,
        QuestionsQuery,
        list[QuestionOut],
        list_questions,
        mcp=NoTool("They are questions to a person."),
    ),
    Operation(
        "pulse.runs.resume",
        "Go on with the session of a run that ended; answers its question",
        "pulse",
        "POST",
        "/api/pulse/runs/{id}/resume",
        Scope.OPERATE,
        ResumeRun,
        Triggered,
        resume_run,
        mcp=NoTool("A person answers and decides what goes on."),
        status=201,
        live=True,
    ),
)
