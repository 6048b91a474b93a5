"""What Pulse makes of what a runtime tells, with the scripted one, and which runtime it takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import SystemClock
from dorkos.errors import DorkError, ErrorCode
from dorkos.node import record_start
from dorkos.pulse.model import Run
from dorkos.pulse.rescue import Rescue
from dorkos.runtimes.events import ResultStatus
from dorkos.testing import create_test_db
from dorkos.vocabulary import AgentRuntime, OutputStream, PermissionMode, RunReason, RunState
from tests.pulse.workshop import ACTOR, Workshop, a_node, python, working, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse at work on SQLite, with the machine's clock."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        yield shop


async def queued(shop: Workshop, *steps: str, **changes: Any) -> str:
    made = await shop.schedule(
        cron=None,
        timezone=None,
        command=None,
        runtime="scripted",
        prompt="\n".join(("#!scripted", *steps)),
        **changes,
    )
    return await shop.store.trigger_run(made.id, actor=ACTOR)


async def ran(shop: Workshop, *steps: str, **changes: Any) -> Run:
    return await shop.finished(await queued(shop, *steps, **changes))


async def test_what_is_told_is_on_the_run(shop: Workshop) -> None:
    """The answer is the output; session, model, tokens and cost are columns; no process is recorded."""
    run = await ran(shop, "session s-1", "say hello", "usage 3 4 50 m-1", "say bye")
    assert (run.status, run.reason, run.output) == (RunState.COMPLETED, None, "hello\nbye\n")
    assert (run.session_id, run.model, run.usage, run.cost_microusd) == (
        "s-1",
        "m-1",
        {"inputTokens": 3, "outputTokens": 4},
        50,
    )
    assert (run.runtime, run.permission_mode, run.pid) == ("scripted", PermissionMode.ACCEPT_EDITS, None)


async def test_tools_and_remarks_are_shown_beside_the_answer(shop: Workshop) -> None:
    """They are `system` lines of the output, and no part of its end."""
    run = await ran(shop, "say one", "tool Bash", "log aside")
    page = await shop.store.read_output(run.id)
    assert [(chunk.stream, chunk.text) for chunk in page.chunks] == [
        (OutputStream.STDOUT, "one\n"),
        (OutputStream.SYSTEM, "tool Bash completed\ninfo: aside\n"),
    ]
    assert run.output == "one\n"


@pytest.mark.parametrize(
    ("step", "state", "reason", "error"),
    [
        ("fail overloaded Try later.", RunState.FAILED, RunReason.AGENT_ERROR, "Try later. (overloaded)"),
        (
            "done",
            RunState.FAILED,
            RunReason.EMPTY_RESULT,
            "The agent said that it is done, and nothing else.",
        ),
        ("unavailable Gone.", RunState.FAILED, RunReason.UNAVAILABLE, "Gone. The script says so."),
        ("ask Which? | a | b", RunState.BLOCKED, RunReason.QUESTION, "Which?"),
        ("exit 3", RunState.FAILED, RunReason.EXIT_CODE, "The program exited with code 3."),
    ],
)
async def test_each_ending_has_its_state(
    shop: Workshop, step: str, state: RunState, reason: RunReason, error: str
) -> None:
    """Failed, empty, unavailable and blocked are told apart, each with its words."""
    run = await ran(shop, step)
    assert (run.status, run.reason, run.error) == (state, reason, error)


async def test_a_program_may_say_by_its_exit_code_that_it_is_blocked(shop: Workshop) -> None:
    """Where the setting gives the code that meaning; a question is raised as by any other."""
    shop.pulse.runtimes.exit_codes = {75: ResultStatus.BLOCKED}
    run = await shop.finished(await shop.queued(*python("raise SystemExit(75)")))
    assert (run.status, run.reason, run.exit_code) == (RunState.BLOCKED, RunReason.QUESTION, 75)
    assert [asked.run_id for asked in await shop.store.starts.questions(limit=10)] == [run.id]
    other = await shop.finished(await shop.queued(*python("raise SystemExit(74)")))
    assert (other.status, other.reason) == (RunState.FAILED, RunReason.EXIT_CODE)


async def test_what_the_setting_names_is_passed_on_and_kept_secret(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run gets the named variables and no others; the value of one that ends with KEY is never stored."""
    given = {"environment": ["SOME_API_KEY", "SOME_BASE_URL"]}
    shop.pulse.runtimes.settings = shop.pulse.runtimes.settings.model_copy(update=given)
    monkeypatch.setenv("SOME_API_KEY", "sk-secret")
    monkeypatch.setenv("SOME_BASE_URL", "http://model")
    monkeypatch.setenv("SOME_OTHER", "not this")
    program = "import os; print([os.environ.get('SOME_' + n) for n in ('API_KEY', 'BASE_URL', 'OTHER')])"
    run = await shop.finished(await shop.queued(*python(program)))
    assert run.output == "['[redacted]', 'http://model', None]\n"


async def test_odd_words_do_not_lose_a_run(shop: Workshop) -> None:
    """U+0000, halves of characters and floods of them, in all that is stored of a run."""
    program = """
import json
odd = "a" + chr(0) + chr(0xD800) + "x" * 100_000
def tell(kind, **said): print(json.dumps({"dorkos": kind, **said}))
tell("session", sessionId=chr(0))
tell("usage", model=odd, inputTokens=1)
tell("tool", name=odd, input=odd)
tell("log", text=odd, level=odd)
tell("text", text=odd)
tell("question", question=odd, options=[odd])
tell("result", status="blocked", error=odd)
"""
    run = await shop.finished(await shop.queued(*python(program)))
    assert (run.status, run.reason, run.session_id) == (RunState.BLOCKED, RunReason.QUESTION, None)
    assert (run.error or "").startswith("a\ufffd\ufffdx")
    [asked] = await shop.store.starts.questions(limit=10)
    assert asked.run_id == run.id


async def test_a_secret_is_not_asked(shop: Workshop) -> None:
    """The token of the run is hidden in a question and in the answers that it offers, too."""
    program = (
        "import json, os; told = os.environ['DORKOS_TOKEN']; print(json.dumps({'dorkos': 'question',"
        "'question': told, 'options': [told]})); print(json.dumps({'dorkos': 'result', 'status': 'blocked'}))"
    )
    run = await shop.finished(await shop.queued(*python(program)))
    assert (run.error, run.question) == ("[redacted]", {"question": "[redacted]", "options": ["[redacted]"]})


async def test_a_fault_of_ours_is_told_at_once(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends as interrupted, saying whose fault it was; its processes are over and others go on."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("dorkos.pulse.execution.account_of", broken)
    run = await shop.finished(await shop.queued(*python("print('here')")))
    assert (run.status, run.reason) == (RunState.INTERRUPTED, RunReason.UNCONFIRMED)
    assert "DorkOS failed in the middle of this run" in (run.error or "")
    monkeypatch.undo()
    assert (await shop.finished(await shop.queued(*python("print('here')")))).status is RunState.COMPLETED


async def test_a_runtime_whose_file_is_gone_fails_its_runs_only(shop: Workshop, tmp_path: Path) -> None:
    """They say that it is not there and which there are; what waits beside them runs."""
    own = tmp_path / ".dork" / "runtimes"
    own.mkdir(parents=True)
    (own / "mine.py").write_text("async def drive(request, emit): ...")
    made = await shop.schedule(cron=None, timezone=None, command=None, runtime="mine", prompt="x")
    (own / "mine.py").unlink()
    lost = await shop.store.trigger_run(made.id, actor=ACTOR)
    other = await queued(shop, "say x")
    run = await shop.finished(lost)
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.UNAVAILABLE)
    assert "There is no runtime 'mine'" in (run.error or "")
    assert (await shop.finished(other)).status is RunState.COMPLETED


async def test_a_question_is_kept(shop: Workshop) -> None:
    """What a blocked run wanted to know is a column; one that went on after asking keeps none."""
    assert (await ran(shop, "ask Which? | a | b")).question == {"question": "Which?", "options": ["a", "b"]}
    assert (await ran(shop, "say no question")).question is None


async def test_the_answer_resumes_the_session(shop: Workshop) -> None:
    """The run that goes on is driven as the first one was, in its session, and told the answer."""
    run = await ran(shop, "session s-9", "ask Which? | a | b")
    answer = "#!scripted\nsession\nsay going on with {resume}"
    again = await shop.finished(await shop.store.starts.resume(run.id, answer, actor=ACTOR))
    assert (again.status, again.runtime, again.output) == (
        RunState.COMPLETED,
        "scripted",
        "going on with s-9\n",
    )
    assert (again.session_id, again.resumed_from, again.attempt) == ("s-9", run.id, 2)


async def test_a_session_is_kept_before_the_end(shop: Workshop) -> None:
    """A run that is cut off can be resumed: its session is stored as soon as it is told."""
    run_id = await queued(shop, "session s-2", "say here", "wait there")
    await shop.printed(run_id, "here")
    assert (await shop.store.get_run(run_id)).session_id == "s-2"
    await shop.store.cancel_run(run_id, actor=ACTOR)
    run = await shop.finished(run_id)
    assert (run.status, run.session_id, run.output) == (RunState.CANCELLED, "s-2", "here\n")


async def test_a_server_that_is_gone_took_its_scripts_with_it(shop: Workshop) -> None:
    """Work inside a server that is provably gone is over: interrupted, and confirmed."""
    await shop.pulse.executor.stop()
    run_id = await queued(shop, "say x")
    gone = a_node()
    [claim] = await replace(shop, node=gone).claimed()
    assert (claim.run.id, claim.runtime) == (run_id, "scripted")
    run = await shop.store.get_run(run_id)
    assert not await shop.pulse.rescue._make_over(run)  # Nobody registered such a server.
    await shop.db.write(lambda tx: record_start(tx, gone))
    await Rescue(shop.store, shop.pulse.runtimes, node=shop.node, lease_s=30).work()
    run = await shop.store.get_run(run_id)
    assert (run.status, run.reason) == (RunState.INTERRUPTED, RunReason.LEASE_EXPIRED)


async def test_a_runtime_that_is_not_there_is_refused(shop: Workshop) -> None:
    """A schedule names a runtime that exists, and a program only where one is started."""
    for changes in (
        {"runtime": "nonesuch", "command": None},
        {"runtime": "scripted", "command": ("true",)},
        {"runtime": "command", "command": None},
        {"runtime": None, "command": None},
    ):
        with pytest.raises(DorkError) as refusal:
            await shop.schedule(**changes)
        assert refusal.value.code is ErrorCode.VALIDATION_FAILED


async def test_a_schedule_names_the_runtime_instead_of_the_agent(shop: Workshop, tmp_path: Path) -> None:
    """The manifest decides unless the schedule does: an entrypoint is a program, a product its runtime."""
    program = await shop.register(*python("print('by entrypoint')"), folder=tmp_path)
    product = await shop.register(folder=tmp_path)
    shop.agents.known[product.id] = replace(product, kind=AgentRuntime.CLAUDE_CODE)
    by_name = await shop.register("claude", folder=tmp_path)
    shop.agents.known[by_name.id] = replace(by_name, kind=AgentRuntime.CLAUDE_CODE)
    other = await shop.register(folder=tmp_path)
    shop.agents.known[other.id] = replace(other, kind=AgentRuntime.OTHER)

    async def runtime_of(agent_id: str, **changes: Any) -> tuple[str, tuple[str, ...]]:
        made = await shop.schedule(
            cron=None, timezone=None, command=None, agent_id=agent_id, prompt="words", **changes
        )
        await shop.store.trigger_run(made.id, actor=ACTOR)
        [claim] = await shop.claimed()
        return claim.runtime, claim.argv

    await shop.pulse.executor.stop()
    assert await runtime_of(program.id) == ("command", program.entrypoint)
    assert await runtime_of(product.id) == ("claude", ())
    assert await runtime_of(by_name.id) == ("claude", ())
    assert await runtime_of(product.id, runtime="scripted") == ("scripted", ())
    assert await runtime_of(program.id, runtime="acp") == ("acp", program.entrypoint)
    with pytest.raises(DorkError, match="nothing else drives"):
        await runtime_of(other.id)
