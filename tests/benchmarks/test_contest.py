"""Contests: whoever is not there is named, and the others go on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import due, messages
from benchmarks.__main__ import _print_contests
from benchmarks.contest import Contestant, Doer, Figure, Work, hold
from benchmarks.peers.jetstream import JetStream
from benchmarks.peers.litequeue import LiteQueue
from benchmarks.peers.persist_queue import PersistQueue
from benchmarks.peers.pgmq import Pgmq
from benchmarks.peers.procrastinate import Procrastinate


class Present:
    """A contestant that counts."""

    name, promise = "present", "nothing"

    def __init__(self) -> None:
        self.opened = self.closed = self.done = 0

    async def open(self, folder: Path) -> None:
        self.opened += 1

    def work(self, count: int) -> None:
        self.done += count

    async def close(self) -> None:
        self.closed += 1


PEERS: Sequence[Contestant] = (
    *(LiteQueue(), PersistQueue(), JetStream()),
    *(Pgmq(None), Procrastinate(None)),  # type: ignore[arg-type]  # They are asked for their package first.
)
PACKAGES = ("litequeue", "persistqueue", "nats", "psycopg_pool", "procrastinate", "apscheduler", "huey")


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only what DorkOS needs is."""
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.usefixtures("nothing_installed")
async def test_a_peer_that_is_not_installed_is_named_as_missing() -> None:
    """Each of them, whatever it would have to close."""
    present = Present()
    doers = {present.name: Doer(present.work, 3)}
    doers |= {peer.name: Doer(lambda count: count, 3) for peer in PEERS}
    found = await hold([present, *PEERS], lambda: [Work("work", doers)], rounds=2)
    assert {one.name for one in found if one.missing} == {peer.name for peer in PEERS}
    assert (present.opened, present.done, present.closed) == (1, 9, 1)
    assert len(next(one for one in found if one.name == present.name).rates) == 2


@pytest.mark.usefixtures("nothing_installed")
def test_jobs_that_are_due_are_done_without_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """By DorkOS alone, from the due instant to the end of the run."""
    monkeypatch.setattr(due, "_FEWER", 5)
    figures = due.figures(1)
    assert [one.name for one in figures if one.missing is None] == ["DorkOS"]
    assert {one.name for one in figures if one.missing} == {"APScheduler", "Huey"}


def test_the_table_says_who_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside those that took part, of which the first is the measure, also where the first is not there."""
    _print_contests(
        [
            Figure("work", "gone", "all", missing="not installed: No module named 'gone'"),
            Figure("work", "slow", "all", (10.0, 20.0, 30.0)),
            Figure("work", "fast", "all", (40.0,)),
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert "gone" in lines[2]
    assert "not installed: No module named 'gone'" in lines[2]
    assert " 1.00 " in lines[3]
    assert " 2.00 " in lines[4]


def test_promises_about_messages_are_judged_without_peers() -> None:
    """They are about DorkOS and its limits only."""
    ours, rivals = ("DorkOS", "raw SQLite", "one synced commit"), ("litequeue", "NATS JetStream")
    works = (messages.PUBLISH, messages.CARRY, messages.ALONE)
    found = [Figure(work, name, "all", (9000.0,)) for work in works for name in ours]
    found += [Figure(work, name, "all", missing="not installed") for work in works for name in rivals]
    assert [row.kept for row in messages.rows(found)] == [True] * 5
