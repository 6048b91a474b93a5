"""Operations on runtimes: which there are, and a run that proves one."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from dorkos.identity.model import Caller
from dorkos.operation import Nothing, NoTool, Operation, Wire
from dorkos.pulse.service import PulseService
from dorkos.pulse.wire import Argument, Argv, Identifier, Text, Triggered
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
)
