"""Two servers on one PostgreSQL fire the same schedules; one of them is killed and started again, twice.

    python -m tests.crash.two_servers --schedules 200 --seconds 60

Each schedule is due every two seconds and starts a turn of the `scripted` runtime, which writes the id of
its run into a file: a second witness of what was started, beside the database. One in four never ends by
itself, so that each kill finds something at work, and is tried three times. Afterwards every due instant
must have exactly one slot, no attempt may have been started twice, and a later one only when the one before
had ended.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dorkos.db.engine import postgres_url
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.db.schema.system import events
from dorkos.testing import empty_postgres
from dorkos.vocabulary import ACTIVE_RUN_STATES, RunState, Verdict
from tests.server_process import ServerProcess

EVERY = timedelta(seconds=2)
STARTED = "started.txt"
WITHIN_S = 120.0


@dataclass
class Report:
    """What one whole run of the script found. `faults` must stay empty."""

    schedules: int = 0
    kills: int = 0
    instants: int = 0
    slots: int = 0
    fired: int = 0
    runs: int = 0
    completed: int = 0
    timeouts: int = 0
    interrupted: int = 0
    later_attempts: int = 0
    by_server: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def run(schedules: int, seconds: float, folder: Path, *, kills: int = 2) -> Report:
    """Do it in `folder` and report."""
    report = Report(schedules=schedules)
    project = folder / "project"
    project.mkdir()
    with empty_postgres() as url, ExitStack() as stack:
        # Too few for one server alone, so that both have something at work.
        places = str(max(2, schedules * 3 // 20))
        environment = {"DORKOS_DATABASE_URL": url, "DORKOS_MAX_CONCURRENT_RUNS": places}
        first, second = (
            ServerProcess(folder / name, boundary=project, environment=environment) for name in ("a", "b")
        )
        stack.enter_context(first)
        stack.enter_context(second)
        _prepare(first, schedules, project)
        for _ in range(kills):
            _pause(seconds / (kills + 1))
            _until_at_work(second)
            second.kill()
            report.kills += 1
            _pause(1.0)
            second.start()
        _pause(seconds / (kills + 1))
        _drain(first)
        codes = [server.stop() for server in (first, second)]
        if codes != [0, 0]:
            report.faults.append(f"the servers ended with the exit codes {codes} after SIGTERM")
        engine = sa.create_engine(postgres_url(url), poolclass=NullPool)
        with engine.connect() as connection:
            _judge(connection, report)
            _compare(connection, (project / STARTED).read_text("utf-8").split(), report)
    return report


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _prepare(server: ServerProcess, schedules: int, project: Path) -> None:
    with server.client() as client:
        for number in range(schedules):
            hangs = number % 4 == 0
            last = "hang" if hangs else "say done"
            body = {
                "name": f"job {number}",
                "cron": "*/2 * * * * *",
                "runtime": "scripted",
                "cwd": str(project),
                "prompt": f"#!scripted\nappend {STARTED} {{DORKOS_RUN_ID}}\n{last}",
                "maxRuntime": 1000 if hangs else None,
                "maxAttempts": 3,
                "retryDelayMs": 0,
            }
            client.post("/api/pulse/schedules", json=body).raise_for_status()


def _until_at_work(server: ServerProcess) -> None:
    """Wait until a turn that does not end soon is at work on this server, so that a kill finds it."""
    until = time.monotonic() + WITHIN_S
    with server.client() as client:
        node = client.get("/api/status").json()["node"]["id"]
        while time.monotonic() < until:
            found = client.get("/api/pulse/runs", params={"status": "running", "limit": 500}).json()
            if any(
                run["node"] == node and run["state"] == "running" and run["prompt"].endswith("hang")
                for run in found
            ):
                return
            _pause(0.05)
    raise SystemExit("one of the servers never had anything at work")


def _drain(server: ServerProcess) -> None:
    """Let nothing new come up, and wait until what was accepted is done."""
    until = time.monotonic() + WITHIN_S
    with server.client() as client:
        client.post("/api/system/fleet", json={"mode": "drain"}).raise_for_status()
        while client.get("/api/pulse/runs", params={"status": "running", "limit": 1}).json():
            if time.monotonic() > until:
                raise SystemExit("what was accepted was not done in time")
            _pause(0.2)


def _judge(connection: sa.Connection, report: Report) -> None:
    """Every instant exactly one slot, every slot that fired exactly one run for each attempt, in turn."""
    cursors = {row.id: row.decided_until for row in connection.execute(sa.select(pulse_schedules))}
    slots = connection.execute(
        sa.select(pulse_slots, pulse_slots.c.count.label("number")).order_by(
            pulse_slots.c.schedule_id, pulse_slots.c.due_at
        )
    ).all()
    report.slots = len(slots)
    for schedule_id, of_schedule in groupby(slots, key=lambda slot: slot.schedule_id):
        own = list(of_schedule)
        report.instants += sum(slot.number for slot in own)
        report.faults += _judge_instants(own, cursors[schedule_id])
    if len({slot.schedule_id for slot in slots}) != report.schedules:
        report.faults.append("there are schedules without a slot")
    fired = {slot.id for slot in slots if slot.verdict is Verdict.RUN}
    report.fired = len(fired)
    runs = connection.execute(
        sa.select(pulse_runs).order_by(pulse_runs.c.slot_id, pulse_runs.c.attempt)
    ).all()
    report.runs = len(runs)
    report.completed = sum(one.status is RunState.COMPLETED for one in runs)
    report.timeouts = sum(one.status is RunState.TIMEOUT for one in runs)
    report.interrupted = sum(one.status is RunState.INTERRUPTED for one in runs)
    report.by_server = dict(Counter(str(one.lease_owner) for one in runs))
    report.faults += [f"the run {one.id} never ended" for one in runs if one.status in ACTIVE_RUN_STATES]
    if {one.slot_id for one in runs} != fired:
        report.faults.append("the slots that fired are not those that have runs")
    for slot_id, attempts in groupby(runs, key=lambda one: one.slot_id):
        report.faults += _judge_attempts(slot_id, list(attempts), report)


def _judge_instants(slots: Sequence[sa.Row[Any]], decided_until: datetime) -> Iterator[str]:
    for slot in slots:
        if slot.due_at + EVERY * (slot.number - 1) != slot.through_at:
            yield f"the slot {slot.id} stands for {slot.number} instants, which it does not span"
    for earlier, later in pairwise(slots):
        if earlier.through_at + EVERY != later.due_at:
            yield f"after {earlier.through_at} came {later.due_at} of {later.schedule_id}"
    if not slots[-1].through_at <= decided_until < slots[-1].through_at + EVERY:
        yield f"{slots[-1].schedule_id} is decided until {decided_until}, and its slots end before"


def _judge_attempts(slot_id: str, attempts: Sequence[sa.Row[Any]], report: Report) -> Iterator[str]:
    report.later_attempts += len(attempts) - 1
    if [one.attempt for one in attempts] != list(range(1, len(attempts) + 1)):
        yield f"the attempts of the slot {slot_id} are {[one.attempt for one in attempts]}"
    for earlier, later in pairwise(attempts):
        if later.started_at < earlier.finished_at:
            yield f"the run {later.id} began before {earlier.id} had ended"


def _compare(connection: sa.Connection, written: Sequence[str], report: Report) -> None:
    """What the events and the turns themselves say was started, each at most once."""
    told = connection.execute(sa.select(events.c.entity_id).where(events.c.kind == "pulse.run.started"))
    for witness, started in (("event", Counter(told.scalars())), ("turn", Counter(written))):
        twice = [one for one, times in started.items() if times > 1]
        report.faults += [f"{witness}: {one} was started {started[one]} times" for one in twice]
    done = connection.execute(sa.select(pulse_runs.c.id).where(pulse_runs.c.status == RunState.COMPLETED))
    idle = set(done.scalars()) - set(written)
    report.faults += [f"the run {one} is completed and did nothing" for one in sorted(idle)]


def main() -> None:
    """Print the report; exit code 1 if there was a fault."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--schedules", type=int, default=200)
    arguments.add_argument("--seconds", type=float, default=60.0)
    arguments.add_argument("--kills", type=int, default=2)
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(asked.schedules, asked.seconds, Path(folder), kills=asked.kills)
    for name, value in asdict(report).items():
        if name != "faults":
            print(f"{name}: {value}")
    print(f"faults: {len(report.faults)}")
    for fault in report.faults[:20]:
        print(f"  {fault}")
    raise SystemExit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
