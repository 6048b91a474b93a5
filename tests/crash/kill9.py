"""Kill the server with SIGKILL again and again under load, and count what was lost. Nothing may be.

    python -m tests.crash.kill9 --kills 10

A schedule is due every second and its runs take a while, a sender publishes in a loop, a consumer
claims and acknowledges. After each kill the database is verified with the server down, the server is
started again, and everything that was ever answered must still be there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from dorkos.db.engine import Role, sqlite_engine
from tests.server_process import ServerProcess

MAILBOX = "relay.system.crash"
WITHIN_S = 60.0


@dataclass
class Answered:
    """What the server acknowledged, as the clients saw it."""

    published: list[str] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What one whole run of the script found. `faults` must stay empty."""

    kills: int = 0
    published: int = 0
    acked: int = 0
    slots: int = 0
    runs: int = 0
    interrupted: int = 0
    faults: list[str] = field(default_factory=list)


class Load:
    """A sender and a consumer in threads, until the server goes away or `stop` is called."""

    def __init__(self, server: ServerProcess, answered: Answered) -> None:
        """Record in `answered` only what the server confirmed."""
        self._answered = answered
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(server.client(), step), daemon=True)
            for step in (self._send, self._consume)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the request that is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=WITHIN_S)

    def _repeat(self, client: httpx.Client, step: Any) -> None:
        with client:
            while not self._over.is_set():
                try:
                    step(client)
                except (httpx.HTTPError, json.JSONDecodeError):
                    return  # Killed in the middle: whatever was not answered was not promised.

    def _send(self, client: httpx.Client) -> None:
        body = {"subject": MAILBOX, "payload": {"content": "still there?"}}
        answer = client.post("/api/relay/messages", json=body)
        if answer.status_code == 200 and answer.json()["deliveredTo"] == 1:
            self._answered.published.append(answer.json()["messageId"])

    def _consume(self, client: httpx.Client) -> None:
        body = {"limit": 5, "waitMs": 200}
        claimed = client.post(f"/api/relay/endpoints/{MAILBOX}/claim", json=body).json()["deliveries"]
        for delivery in claimed:
            receipt = {"messageId": delivery["messageId"], "leaseToken": delivery["leaseToken"]}
            if client.post(f"/api/relay/endpoints/{MAILBOX}/ack", json=receipt).status_code == 200:
                self._answered.acked.append(delivery["messageId"])


def run(kills: int, folder: Path, *, seed: int = 0) -> Report:
    """Do it `kills` times in `folder` and report. The seed decides when each kill comes."""
    chance = random.Random(seed)
    home, project = folder / "home", folder / "project"
    project.mkdir()
    server = ServerProcess(home, boundary=project, environment={"DORKOS_MAX_MAILBOX_SIZE": "100000"})
    answered, report = Answered(), Report()
    server.start()
    _prepare(server, project)
    for _ in range(kills):
        load = Load(server, answered)
        load.start()
        # Long enough for a run to be under way, at a moment that differs from kill to kill.
        _await_runs(server, more_than=_count_runs(server))
        threading.Event().wait(chance.uniform(0.05, 1.5))
        server.kill()
        report.kills += 1
        load.stop()
        report.faults += _verify(home)
        server.start()
        report.faults += _await_no_orphans(server)
    code = server.stop()
    if code != 0:
        report.faults.append(f"the server ended with exit code {code} after SIGTERM")
    report.faults += _verify(home)
    _count(home, answered, report)
    return report


def _prepare(server: ServerProcess, project: Path) -> None:
    with server.client() as client:
        client.post("/api/relay/endpoints", json={"subject": MAILBOX}).raise_for_status()
        schedule = {
            "name": "every second",
            "cron": "* * * * * *",
            "prompt": "work",
            "cwd": str(project),
            "command": [sys.executable, "-c", "import threading; threading.Event().wait(0.7)"],
        }
        client.post("/api/pulse/schedules", json=schedule).raise_for_status()


def _count_runs(server: ServerProcess) -> int:
    with server.client() as client:
        return len(client.get("/api/pulse/runs", params={"limit": 500}).json())


def _await_runs(server: ServerProcess, *, more_than: int) -> None:
    until = time.monotonic() + WITHIN_S
    while _count_runs(server) <= more_than:
        if time.monotonic() > until:
            raise TimeoutError("no run was started")
        threading.Event().wait(0.05)


def _await_no_orphans(server: ServerProcess) -> list[str]:
    """Runs of the killed server must be marked as interrupted, soon and without help."""
    until = time.monotonic() + WITHIN_S
    with server.client() as client:
        node = client.get("/api/status").json()["node"]["id"]
        while True:
            runs = client.get("/api/pulse/runs", params={"limit": 500}).json()
            orphans = [run for run in runs if run["state"] == "running" and run["node"] != node]
            if not orphans:
                return []
            if time.monotonic() > until:
                return [f"run {run['id']} of a killed server still says it is running" for run in orphans]
            threading.Event().wait(0.1)


def _verify(home: Path) -> list[str]:
    command = [sys.executable, "-m", "dorkos", "--home", str(home), "db", "verify"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f"db verify: {done.stdout} {done.stderr}"]


def _count(home: Path, answered: Answered, report: Report) -> None:
    """Compare what was promised with what is stored, straight from the file."""
    engine = sqlite_engine(home / "dork.db", Role.READER)
    with engine.connect() as connection:
        stored = set(_column(connection, "SELECT id FROM relay_messages"))
        delivered = set(_column(connection, "SELECT message_id FROM relay_index WHERE status = 'delivered'"))
        twice = _column(
            connection,
            "SELECT slot_id FROM pulse_runs WHERE attempt = 1 AND slot_id IS NOT NULL GROUP BY slot_id"
            " HAVING count(*) > 1",
        )
        fired_twice = _column(
            connection, "SELECT due_at FROM pulse_slots GROUP BY schedule_id, due_at HAVING count(*) > 1"
        )
        without_run = _column(
            connection,
            "SELECT id FROM pulse_slots WHERE verdict = 'run' AND id NOT IN"
            " (SELECT slot_id FROM pulse_runs WHERE slot_id IS NOT NULL)",
        )
        silent = _column(
            connection,
            "SELECT id FROM pulse_runs WHERE status = 'interrupted' AND (reason IS NULL OR error IS NULL)",
        )
        report.slots = len(_column(connection, "SELECT id FROM pulse_slots"))
        report.runs = len(_column(connection, "SELECT id FROM pulse_runs"))
        report.interrupted = len(
            _column(connection, "SELECT id FROM pulse_runs WHERE status = 'interrupted'")
        )
    engine.dispose()
    report.published, report.acked = len(answered.published), len(answered.acked)
    report.faults += [f"published message {m} is missing" for m in answered.published if m not in stored]
    report.faults += [
        f"acknowledged message {m} is not delivered" for m in answered.acked if m not in delivered
    ]
    report.faults += [f"slot {slot} has two first attempts" for slot in twice]
    report.faults += [f"the instant {due} was decided twice" for due in fired_twice]
    report.faults += [f"slot {slot} says run but has no run" for slot in without_run]
    report.faults += [f"interrupted run {run} does not say why" for run in silent]


def _column(connection: sa.Connection, query: str) -> list[str]:
    return [row[0] for row in connection.exec_driver_sql(query)]


def main() -> int:
    """Run from the command line; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dorkos-crash-") as folder:
        report = run(options.kills, Path(folder).resolve(), seed=options.seed)
    print(
        f"{report.kills} kills: {report.published} messages published, {report.acked} acknowledged, "
        f"{report.slots} slots, {report.runs} runs, {report.interrupted} interrupted; "
        f"{len(report.faults)} faults"
    )
    for fault in report.faults:
        print(f"  {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
