"""A job every second, its scheduler killed three times and away for a while: what became of each second.

`python -m benchmarks.restarts apscheduler FOLDER` is one contestant at work until it is killed.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from dorkos.db.engine import sqlite_driver

_KILLS = 3
_AT_WORK_S = 4.0
_AWAY_S = 3.0
_READY = "DorkOS ready on "


@dataclass(frozen=True, slots=True)
class Account:
    """Of the seconds between the first and the last that anything is known of."""

    name: str
    seconds: int
    ran: int
    twice: int
    told: int
    """Did not run, and a stored row says why."""

    @property
    def silent(self) -> int:
        """Did not run, and nothing says so."""
        return self.seconds - self.ran - self.told

    def document(self) -> dict[str, object]:
        """What the JSON report holds of it."""
        return {
            "name": self.name,
            "due": self.seconds,
            "ran": self.ran,
            "ranTwice": self.twice,
            "toldWhyNot": self.told,
            "silent": self.silent,
        }

    def __str__(self) -> str:
        """The line of the report."""
        return (
            f"{self.name:<24} {self.seconds:>4} due  {self.ran:>4} ran  {self.twice:>4} twice"
            f"  {self.told:>4} told why not  {self.silent:>4} nothing known"
        )


def accounts() -> list[Account]:
    """DorkOS, then APScheduler. Huey cannot take part: its periodic tasks are minutes apart at the least."""
    there = importlib.util.find_spec("apscheduler") is not None
    return [_dorkos(), *([_apscheduler()] if there else [])]


def _dorkos() -> Account:
    with TemporaryDirectory(prefix="dorkos-bench-") as folder:
        home, work = Path(folder) / "home", Path(folder) / "work"
        work.mkdir()
        dorkos = [sys.executable, "-m", "dorkos", "--home", str(home)]
        command = ["env", f"DORKOS_BOUNDARY={work}", *dorkos, "up", "--port", "0"]
        add = ["pulse", "add", "each second", "--cron", "* * * * * *", "--cwd", str(work), "--", "true"]

        def ready(server: subprocess.Popen[str]) -> None:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith(_READY):
                    return
            raise SystemExit("The server ended before it was ready; `dorkos up` says why.")

        def first(server: subprocess.Popen[str]) -> None:
            ready(server)
            subprocess.run([*dorkos, *add], check=True, capture_output=True)

        _kill_again_and_again(command, first, ready)
        return _account_of_ledger(home / "dork.db")


def _account_of_ledger(path: Path) -> Account:
    connection = sqlite_driver().connect(path)
    try:
        slots = connection.execute("SELECT due_at, through_at, verdict FROM pulse_slots").fetchall()
        runs = connection.execute("SELECT count(*), count(DISTINCT slot_id) FROM pulse_runs").fetchone()
    finally:
        connection.close()
    ran = sum(1 for _, _, verdict in slots if verdict == "run")
    told: set[datetime] = set()
    due: set[datetime] = set()
    for begin, end, verdict in slots:
        seconds = set(_seconds(datetime.fromisoformat(begin), datetime.fromisoformat(end)))
        due |= seconds
        if verdict != "run":
            told |= seconds
    expected = len(list(_seconds(min(due), max(due))))
    return Account("DorkOS", expected, ran, runs[0] - runs[1], len(told))


def _apscheduler() -> Account:
    with TemporaryDirectory(prefix="dorkos-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.restarts", "apscheduler", folder]
        _kill_again_and_again(command, lambda _: None, lambda _: None)
        lines = (Path(folder) / "ran").read_text().split()
        ran = Counter(datetime.fromisoformat(line).replace(microsecond=0) for line in lines)
        seconds = len(list(_seconds(min(ran), max(ran))))
        return Account("APScheduler", seconds, len(ran), sum(ran.values()) - len(ran), 0)


def _seconds(begin: datetime, end: datetime) -> Iterable[datetime]:
    while begin <= end:
        yield begin
        begin += timedelta(seconds=1)


def _kill_again_and_again(
    command: list[str],
    first: Callable[[subprocess.Popen[str]], None],
    again: Callable[[subprocess.Popen[str]], None],
) -> None:
    prepare = first
    for number in range(_KILLS + 1):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            prepare(process)
            time.sleep(_AT_WORK_S)
            process.send_signal(signal.SIGKILL if number < _KILLS else signal.SIGTERM)
            process.communicate()
        prepare = again
        if number < _KILLS:
            time.sleep(_AWAY_S)


def _run_apscheduler(folder: Path) -> None:
    from apscheduler.events import EVENT_JOB_EXECUTED
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
    from apscheduler.schedulers.blocking import BlockingScheduler

    scheduler = BlockingScheduler(
        jobstores={"default": SQLAlchemyJobStore(url=f"sqlite:///{folder / 'jobs.db'}")}, timezone=UTC
    )
    file = (folder / "ran").open("a", buffering=1)
    scheduler.add_listener(
        lambda event: file.write(event.scheduled_run_time.isoformat() + "\n"), EVENT_JOB_EXECUTED
    )
    scheduler.add_job(
        "benchmarks.restarts:nothing", "cron", second="*", id="each second", replace_existing=True
    )
    scheduler.start()


def nothing() -> None:
    """The job."""


if __name__ == "__main__":
    _run_apscheduler(Path(sys.argv[2]))
