"""Messages: ours beside the raw limit, and beside what a user would pick instead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contest import Contestant, Doer, Figure, Work, hold
from benchmarks.ours import Ours
from benchmarks.peers.jetstream import JetStream
from benchmarks.peers.litequeue import LiteQueue
from benchmarks.peers.persist_queue import PersistQueue
from benchmarks.peers.pgmq import Pgmq
from benchmarks.peers.postgres import PostgresServer
from benchmarks.peers.procrastinate import Procrastinate
from benchmarks.raw import Fsync, OneCommit, Recording, record
from benchmarks.report import Row

PUBLISH = "publish, 64 at once"
CARRY = "publish, claim and ack, 64 at once"
ALONE = "publish, one at a time"
_MANY = 4000
_SOME = 500
_FEW = 100


class _Raw:
    """Plays back what DorkOS asked of SQLite."""

    name = "raw SQLite"
    promise = "the same statements in the same transactions, no Python of ours"

    async def open(self, folder: Path) -> None:
        """Record both works."""
        self._folder = folder
        self._number = 0
        self._publish = await record(folder / "publish", Ours.publish, _MANY)
        self._carry = await record(folder / "carry", Ours.carry, _MANY)

    def doers(self) -> dict[str, Doer]:
        """How it does each work."""
        return {PUBLISH: self._doer(self._publish), CARRY: self._doer(self._carry)}

    def _doer(self, recording: Recording) -> Doer:
        again: list[Callable[[], None]] = []

        async def ready() -> None:
            self._number += 1
            again[:] = [recording.play(self._folder / f"{self._number}.db")]

        return Doer(lambda _: again[0](), recording.count, ready)

    async def close(self) -> None:
        """Nothing is open between two rounds."""


def figures(rounds: int) -> list[Figure]:
    """Every contest about messages."""
    with TemporaryDirectory(prefix="dorkpg-") as folder:
        server = PostgresServer(Path(folder) / "pg")
        try:
            return asyncio.run(_figures(server, rounds))
        finally:
            server.stop()


async def _figures(server: PostgresServer, rounds: int) -> list[Figure]:
    ours, on_postgres = Ours(), Ours("DorkOS on PostgreSQL", server)
    raw, lite, persist, nats = _Raw(), LiteQueue(), PersistQueue(), JetStream()
    pgmq, procrastinate = Pgmq(server), Procrastinate(server)
    fsync, commit = Fsync(), OneCommit()
    everyone: Sequence[Contestant] = (
        ours, raw, lite, persist, nats, on_postgres, pgmq, procrastinate, fsync, commit,
    )  # fmt: skip

    def works() -> list[Work]:
        replayed = raw.doers()
        return [
            Work(
                ALONE,
                {
                    ours.name: Doer(ours.alone, _SOME),
                    commit.name: Doer(commit.alone, _SOME),
                    fsync.name: Doer(fsync.alone, _SOME),
                },
            ),
            Work(
                PUBLISH,
                {
                    ours.name: Doer(ours.publish, _MANY),
                    raw.name: replayed[PUBLISH],
                    lite.name: Doer(lite.publish, _SOME),
                    persist.name: Doer(persist.publish, _SOME),
                    nats.name: Doer(nats.publish, _SOME),
                    on_postgres.name: Doer(on_postgres.publish, _SOME),
                    pgmq.name: Doer(pgmq.publish, _SOME),
                    procrastinate.name: Doer(procrastinate.publish, _SOME),
                },
            ),
            Work(
                CARRY,
                {
                    ours.name: Doer(ours.carry, _MANY),
                    raw.name: replayed[CARRY],
                    lite.name: Doer(lite.carry, _FEW),
                    persist.name: Doer(persist.carry, _FEW),
                    nats.name: Doer(nats.carry, _SOME, nats.forget),
                    on_postgres.name: Doer(on_postgres.carry, _SOME),
                    pgmq.name: Doer(pgmq.carry, _SOME, pgmq.forget),
                    procrastinate.name: Doer(procrastinate.carry, _SOME, procrastinate.forget),
                },
            ),
        ]

    return await hold(everyone, works, rounds=rounds)


def rows(found: Sequence[Figure]) -> list[Row]:
    """What is promised of them."""
    by = {(figure.work, figure.name): figure.middle for figure in found if figure.missing is None}
    ours = Ours().name
    share = {work: by[work, ours] / by[work, _Raw.name] for work in (PUBLISH, CARRY)}
    return [
        Row(PUBLISH, by[PUBLISH, ours], "1/s", least=8000),
        Row(f"{PUBLISH}, of the raw rate", share[PUBLISH], "x", least=0.5),
        Row(CARRY, by[CARRY, ours], "1/s", least=5000),
        Row(f"{CARRY}, of the raw rate", share[CARRY], "x", least=0.4),
        Row(
            f"{ALONE}, to one synced commit",
            by[ALONE, OneCommit.name] / by[ALONE, ours],
            "x",
            most=2.5,
            least=1.0,
        ),
    ]
