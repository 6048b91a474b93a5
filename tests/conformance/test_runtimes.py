"""What holds for every runtime: how turns are told, how they end, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dorkos.runtimes.events import Text, ToolCall, ToolStatus
from dorkos.runtimes.protocol import Printed
from dorkos.runtimes.results import Blocked, Completed, Failed, FailureKind
from dorkos.vocabulary import PermissionMode
from tests.runtimes.kits import (
    Ask,
    Empty,
    Fail,
    Hang,
    Kit,
    Leave,
    Say,
    Work,
    carriers,
    drained,
    kit_of,
    nothing_is_left,
    started,
    take,
    until_said,
)

ALL = ("scripted", "command", "acp", "claude", "codex")
# Codex tells its model that nobody can be asked, outside of a mode for planning that its SDK does not offer.
ASKERS = ("scripted", "command", "acp", "claude")
# Those whose agents use tools that a run's rights are about.
WORKERS = ("acp", "claude")


@pytest.fixture(params=ALL)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    with kit_of(request.param) as found:
        yield found


@pytest.fixture(params=ASKERS)
def asker(request: pytest.FixtureRequest) -> Iterator[Kit]:
    with kit_of(request.param) as found:
        yield found


@pytest.fixture(params=WORKERS)
def worker(request: pytest.FixtureRequest) -> Iterator[Kit]:
    with kit_of(request.param) as found:
        yield found


async def test_an_answer_is_completed(kit: Kit, tmp_path: Path) -> None:
    """What is said comes out in pieces, in order, with the session, the model and the tokens."""
    taken = await take(kit, kit.spec(tmp_path, Say(("Hello", "there"))))
    assert taken.ending == Completed()
    assert taken.ended.ok
    pieces = [each for each in taken.said if isinstance(each, Text | Printed)]
    assert len(pieces) >= 1
    assert taken.text.index("Hello") < taken.text.index("there")
    assert taken.report.session_id
    usage = taken.report.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (12, 7)


async def test_a_failure_says_why(kit: Kit, tmp_path: Path) -> None:
    """It is a failure of the agent, with its reason."""
    taken = await take(kit, kit.spec(tmp_path, Fail()))
    assert isinstance(taken.ending, Failed)
    assert taken.ending.kind is FailureKind.AGENT_ERROR
    assert taken.ending.message.strip()


async def test_a_success_without_an_answer_is_a_failure(kit: Kit, tmp_path: Path) -> None:
    """However the agent puts it, nothing said is nothing done."""
    taken = await take(kit, kit.spec(tmp_path, Empty()))
    assert isinstance(taken.ending, Failed)


async def test_a_question_blocks(asker: Kit, tmp_path: Path) -> None:
    """What only a person can answer ends the turn, with the question and what could be answered."""
    taken = await take(asker, asker.spec(tmp_path, Ask("Which one?", ("red", "blue"))))
    assert isinstance(taken.ending, Blocked)
    assert taken.ending.question.question == "Which one?"
    assert taken.ending.question.options == ("red", "blue")
    assert taken.report.session_id


async def test_a_session_goes_on(kit: Kit, tmp_path: Path) -> None:
    """A turn that resumes keeps the session of the one before."""
    before = (await take(kit, kit.spec(tmp_path, Say()))).report.session_id
    after = await take(kit, kit.spec(tmp_path, Say(), resume=before))
    assert after.ending == Completed()
    assert after.report.session_id == before


async def test_a_turn_is_ended_when_asked(kit: Kit, tmp_path: Path) -> None:
    """A cancel is confirmed by the end, what was said before is there, and no process is left."""
    async with started(kit, kit.spec(tmp_path, Hang())) as turn, asyncio.timeout(60):
        events = turn.events()
        await until_said(events, "ready")
        assert await turn.terminate(30) is not None
        assert [each async for each in events if isinstance(each, Text)] == []
        assert nothing_is_left(turn.pid)


async def test_a_turn_that_does_not_listen_is_killed(kit: Kit, tmp_path: Path) -> None:
    """After the grace it is killed with all that it started."""
    async with started(kit, kit.spec(tmp_path, Hang(deaf=True))) as turn, asyncio.timeout(60):
        await until_said(turn.events(), "ready")
        assert await turn.terminate(0) is not None
        assert nothing_is_left(turn.pid)


async def test_a_turn_whose_process_dies_has_failed(kit: Kit, tmp_path: Path) -> None:
    """A kill from outside is a failure of that name, and what it had started ends with it."""
    async with started(kit, kit.spec(tmp_path, Hang())) as turn, asyncio.timeout(60):
        await until_said(turn.events(), "ready")
        if turn.pid is None:
            turn.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(turn.pid, signal.SIGKILL)
        assert (await turn.wait()).signal == signal.SIGKILL
        assert nothing_is_left(turn.pid)


@pytest.mark.parametrize(("name", "killed"), [("command", True), ("acp", False), ("claude", False)])
async def test_what_left_the_group_ends_with_the_turn(name: str, tmp_path: Path, killed: bool) -> None:
    """Claude Code runs every command in a session of its own; it is over with the turn like all the rest."""
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(await reader.readline())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    program = (
        f"import os, signal, socket; told = socket.create_connection(('127.0.0.1', {port})); "
        "told.sendall(b'%d\\n' % os.getsid(0)); signal.pause()"
    )
    with kit_of(name) as starter:
        spec = starter.spec(
            tmp_path,
            Leave((sys.executable, "-c", program)),
            permission_mode=PermissionMode.BYPASS_PERMISSIONS,
        )
        async with server, started(starter, spec) as turn, asyncio.timeout(90):
            reading = asyncio.create_task(drained(turn))
            assert int(await told) != os.getsid(turn.pid or 0)
            if killed:
                os.kill(turn.pid or 0, signal.SIGKILL)
                await turn.wait()
            else:
                assert await turn.terminate(30) is not None
            assert carriers(spec.environment["DORKOS_RUN_ID"]) == []
            await reading


async def test_rights_let_an_agent_work(worker: Kit, tmp_path: Path) -> None:
    """With rights to edit, the file is written, and the call is told from its start to its end."""
    spec = worker.spec(tmp_path, Work(), permission_mode=PermissionMode.ACCEPT_EDITS)
    taken = await take(worker, spec)
    assert taken.ending == Completed()
    assert (tmp_path / "made.txt").read_text() == "made"
    calls = [each.status for each in taken.said if isinstance(each, ToolCall)]
    assert (calls[0], calls[-1]) == (ToolStatus.STARTED, ToolStatus.COMPLETED)


async def test_what_the_rights_do_not_cover_is_denied(worker: Kit, tmp_path: Path) -> None:
    """Without rights to edit, nothing is written, the call is told as denied, and the turn goes on."""
    taken = await take(worker, worker.spec(tmp_path, Work(), permission_mode=PermissionMode.DEFAULT))
    assert taken.ending == Completed()
    assert not (tmp_path / "made.txt").exists()
    assert ToolStatus.DENIED in [each.status for each in taken.said if isinstance(each, ToolCall)]
