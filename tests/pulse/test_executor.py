"""Runs with real processes: what they print, how they end, and what ends them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from dorkos.clock import SystemClock
from dorkos.identity.tokens import caller_of
from dorkos.pulse.capture import TAIL_CHARACTERS
from dorkos.pulse.model import Cancellation
from dorkos.testing import create_test_db
from dorkos.vocabulary import OutputStream, RunReason, RunState, RunTrigger, Scope
from tests.pulse.workshop import ACTOR, Request, Workshop, python, working, workshop

FOREVER = "import signal\nprint('ready')\nwhile True: signal.pause()"
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}"
# A child of the program, in its group; it prints the child's process id.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])
"""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """Pulse at work on SQLite, with the machine's clock."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        yield shop


def is_alive(pid: int) -> bool:
    """Whether the process still does something. One that waits for its parent to notice does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(pid: int) -> None:
    """Return once the process is gone; a TimeoutExpired says that it is not."""
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(timeout=30)
    except psutil.NoSuchProcess:
        pass


async def test_a_program_that_succeeds_is_completed(shop: Workshop) -> None:
    """Exit code 0 means completed; the run keeps its output, its end, its code and its times."""
    run = await shop.finished(await shop.queued(*python("print('done')")))

    assert (run.status, run.reason, run.error, run.exit_code) == (RunState.COMPLETED, None, None, 0)
    assert run.output == "done\n"
    assert await shop.text(run.id) == "done\n"
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.duration_ms == (run.finished_at - run.started_at) // timedelta(milliseconds=1)
    assert run.lease_token is None
    assert run.pid is not None


async def test_an_exit_code_is_a_failure(shop: Workshop) -> None:
    """Any other code means failed, with the code."""
    run = await shop.finished(await shop.queued(*python("raise SystemExit(3)")))
    assert (run.status, run.reason, run.exit_code) == (RunState.FAILED, RunReason.EXIT_CODE, 3)
    assert run.error == "The program exited with code 3."


async def test_a_signal_is_a_failure(shop: Workshop) -> None:
    """A program that is killed by somebody else failed, with the signal's name."""
    run = await shop.finished(await shop.queued(*python("import os; os.kill(os.getpid(), 9)")))
    assert (run.status, run.reason, run.exit_code) == (RunState.FAILED, RunReason.SIGNAL, None)
    assert run.error == "The program was ended by SIGKILL."


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("no-such-program-anywhere",), "was not found"),
        (("/",), "may not be executed"),
    ],
)
async def test_a_program_that_cannot_start_says_why(shop: Workshop, argv: tuple[str, ...], says: str) -> None:
    """A missing program, or one that is none, is failed / start_failed with the reason."""
    run = await shop.finished(await shop.queued(*argv))
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert says in (run.error or "")


async def test_a_missing_working_directory_says_so(shop: Workshop, tmp_path: Path) -> None:
    """A directory that went away after the schedule was made is start_failed, not a run elsewhere."""
    place = tmp_path / "place"
    place.mkdir()
    made = await shop.schedule(cron=None, timezone=None, cwd=str(place))
    place.rmdir()
    run = await shop.finished(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert "does not exist" in (run.error or "")


async def test_a_working_directory_that_became_a_way_out_is_refused(shop: Workshop, tmp_path: Path) -> None:
    """The boundary is checked again at the start: a directory replaced by a link outside is not entered."""
    place = tmp_path / "place"
    place.mkdir()
    made = await shop.schedule(cron=None, timezone=None, cwd=str(place))
    place.rmdir()
    place.symlink_to("/")
    run = await shop.finished(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert "not allowed" in (run.error or "")


async def test_a_working_directory_that_a_link_took_the_place_of_is_refused(
    shop: Workshop, tmp_path: Path
) -> None:
    """Inside the boundary as well: what lies there now is not what a person approved."""
    place, other = tmp_path / "place", tmp_path / "other"
    place.mkdir()
    other.mkdir()
    made = await shop.schedule(cron=None, timezone=None, cwd=str(place))
    place.rmdir()
    place.symlink_to(other)
    run = await shop.finished(await shop.store.trigger_run(made.id, actor=ACTOR))
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert "a link took its place" in (run.error or "")


async def test_the_prompt_arrives_in_an_argument_or_on_standard_input(shop: Workshop) -> None:
    """`{prompt}` is replaced inside an argument, else the input holds the prompt; no shell reads either."""
    program = "import sys; print(sys.argv[1], sys.stdin.read(), sep='|')"
    run_id = await shop.queued(*python(program), "say: {prompt}", prompt="$(id) ü {x}")
    run = await shop.finished(run_id)
    assert run.output == "say: $(id) ü {x}|\n"
    run = await shop.finished(await shop.queued(*python(program), "say", prompt="$(id) ü {x}"))
    assert run.output == "say|$(id) ü {x}\n"


async def test_a_large_prompt_that_nobody_reads_holds_nothing_up(shop: Workshop, tmp_path: Path) -> None:
    """A program that never reads its input ends as it likes, with 1 MB of prompt still unsent."""
    agent = await shop.register(*python("print('not interested')"), folder=tmp_path)
    request = Request(agent.id, "01DELIVERY0000000000000000", "01CHAIN0000000000000000000", "x" * 2**20, {})
    run_id = "01RUN000000000000000000000"
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=run_id))
    run = await shop.finished(run_id)
    assert (run.status, run.output) == (RunState.COMPLETED, "not interested\n")
    assert shop.deliveries.settled == {request.delivery_id: (RunState.COMPLETED, None)}


async def test_a_program_that_closes_its_input_goes_on(shop: Workshop, tmp_path: Path) -> None:
    """A broken pipe to the program is not a failure of the run."""
    program = "import os, sys; os.close(0); print('deaf'); sys.stdout.flush()"
    agent = await shop.register(*python(program), folder=tmp_path)
    request = Request(agent.id, "01DELIVERY0000000000000000", "01CHAIN0000000000000000000", "x" * 2**20, {})
    run_id = "01RUN000000000000000000000"
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=run_id))
    assert (await shop.finished(run_id)).status is RunState.COMPLETED


async def test_output_is_kept_in_order_up_to_a_limit(tmp_path: Path) -> None:
    """Of 2 MB the first part is kept, one line says that the rest was dropped, and the tail is the end."""
    clock = SystemClock()
    program = "for i in range(250_000): print(f'{i:07}')"
    async with (
        create_test_db(clock=clock) as db,
        working(workshop(db, clock, tmp_path, max_output_bytes=100_000)) as shop,
    ):
        run = await shop.finished(await shop.queued(*python(program)))
        page = await shop.store.read_output(run.id, limit=500)

    assert run.status is RunState.COMPLETED
    kept = "".join(chunk.text for chunk in page.chunks if chunk.stream is OutputStream.STDOUT)
    assert kept == "".join(f"{i:07}\n" for i in range(12_500))
    notices = [chunk.text for chunk in page.chunks if chunk.stream is OutputStream.SYSTEM]
    assert notices == ["Output beyond 100000 bytes was dropped.\n"]
    assert [chunk.seq for chunk in page.chunks] == list(range(1, len(page.chunks) + 1))
    assert run.output is not None
    assert len(run.output) == TAIL_CHARACTERS
    assert run.output.endswith("0249998\n0249999\n")


async def test_output_that_is_not_text_is_shown_as_far_as_possible(shop: Workshop) -> None:
    """Bytes that are not UTF-8 and U+0000 become U+FFFD; a character split between writes stays whole."""
    program = (
        "import os; os.write(1, b'a\\xff\\x00b'); os.write(1, '€'.encode()[:1]); "
        "os.write(1, '€'.encode()[1:]); os.write(1, b'\\xe2\\x82')"
    )
    run = await shop.finished(await shop.queued(*python(program)))
    assert run.status is RunState.COMPLETED
    assert run.output == await shop.text(run.id) == "a\ufffd\ufffdb€\ufffd"


async def test_both_streams_are_told_apart(shop: Workshop) -> None:
    """What went to standard error is marked as such; the tail holds both."""
    program = "import sys; print('out'); sys.stdin.read(); print('err', file=sys.stderr)"
    run = await shop.finished(await shop.queued(*python(program)))
    page = await shop.store.read_output(run.id)
    # Where it is cut into chunks depends on when it came, and says nothing.
    told = {
        stream: "".join(chunk.text for chunk in page.chunks if chunk.stream is stream)
        for stream in (OutputStream.STDOUT, OutputStream.STDERR)
    }
    assert told == {OutputStream.STDOUT: "out\n", OutputStream.STDERR: "err\n"}
    assert page.final


async def test_the_deadline_ends_a_silent_program(shop: Workshop) -> None:
    """The limit is a timer: a program that prints nothing more is ended as timeout."""
    run = await shop.finished(await shop.queued(*python(FOREVER), max_runtime=300))
    assert (run.status, run.reason) == (RunState.TIMEOUT, RunReason.DEADLINE)
    assert run.error == "The run took longer than its limit of 300 ms."


async def test_a_run_is_cancelled_while_it_works(shop: Workshop) -> None:
    """Cancelling a running run ends its program and says cancelled."""
    run_id = await shop.queued(*python(FOREVER))
    await shop.printed(run_id, "ready")
    assert await shop.store.cancel_run(run_id, actor=ACTOR) is Cancellation.STOPPING
    run = await shop.finished(run_id)
    assert (run.status, run.reason) == (RunState.CANCELLED, RunReason.CANCEL_REQUESTED)
    assert run.pid is not None
    assert not is_alive(run.pid)


async def test_a_program_that_ignores_the_request_is_killed(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL follows SIGTERM after the grace."""
    monkeypatch.setattr("dorkos.pulse.execution.GRACE_S", 0.2)
    run_id = await shop.queued(*python(DEAF))
    await shop.printed(run_id, "ready")
    await shop.store.cancel_run(run_id, actor=ACTOR)
    run = await shop.finished(run_id)
    assert run.status is RunState.CANCELLED
    assert run.pid is not None
    assert not is_alive(run.pid)


async def test_cancelling_ends_the_children_too(shop: Workshop) -> None:
    """The whole process group is ended, not only its leader."""
    run_id = await shop.queued(*python(PARENT + "print(child.pid, 'ready')\nchild.wait()"))
    await shop.printed(run_id, "ready")
    child = int((await shop.text(run_id)).split()[0])
    await shop.store.cancel_run(run_id, actor=ACTOR)
    await shop.finished(run_id)
    wait_gone(child)


async def test_children_left_behind_are_killed(shop: Workshop) -> None:
    """A program that ends while its child still holds the output open completes, and the child is killed."""
    run = await shop.finished(await shop.queued(*python(PARENT + "print(child.pid)")))
    assert run.status is RunState.COMPLETED
    wait_gone(int(run.output or ""))


async def test_a_daemon_is_killed_with_its_run(shop: Workshop) -> None:
    """A session of its own does not keep it from ending."""
    program = PARENT.replace("])", "], start_new_session=True)")
    run = await shop.finished(await shop.queued(*python(program + "print(child.pid)")))
    assert run.status is RunState.COMPLETED
    wait_gone(int(run.output or ""))


async def test_a_daemon_that_gave_up_the_run_does_not_hold_it(shop: Workshop) -> None:
    """Started without the id of the run, with the output still open, it is let go."""
    program = PARENT.replace("])", "], start_new_session=True, env={})")
    run = await shop.finished(await shop.queued(*python(program + "print(child.pid)")))
    child = int(run.output or "")
    assert run.status is RunState.COMPLETED
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


async def test_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets of the server's environment stay out; the run learns who it is and where the server is."""
    monkeypatch.setenv("SECRET_KEY", "hunter2")
    monkeypatch.setenv("LC_TIME", "C")
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    clock = SystemClock()
    async with create_test_db(clock=clock) as db, working(workshop(db, clock, tmp_path)) as shop:
        agent = await shop.register(*python(program), folder=tmp_path)
        context = {"DORKOS_MESSAGE_ID": "01M", "DORKOS_TOKEN": "forged"}
        request = Request(agent.id, "01DELIVERY0000000000000000", "01CHAIN0000000000000000000", "hi", context)
        run_id = "01RUN000000000000000000000"
        await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=run_id))
        run = await shop.finished(run_id)

    seen = json.loads(run.output or "")
    assert "SECRET_KEY" not in seen
    assert seen["LC_TIME"] == "C"
    assert seen["DORKOS_URL"] == "http://127.0.0.1:4242"
    assert seen["DORKOS_RUN_ID"] == run_id
    assert seen["DORKOS_AGENT_ID"] == agent.id
    assert seen["DORKOS_SUBJECT"] == agent.subject
    assert seen["DORKOS_MESSAGE_ID"] == "01M"
    assert seen["DORKOS_TOKEN"] != "forged"
    assert run.trigger is RunTrigger.MESSAGE
    assert run.chain_id == request.chain_id


async def test_a_token_lives_as_long_as_its_run(shop: Workshop, tmp_path: Path) -> None:
    """A run may send and receive as its schedule while it works; its token is refused once it has ended."""
    told = tmp_path / "token"
    program = f"import os; open({str(told)!r}, 'w').write(os.environ['DORKOS_TOKEN'])\n" + FOREVER
    run_id = await shop.queued(*python(program))
    await shop.printed(run_id, "ready")
    secret = await asyncio.to_thread(told.read_text)
    now = await shop.store.now()

    caller = await shop.db.read(lambda c: caller_of(c, secret, now))
    assert caller is not None
    run = await shop.store.get_run(run_id)
    assert caller.subject == f"relay.system.pulse.{run.schedule_id}"
    assert caller.scopes == {Scope.SEND, Scope.RECEIVE}
    assert caller.run_id == run_id

    await shop.store.cancel_run(run_id, actor=ACTOR)
    await shop.finished(run_id)
    assert await shop.db.read(lambda c: caller_of(c, secret, now)) is None


async def test_an_agent_without_an_entrypoint_fails_with_the_reason(shop: Workshop, tmp_path: Path) -> None:
    """A message to an agent that nothing can start ends its run, and settles the delivery as failed."""
    agent = await shop.register(folder=tmp_path)
    request = Request(agent.id, "01DELIVERY0000000000000000", "01CHAIN0000000000000000000", "hi", {})
    run_id = "01RUN000000000000000000000"
    await shop.db.write(lambda tx: shop.pulse.queue_run(tx, request, run_id=run_id))
    run = await shop.finished(run_id)
    assert (run.status, run.reason) == (RunState.FAILED, RunReason.START_FAILED)
    assert "no entrypoint" in (run.error or "")
    assert shop.deliveries.settled[request.delivery_id] == (RunState.FAILED, RunReason.START_FAILED)


async def test_no_more_runs_at_once_than_allowed(tmp_path: Path) -> None:
    """The cap queues: the next run starts when one ends, and none is dropped."""
    clock = SystemClock()
    async with (
        create_test_db(clock=clock) as db,
        working(workshop(db, clock, tmp_path, max_concurrent_runs=1)) as shop,
    ):
        first = await shop.queued(*python(FOREVER))
        await shop.printed(first, "ready")
        second = await shop.queued(*python("print('second')"))
        await shop.pulse.executor.work()
        assert list(shop.pulse.executor.active) == [first]
        assert (await shop.store.get_run(second)).status is RunState.QUEUED
        await shop.store.cancel_run(first, actor=ACTOR)
        assert (await shop.finished(second)).output == "second\n"


async def test_stopping_interrupts_what_runs_and_keeps_what_waits(tmp_path: Path) -> None:
    """A server that stops ends its runs as interrupted / shutdown, deaf or not; others wait on."""
    clock = SystemClock()
    async with create_test_db(clock=clock) as db:
        async with working(workshop(db, clock, tmp_path, max_concurrent_runs=1)) as shop:
            first = await shop.queued(*python(DEAF))
            await shop.printed(first, "ready")
            second = await shop.queued(*python("print('second')"))
            async with asyncio.timeout(30):
                await shop.pulse.stop()
        stopped = await shop.store.get_run(first)
        assert (stopped.status, stopped.reason) == (RunState.INTERRUPTED, RunReason.SHUTDOWN)
        assert stopped.output == "ready\n"
        assert (await shop.store.get_run(second)).status is RunState.QUEUED


async def test_a_cancel_under_way_does_not_delay_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping shortens the grace of a run that is being cancelled."""
    monkeypatch.setattr("dorkos.pulse.execution.GRACE_S", 600.0)
    clock = SystemClock()
    async with create_test_db(clock=clock) as db:
        async with working(workshop(db, clock, tmp_path)) as shop:
            run_id = await shop.queued(*python(DEAF))
            await shop.printed(run_id, "ready")
            await shop.store.cancel_run(run_id, actor=ACTOR)
            await shop.pulse.executor.heartbeat.work()
            async with asyncio.timeout(30):
                await shop.pulse.stop()
        assert (await shop.store.get_run(run_id)).status is RunState.CANCELLED


async def test_no_secret_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named values are nowhere: not in the output, its tail, nor the error; the run's token never is."""
    monkeypatch.setenv("LC_KEY", "hunter2-hunter2")
    monkeypatch.setenv("SERVER_KEY", "swordfish")
    clock = SystemClock()
    program = "import os; print(os.environ['LC_KEY'], 'swordfish', os.environ['DORKOS_TOKEN'], sep='\\n')"
    async with (
        create_test_db(clock=clock) as db,
        working(workshop(db, clock, tmp_path, redact=["DORKOS_TOKEN", "LC_KEY", "SERVER_KEY"])) as shop,
    ):
        run = await shop.finished(await shop.queued(*python(program)))
        assert run.output == await shop.text(run.id) == "[redacted]\n" * 3
        failed = await shop.finished(await shop.queued("/no/such/hunter2-hunter2"))
        assert failed.reason is RunReason.START_FAILED
        assert "[redacted]" in (failed.error or "")
        assert "hunter2" not in (failed.error or "")


async def test_what_looks_like_a_secret_is_not_stored(tmp_path: Path) -> None:
    """By its beginning, also when no variable holds it."""
    clock = SystemClock()
    async with (
        create_test_db(clock=clock) as db,
        working(workshop(db, clock, tmp_path, redact_patterns=["sk-live-*", "swordfish"])) as shop,
    ):
        program = "print('sk-live-' + '0123456789', 'sk-live-x', 'sword' + 'fish')"
        run = await shop.finished(await shop.queued(*python(program)))
        assert run.output == "[redacted] sk-live-x [redacted]\n"
