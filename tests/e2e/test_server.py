"""The whole program, started as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server_process import PROGRAM, ServerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def dorkos(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "dorkos", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_server_on_the_same_directory_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """The first one goes on."""
    with ServerProcess(tmp_path / "home", boundary=tmp_path, program=PROGRAM) as server:
        second = dorkos("up", "--port", "0", "--json", environment=server.environment)

        assert second.returncode == 6
        assert json.loads(second.stdout)["code"] == "home_locked"
        assert httpx.get(f"{server.url}/api/health").is_success


def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    """The message names the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {**os.environ, "DORK_HOME": str(tmp_path / "home"), "DORKOS_BOUNDARY": str(tmp_path)}
        done = dorkos("up", "--port", str(port), environment=environment)

    assert done.returncode == 6
    assert str(port) in done.stderr
    assert "--port" in done.stderr


def test_a_data_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file stands where the directory should be; permissions are tested where the home is."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    environment = {**os.environ, "DORK_HOME": str(tmp_path / "file")}
    done = dorkos("up", "--port", "0", "--json", environment=environment)

    assert done.returncode == 6
    assert json.loads(done.stdout)["code"] == "home_unwritable"
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_cleanly_and_marks_what_it_was_doing(tmp_path: Path, how: signal.Signals) -> None:
    """Exit code 0 within the limit although a run ignores SIGTERM and a stream is open; the run says why."""
    stubborn = """if True:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        signal.pause()
    """
    with ServerProcess(tmp_path / "home", boundary=tmp_path, program=PROGRAM) as server:
        with server.client() as client, client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            body = {
                "name": "stubborn",
                "cron": "@manual",
                "prompt": "hold on",
                "cwd": str(tmp_path),
                "command": [sys.executable, "-c", stubborn],
            }
            schedule = client.post("/api/pulse/schedules", json=body).json()
            run_id = client.post(f"/api/pulse/schedules/{schedule['id']}/trigger").json()["runId"]
            next(line for line in lines if line == "event: pulse.run.output")
            assert server.stop(how) == 0
        server.start()
        with server.client() as client:
            run = client.get(f"/api/pulse/runs/{run_id}").json()

    assert (run["state"], run["reason"], run["status"]) == ("interrupted", "shutdown", "failed")
    assert run["error"]


def test_the_examples_run_and_go_on_after_a_restart(tmp_path: Path) -> None:
    """A scheduled run completes, a message is delivered and acknowledged, and a reply arrives; then again.

    The command line tells the same facts while the server runs.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DORK")},
        "DORK_HOME": str(tmp_path / "home"),
        "DORKOS_PORT": "0",
    }
    first = _watch_examples(
        environment,
        until=("scout -> scribe", "scribe ends: completed", "scribe -> scout", "Delivered: scribe"),
        before_ctrl_c=lambda: _assert_command_line_agrees(environment),
    )
    assert any("Registered scout" in line for line in first)

    second = _watch_examples(environment, until=("scout -> scribe", "Delivered: scout"))
    assert any("runs are in the history" in line for line in second)
    assert not any("Registered" in line for line in second)


def _assert_command_line_agrees(environment: dict[str, str]) -> None:
    def ask(*arguments: str) -> Any:
        done = dorkos(*arguments, "--json", environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    agents = {agent["name"]: agent for agent in ask("mesh", "list")["agents"]}
    runs = ask("pulse", "runs")
    messages = ask("relay", "messages")["messages"]

    assert set(agents) == {"scout", "scribe"}
    completed = {(run["trigger"], run["agentId"]) for run in runs if run["state"] == "completed"}
    assert completed >= {("scheduled", agents["scout"]["id"]), ("message", agents["scribe"]["id"])}
    scout, scribe = agents["scout"]["subject"], agents["scribe"]["subject"]
    told = [message for message in messages if (message["from"], message["subject"]) == (scout, scribe)]
    assert "delivered" in {message["status"] for message in told}
    answers = [message for message in messages if message["subject"] == scout]
    assert {answer["from"] for answer in answers} == {scribe}
    assert {answer["parentId"] for answer in answers} <= {message["id"] for message in told}


def _watch_examples(
    environment: dict[str, str], *, until: tuple[str, ...], before_ctrl_c: Callable[[], None] = lambda: None
) -> list[str]:
    """Start examples/run.py, read until every text was seen, press Ctrl-C; it must end with 0."""
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "run.py")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    # A story that does not come to its end is stopped from outside, so that the reading below ends.
    give_up = threading.Timer(90, lambda: os.killpg(process.pid, signal.SIGKILL))
    give_up.start()
    lines: list[str] = []
    assert process.stdout is not None
    waiting = set(until)
    try:
        for line in process.stdout:
            lines.append(line)
            waiting = {text for text in waiting if text not in line}
            if not waiting:
                break
        before_ctrl_c()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        lines.extend(process.stdout)
        give_up.cancel()
        give_up.join()
        process.stdout.close()
        code = process.wait(timeout=30)
    assert not waiting, "".join(lines)
    assert code == 0, "".join(lines)
    return lines
