"""One experiment from beginning to end."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from tests.crash.laboratory.disturbances import ANYWHERE, OF_ENGINE, Disturbance, kill
from tests.crash.laboratory.load import (
    CONSUMERS,
    EDITORS,
    MAILBOXES,
    SENDERS,
    Load,
    Step,
    consumer,
    editor,
    sender,
)
from tests.crash.laboratory.promises import Promise, check
from tests.crash.laboratory.world import World

_WITNESS = "started.txt"
_WITHIN_S = 120.0
# The whole database is looked at after so many kills; it takes longer the more is in it.
_VERIFY_EVERY = 20


@dataclass
class Report:
    """What one experiment found."""

    kills: int = 0
    disturbances: Counter[str] = field(default_factory=Counter)
    promises: list[Promise] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """Every case in which a promise was broken."""
        return [f"{promise.words}: {case}" for promise in self.promises for case in promise.broken]


def experiment(
    world: World,
    *,
    kills: int,
    seed: int,
    say: Callable[[str], None],
    plan: Sequence[Disturbance] | None = None,
) -> Report:
    """Disturb the world `kills` times. The seed decides what comes when; `plan` decides what instead."""
    chance, report = random.Random(seed), Report()
    seen = Promise("what was done to it is survived and told in clear words")
    sound = Promise("the database verifies")
    for server in world.servers:
        server.start()
    steps = _furnish(world)
    load = Load(world.servers, steps, world.log, seed)
    load.start()
    for number in range(kills):
        _await_progress(world)
        what = plan[number % len(plan)] if plan else _choose(world, chance)
        found = what(world, chance)
        seen.broken += found
        seen.kept += not found
        report.kills += 1
        report.disturbances[what.__name__] += 1
        if number % _VERIFY_EVERY == _VERIFY_EVERY - 1:
            _verify(world, sound)
            say(f"  {number + 1} kills, {world.log.length} answers, {len(seen.broken + sound.broken)} faults")
    load.stop()
    _settle(world)
    codes = [server.stop() for server in world.servers]
    seen.broken += [f"a server ended with exit code {code} after SIGTERM" for code in codes if code]
    world.log.close()
    _verify(world, sound)
    with world.connected() as connection:
        report.promises = [seen, sound, *check(connection, world.log.path, world.project / _WITNESS)]
    world.close()
    return report


def _choose(world: World, chance: random.Random) -> Disturbance:
    if chance.random() < 0.75:
        return kill
    return chance.choice((*ANYWHERE, *OF_ENGINE[world.engine]))


def _furnish(world: World) -> list[Step]:
    """Mailboxes, schedules, and the clients that use them."""
    with world.servers[0].client() as client:
        for mailbox in MAILBOXES:
            client.post("/api/relay/endpoints", json={"subject": mailbox}).raise_for_status()
        work = f"#!scripted\nappend {_WITNESS} {{DORKOS_RUN_ID}}\nsay done"
        schedule = {"cwd": str(world.project), "runtime": "scripted", "prompt": work}
        for number in range(6):
            # Every third never ends by itself, so that each kill finds something at work.
            hangs = (
                {"prompt": work.replace("say done", "hang"), "maxRuntime": 1500} if number % 3 == 0 else {}
            )
            body = {**schedule, **hangs, "name": f"job {number}", "cron": "*/2 * * * * *", "maxAttempts": 2}
            client.post("/api/pulse/schedules", json={**body, "retryDelayMs": 0}).raise_for_status()
        on_demand = {**schedule, "cron": "@manual"}
        ids = [
            client.post("/api/pulse/schedules", json={**on_demand, "name": f"edited {-1}"}).json()["id"]
            for _ in range(EDITORS)
        ]
    return [
        *(sender(number) for number in range(SENDERS)),
        *(consumer(number) for number in range(CONSUMERS)),
        *(editor(schedule_id) for schedule_id in ids),
    ]


def _await_progress(world: World) -> None:
    """Until clients get answers again."""
    wanted, until = world.log.length + 2 * SENDERS, time.monotonic() + _WITHIN_S
    while world.log.length < wanted:
        if time.monotonic() > until:
            raise TimeoutError("the clients do not get through")
        threading.Event().wait(0.02)


def _settle(world: World) -> None:
    """Take what waits, let nothing new come up, and wait until what was accepted is done."""
    drains = Load(world.servers, [consumer(n, drains=True) for n in range(CONSUMERS)], world.log, 0)
    drains.start()
    with world.servers[0].client() as client:
        client.post("/api/system/fleet", json={"mode": "drain"}).raise_for_status()
        waiting, until = _waiting(client), time.monotonic() + _WITHIN_S
        # However much waits, it is given the time that it takes, as long as it becomes less. What does not
        # is counted as broken.
        while waiting and time.monotonic() < until:
            threading.Event().wait(0.2)
            left = _waiting(client)
            if left < waiting:
                waiting, until = left, time.monotonic() + _WITHIN_S
    drains.stop()


def _waiting(client: httpx.Client) -> int:
    """How many messages and runs are not done with."""
    runs, boxes = 0, client.get("/api/relay/endpoints").json()
    for status in ("running", "queued"):
        runs += len(client.get("/api/pulse/runs", params={"status": status, "limit": 500}).json())
    pending: list[int] = [box["pendingCount"] for box in boxes if box["subject"] in MAILBOXES]
    return runs + sum(pending)


def _verify(world: World, promise: Promise) -> None:
    problems = world.verify()
    promise.broken += problems
    promise.kept += not problems
