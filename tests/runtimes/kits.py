"""One kit a runtime: how to make an agent of it do the same few things, for the facts that hold for all."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil

from dorkos.runtimes.command import CommandRuntime
from dorkos.runtimes.driven import DrivenRuntime
from dorkos.runtimes.events import Text
from dorkos.runtimes.protocol import Exit, Printed, RunSpec, Runtime, Said, Turn
from dorkos.runtimes.results import Ending, Report, conclude
from dorkos.runtimes.scripted import ScriptedRuntime
from dorkos.vocabulary import PermissionMode
from tests import model_endpoint as model
from tests import responses_endpoint

ACP_AGENT = (sys.executable, str(Path(__file__).parent / "acp_agent.py"))


@dataclass(frozen=True)
class Say:
    """Answer in these pieces."""

    pieces: tuple[str, ...] = ("Hello", " world")


@dataclass(frozen=True)
class Work:
    """Write the file `made.txt` with a tool, then answer."""


@dataclass(frozen=True)
class Fail:
    """Fail with a reason."""


@dataclass(frozen=True)
class Empty:
    """Claim success without an answer."""


@dataclass(frozen=True)
class Ask:
    """Ask which of two."""

    question: str = "Which one?"
    options: tuple[str, ...] = ("red", "blue")


@dataclass(frozen=True)
class Hang:
    """Say `ready`, then nothing more."""

    deaf: bool = False


@dataclass(frozen=True)
class Leave:
    """Start this program in a session of its own, and wait for its end."""

    argv: tuple[str, ...]


Behaviour = Say | Work | Fail | Empty | Ask | Hang | Leave


@dataclass
class Taken:
    """A turn that is over: what it said, and how it ended."""

    said: list[Said]
    ended: Exit
    ending: Ending
    report: Report

    @property
    def text(self) -> str:
        """The whole answer, as it would be stored."""
        return "".join(
            each.data.decode() if isinstance(each, Printed) else each.text
            for each in self.said
            if isinstance(each, Printed | Text)
        )


class Kit(Protocol):
    """What the facts need of a runtime."""

    name: str

    @property
    def runtime(self) -> Runtime: ...

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        """What to start it with, so that it behaves so."""
        ...


async def take(kit: Kit, spec: RunSpec) -> Taken:
    """One whole turn."""
    async with started(kit, spec) as turn:
        report, said = Report(), []
        async for each in turn.events():
            report.take(each)
            said.append(each)
        ended = await turn.wait()
        return Taken(said, ended, conclude(ended, report, reports=kit.runtime.reports), report)


@asynccontextmanager
async def started(kit: Kit, spec: RunSpec) -> AsyncIterator[Turn]:
    """A turn at work, of which nothing is left at the end."""
    turn = await kit.runtime.start(spec)
    try:
        yield turn
    finally:
        await turn.close()


async def until_said(events: AsyncIterator[Said], words: str) -> None:
    """Read until the words were said or printed."""
    text = ""
    async for said in events:
        text += said.data.decode() if isinstance(said, Printed) else str(getattr(said, "text", ""))
        if words in text:
            return
    raise AssertionError(f"it ended without saying {words!r}: {text!r}")


async def drained(turn: Turn) -> None:
    """Read all that it says, so that nothing holds it up."""
    async for _ in turn.events():
        pass


def nothing_is_left(group: int | None) -> bool:
    """Whether no process of a group that was killed does anything any more, once all had the time to die."""
    if group is None:
        return True
    deadline = time.monotonic() + 30
    while (left := _members(group)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
    return not left


def carriers(run_id: str) -> list[psutil.Process]:
    """Every process that was started for a run and is not over."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("DORKOS_RUN_ID") == run_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _members(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The clean environment of a run, with a home of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {"PATH": os.environ["PATH"], "HOME": str(home), "DORKOS_RUN_ID": uuid4().hex, **more}


@dataclass
class ScriptedKit:
    """The scripted runtime."""

    name: str = "scripted"
    runtime: ScriptedRuntime = field(default_factory=ScriptedRuntime)

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        lines = ["#!scripted", "session", "usage 12 7 100 model-1", *_scripted(behaviour)]
        return RunSpec((), "\n".join(lines), folder, environment(folder), **changes)


def _scripted(behaviour: Behaviour) -> list[str]:
    match behaviour:
        case Say(pieces):
            return [f"say {piece}" for piece in pieces]
        case Fail():
            return ["fail broken It went wrong."]
        case Ask(question, options):
            return [" | ".join((f"ask {question}", *options))]
        case Hang(deaf):
            return [*(["deaf"] if deaf else []), "say ready", "hang"]
        case _:
            return ["done"]


_PROGRAM = """
import json, os, signal, subprocess, sys
def tell(event, **said): print(json.dumps({"dorkos": event, **said}), flush=True)
prompt = sys.stdin.read()
# Everything it starts has to end with it.
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
tell("session", sessionId=sys.argv[1] or "command-1")
tell("usage", model="model-1", inputTokens=12, outputTokens=7, costMicrousd=100)
exec(sys.argv[2])
"""


@dataclass
class CommandKit:
    """A program that speaks lines of JSON."""

    name: str = "command"
    runtime: CommandRuntime = field(default_factory=CommandRuntime)

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        argv = (sys.executable, "-c", _PROGRAM, "{resume}", _command(behaviour))
        return RunSpec(argv, "go", folder, environment(folder), **changes)


def _command(behaviour: Behaviour) -> str:
    match behaviour:
        case Say(pieces):
            return f"for piece in {pieces!r}: print(piece, end='', flush=True)"
        case Fail():
            return "tell('result', status='failed', kind='broken', error='It went wrong.')"
        case Ask(question, options):
            asked = f"tell('question', question={question!r}, options={list(options)})"
            return f"{asked}; tell('result', status='blocked')"
        case Hang(deaf):
            ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if deaf else ""
            return f"{ignore}print('ready', flush=True)\nwhile True: signal.pause()"
        case Leave(argv):
            return f"subprocess.Popen({list(argv)!r}, start_new_session=True).wait()"
        case _:
            return "tell('result', status='completed')"


@dataclass
class ClaudeKit:
    """The real CLI, with a scripted model behind it."""

    open: ExitStack
    name: str = "claude"
    runtime: DrivenRuntime = field(default_factory=lambda: DrivenRuntime("claude"))
    endpoint: model.ModelEndpoint | None = None

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        self.endpoint = self.open.enter_context(model.serve(*_claude(folder, behaviour)))
        given = environment(folder, **self.endpoint.environment)
        changes.setdefault("permission_mode", PermissionMode.ACCEPT_EDITS)
        return RunSpec((), "Do what the script says.", folder, given, **changes)


def _claude(folder: Path, behaviour: Behaviour) -> Sequence[model.Reply]:
    match behaviour:
        case Say(pieces):
            return [model.Say(*pieces)]
        case Work():
            written = {"file_path": str(folder / "made.txt"), "content": "made"}
            return [model.Use("Write", written), model.Say("Done.")]
        case Fail():
            return [model.Fail(529, "overloaded_error", "It went wrong.")]
        case Empty():
            return [model.Say("")] * 8
        case Ask(question, options):
            choices = [{"label": option, "description": option} for option in options]
            asked = {"question": question, "header": "Choice", "multiSelect": False, "options": choices}
            return [model.Use("AskUserQuestion", {"questions": [asked]}), model.Say("Never.")]
        case Hang():
            return [model.Hang("ready")]
        case Leave(argv):
            return [model.Use("Bash", {"command": shlex.join(argv), "timeout": 600_000})]


@dataclass
class AcpKit:
    """An agent of the Agent Client Protocol, as a process of its own."""

    name: str = "acp"
    runtime: DrivenRuntime = field(default_factory=lambda: DrivenRuntime("acp"))

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        changes.setdefault("permission_mode", PermissionMode.ACCEPT_EDITS)
        return RunSpec(ACP_AGENT, json.dumps(_acp(behaviour)), folder, environment(folder), **changes)


def _acp(behaviour: Behaviour) -> dict[str, object]:
    match behaviour:
        case Say(pieces):
            return {"say": pieces}
        case Work():
            return {"work": "made.txt"}
        case Fail():
            return {"fail": "It went wrong."}
        case Empty():
            return {"empty": 1}
        case Ask(question, options):
            return {"ask": [question, *options]}
        case Hang(deaf):
            return {"hang": deaf}
        case Leave(argv):
            return {"leave": list(argv)}


@dataclass
class CodexKit:
    """The real program of Codex, with a scripted model behind it."""

    open: ExitStack
    name: str = "codex"
    runtime: DrivenRuntime = field(default_factory=lambda: DrivenRuntime("codex"))

    def spec(self, folder: Path, behaviour: Behaviour, **changes: Any) -> RunSpec:
        return self.replying(folder, _codex(behaviour), **changes)

    def replying(self, folder: Path, replies: Sequence[model.Reply], **changes: Any) -> RunSpec:
        endpoint = self.open.enter_context(responses_endpoint.serve(*replies))
        given = environment(folder)
        config = Path(given["HOME"]) / ".codex" / "config.toml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(endpoint.config)
        changes.setdefault("permission_mode", PermissionMode.ACCEPT_EDITS)
        return RunSpec((), "Do what the script says.", folder, given, **changes)


def _codex(behaviour: Behaviour) -> Sequence[model.Reply]:
    match behaviour:
        case Say(pieces):
            return [model.Say(*pieces)]
        case Fail():
            return [model.Fail(400, "invalid_request", "It went wrong.")]
        case Hang():
            return [model.Hang("ready")]
        case _:
            return [model.Say("")]


@contextmanager
def kit_of(name: str) -> Iterator[Kit]:
    """The kit of this name, with what it opens closed at the end."""
    with ExitStack() as opened:
        kits: dict[str, Kit] = {
            "scripted": ScriptedKit(),
            "command": CommandKit(),
            "acp": AcpKit(),
            "claude": ClaudeKit(opened),
            "codex": CodexKit(opened),
        }
        yield kits[name]
