"""Jobs that are due at once: how many a second are decided, taken and done."""

from __future__ import annotations

import asyncio
from functools import partial

from benchmarks.contest import Doer, Figure, Work, hold
from benchmarks.ours_due import Pulse
from benchmarks.peers.apscheduler import APScheduler
from benchmarks.peers.huey import Huey

DUE = "jobs due at once, done"
_MANY = 500
_FEWER = 200


def figures(rounds: int) -> list[Figure]:
    """Every contestant does jobs that do next to nothing."""
    return asyncio.run(_figures(rounds))


async def _figures(rounds: int) -> list[Figure]:
    ours, scheduler, huey = Pulse(), APScheduler(), Huey()
    doers = {
        ours.name: Doer(ours.work, _FEWER, partial(ours.ready, _FEWER)),
        scheduler.name: Doer(scheduler.work, _MANY, partial(scheduler.ready, _MANY)),
        huey.name: Doer(huey.work, _MANY, partial(huey.ready, _MANY)),
    }
    return await hold((ours, scheduler, huey), lambda: [Work(DUE, doers)], rounds=rounds)
