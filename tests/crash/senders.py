"""Kill the server under many senders and consumers, and account for every message.

    python -m tests.crash.senders --kills 50

64 senders publish under a key each and repeat what was not answered; 16 consumers claim, and acknowledge,
give back, reject or simply forget what they got. After the last kill everything that waits is taken. Then:
no acknowledged publish is missing, none is there twice, nothing that was acknowledged came again, and every
other message was delivered or is a dead letter with a reason.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from dorkos.db.engine import Role, sqlite_engine
from tests.server_process import ServerProcess

MAILBOXES = [f"relay.system.crash{number}" for number in range(4)]
SENDERS, CONSUMERS = 64, 16
SETTINGS = {
    "DORKOS_MAX_MAILBOX_SIZE": "1000000",
    "DORKOS_MAX_ATTEMPTS": "50",
    "DORKOS_MESSAGE_TTL_SECONDS": "86400",
}
ENDPOINTS = "/api/relay/endpoints"


@dataclass
class Ledger:
    """What the server answered. `doubtful` acknowledgements were sent and not answered."""

    published: dict[str, str] = field(default_factory=dict)
    acked: set[str] = field(default_factory=set)
    rejected: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    repeated: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What one whole run of the script found. `faults` must stay empty."""

    kills: int
    published: int
    repeated: int
    acked: int
    dead: int
    faults: list[str]


class Sender:
    """Publishes one message after the other. What was not answered is sent again under the same key."""

    def __init__(self, number: int, ledger: Ledger) -> None:
        """Begin with the first."""
        self._who = f"relay.human.sender{number}"
        self._ledger = ledger
        self._next = 0

    async def step(self, client: httpx.AsyncClient) -> None:
        """One message."""
        key = f"{self._who}-{self._next}"
        body = {
            "subject": MAILBOXES[self._next % len(MAILBOXES)],
            "from": self._who,
            "payload": {"content": key},
            "idempotencyKey": key,
        }
        answer = (await client.post("/api/relay/messages", json=body)).raise_for_status().json()
        if answer["deliveredTo"] != 1:
            self._ledger.faults.append(f"{key} was not delivered: {answer}")
        self._ledger.repeated += bool(answer.get("duplicate"))
        self._ledger.published[answer["messageId"]] = key
        self._next += 1


class Consumer:
    """Claims, and does one of four things with what it gets."""

    def __init__(self, number: int, ledger: Ledger, chance: random.Random) -> None:
        """Take from one of the mailboxes."""
        self._mailbox = f"{ENDPOINTS}/{MAILBOXES[number % len(MAILBOXES)]}"
        self._ledger = ledger
        self._chance = chance

    async def step(self, client: httpx.AsyncClient, *, drain: bool = False) -> bool:
        """One claim; whether it got something."""
        body = {"limit": 8, "waitMs": 0 if drain else 100, "leaseSeconds": 5 if drain else 1}
        got = (await client.post(f"{self._mailbox}/claim", json=body)).raise_for_status().json()
        for delivery in got["deliveries"]:
            await self._settle(client, delivery, "ack" if drain else self._fate())
        return bool(got["deliveries"])

    def _fate(self) -> str:
        return self._chance.choices(("ack", "nack", "reject", "forget"), (80, 10, 5, 5))[0]

    async def _settle(self, client: httpx.AsyncClient, delivery: Any, fate: str) -> None:
        message_id = delivery["messageId"]
        self._ledger.claimed.add(message_id)
        if message_id in self._ledger.acked:
            self._ledger.faults.append(f"{message_id} was acknowledged and came again")
        if fate == "forget":
            return
        body: dict[str, object] = {"messageId": message_id, "leaseToken": delivery["leaseToken"]}
        verb = "ack" if fate == "ack" else "nack"
        if fate == "reject":
            body["reject"] = True
        answer = await client.post(f"{self._mailbox}/{verb}", json=body)
        if answer.status_code == 409:
            return  # The lease ran out on the way.
        answer.raise_for_status()
        if fate == "ack":
            self._ledger.acked.add(message_id)
        elif fate == "reject":
            self._ledger.rejected.add(message_id)


class Load:
    """All of them in a thread with a loop of its own, until the server goes away or `stop` is called."""

    def __init__(
        self, server: ServerProcess, workers: list[Callable[[httpx.AsyncClient], Awaitable[object]]]
    ):
        """Nothing runs yet."""
        self._server = server
        self._workers = workers
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the requests that are under way."""
        self._over.set()
        self._thread.join(timeout=60)

    async def _all(self) -> None:
        headers = {"Authorization": f"Bearer {self._server.token}"}
        limits = httpx.Limits(max_connections=len(self._workers))
        async with httpx.AsyncClient(
            base_url=self._server.url,
            headers=headers,
            timeout=40,
            limits=limits,
            trust_env=False,
            verify=False,
        ) as client:
            await asyncio.gather(*(self._repeat(client, worker) for worker in self._workers))

    async def _repeat(
        self, client: httpx.AsyncClient, worker: Callable[[httpx.AsyncClient], Awaitable[object]]
    ) -> None:
        while not self._over.is_set():
            try:
                await worker(client)
            except httpx.TimeoutException:
                continue  # A busy machine: it is asked again, under the same key.
            except httpx.TransportError:
                return  # Killed in the middle: whatever was not answered was not promised.


def run(
    kills: int, folder: Path, *, seed: int = 0, senders: int = SENDERS, consumers: int = CONSUMERS
) -> Report:
    """Do it `kills` times in `folder` and report. The seed decides when each kill comes."""
    chance, ledger = random.Random(seed), Ledger()
    server = ServerProcess(folder / "home", boundary=folder, environment=SETTINGS)
    server.start()
    with server.client() as client:
        for mailbox in MAILBOXES:
            client.post(ENDPOINTS, json={"subject": mailbox}).raise_for_status()
    all_senders = [Sender(number, ledger).step for number in range(senders)]
    all_consumers = [Consumer(number, ledger, chance) for number in range(consumers)]
    for _ in range(kills):
        load = Load(server, [*all_senders, *(consumer.step for consumer in all_consumers)])
        before = len(ledger.published)
        load.start()
        # Under load by now, and then at a moment that differs from kill to kill.
        _await_more(ledger, than=before + 2 * senders)
        threading.Event().wait(chance.uniform(0.0, 0.8))
        server.kill()
        load.stop()
        server.start()
    asyncio.run(_drain(server, all_consumers))
    code = server.stop()
    if code != 0:
        ledger.faults.append(f"the server ended with exit code {code} after SIGTERM")
    return _account(folder / "home", ledger, kills)


def _await_more(ledger: Ledger, *, than: int) -> None:
    until = time.monotonic() + 300
    while len(ledger.published) <= than:
        if time.monotonic() > until:
            raise TimeoutError("the senders do not get through")
        threading.Event().wait(0.02)


async def _drain(server: ServerProcess, consumers: list[Consumer]) -> None:
    """Take all that waits, also what the last leases still hold."""
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=40, trust_env=False, verify=False
    ) as client:
        while True:
            while any([await consumer.step(client, drain=True) for consumer in consumers]):
                pass
            rows = (await client.get(ENDPOINTS)).json()
            if not any(row["pendingCount"] for row in rows):
                return
            await asyncio.to_thread(threading.Event().wait, 0.2)


def _account(home: Path, ledger: Ledger, kills: int) -> Report:
    """Compare what was answered with what is stored, straight from the file."""
    engine = sqlite_engine(home / "dork.db", Role.READER)
    with engine.connect() as connection:
        stored = dict(_rows(connection, "SELECT id, idempotency_key FROM relay_messages"))
        status = dict(_rows(connection, "SELECT message_id, status FROM relay_index"))
        dead = dict(_rows(connection, "SELECT message_id, reason FROM relay_dead_letters"))
        hops = dict(_rows(connection, "SELECT message_id, status FROM relay_traces"))
    engine.dispose()
    faults = ledger.faults
    faults += [f"published {m} is missing" for m in ledger.published if m not in stored]
    faults += [f"acknowledged {m} is {status.get(m)}" for m in ledger.acked if status.get(m) != "delivered"]
    faults += [f"rejected {m} is no dead letter" for m in ledger.rejected if m not in dead]
    faults += [
        f"{m} is {s} without having been given out"
        for m, s in status.items()
        if m not in ledger.claimed and s == "delivered"
    ]
    faults += [f"{m} still is {s}" for m, s in status.items() if s == "pending"]
    faults += [
        f"{m} failed and no dead letter says why"
        for m, s in status.items()
        if s == "failed" and m not in dead
    ]
    if len(set(stored.values())) != len(stored):
        faults.append("a key was used for two messages")
    words = {"delivered": "delivered", "failed": "failed"}
    faults += [f"the hop of {m} says {hops.get(m)}" for m, s in status.items() if hops.get(m) != words.get(s)]
    return Report(kills, len(ledger.published), ledger.repeated, len(ledger.acked), len(dead), faults)


def _rows(connection: sa.Connection, query: str) -> list[tuple[Any, Any]]:
    return [(row[0], row[1]) for row in connection.exec_driver_sql(query)]


def main() -> int:
    """Run from the command line; exit code 1 if anything is unaccounted for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dorkos-senders-") as folder:
        report = run(options.kills, Path(folder).resolve(), seed=options.seed)
    print(
        f"{report.kills} kills, {SENDERS} senders, {CONSUMERS} consumers:"
        f" {report.published} messages published, {report.repeated} of them answered only when repeated,"
        f" {report.acked} acknowledged, {report.dead} dead letters; {len(report.faults)} faults"
    )
    for fault in report.faults:
        print(f"  {fault}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
