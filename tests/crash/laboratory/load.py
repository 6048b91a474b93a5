"""Clients that never give up: they publish, consume, change schedules and start runs, whatever happens."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Sequence

import httpx

from tests.crash.laboratory.log import ClientLog, Entry
from tests.server_process import ServerProcess

MAILBOXES = [f"relay.system.lab{number}" for number in range(3)]
SENDERS, CONSUMERS, EDITORS = 16, 6, 2
_ENDPOINTS = "/api/relay/endpoints"
# A request that nobody answers is given up after this, as a client would. Longer than any pause of the lab.
_PATIENCE_S = 30.0

Step = Callable[["Client"], Awaitable[None]]


class RefusedError(Exception):
    """The server said no, with a code. Nothing was promised; the step is tried again."""


class Client:
    """Asks whichever server it finds first, and writes down what it was told."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        servers: Sequence[ServerProcess],
        log: ClientLog,
        chance: random.Random,
        over: threading.Event,
    ) -> None:
        """All that one client needs."""
        self._http, self._servers = http, [(server, server.token) for server in servers]
        self.log, self.chance, self._over = log, chance, over

    async def pause(self, seconds: float) -> None:
        """As a client does before it asks again; ends early with the load."""
        await asyncio.to_thread(self._over.wait, seconds)

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """The answer, if it is a yes or a conflict. Raises `RefusedError` or a transport error."""
        server, token = self.chance.choice(self._servers)
        headers = {"Authorization": f"Bearer {token}"}
        answer = await self._http.request(method, server.url + path, json=body, headers=headers)
        if answer.status_code == 500:
            self.log.add(Entry("internal_error", f"{method} {path}", answer.text[:300]))
        if answer.is_success or answer.status_code == 409:
            return answer
        raise RefusedError


def sender(number: int) -> Step:
    """Publishes one message after the other under a key each, again and again until it is answered."""
    who, count = f"relay.human.lab{number}", 0

    async def step(client: Client) -> None:
        nonlocal count
        key = f"{who}-{count}"
        subject = MAILBOXES[count % len(MAILBOXES)]
        body = {"subject": subject, "from": who, "payload": {"content": key}, "idempotencyKey": key}
        answer = (await client.ask("POST", "/api/relay/messages", body)).json()
        if answer["deliveredTo"] != 1:
            client.log.add(Entry("undelivered", key, str(answer)))
        client.log.add(Entry("published", answer["messageId"], key))
        count += 1

    return step


def consumer(number: int, *, drains: bool = False) -> Step:
    """Claims, and does one of four things with each message; one that drains acknowledges all."""
    mailbox = f"{_ENDPOINTS}/{MAILBOXES[number % len(MAILBOXES)]}"

    first = ["reject"]  # So that each has rejected something.

    def fate_of_next(chance: random.Random) -> str:
        return first.pop() if first else chance.choices(("ack", "nack", "reject", ""), (80, 10, 5, 5))[0]

    async def step(client: Client) -> None:
        asked = client.log.length
        wanted = {"limit": 8, "waitMs": 0 if drains else 100, "leaseSeconds": 5 if drains else 1}
        got = (await client.ask("POST", f"{mailbox}/claim", wanted)).json()
        for delivery in got["deliveries"]:
            client.log.add(Entry("claimed", delivery["messageId"], asked=asked))
        if drains:
            await asyncio.gather(*(settle(client, each, "ack") for each in got["deliveries"]))
            return
        for delivery in got["deliveries"]:
            fate = fate_of_next(client.chance)
            if fate:
                await settle(client, delivery, fate)

    async def settle(client: Client, delivery: dict[str, str], fate: str) -> None:
        body: dict[str, object] = {name: delivery[name] for name in ("messageId", "leaseToken")}
        if fate == "reject":
            body["reject"] = True
        answer = await client.ask("POST", f"{mailbox}/{'ack' if fate == 'ack' else 'nack'}", body)
        if answer.is_success and fate != "nack":
            client.log.add(Entry("acked" if fate == "ack" else "rejected", delivery["messageId"]))

    return step


def editor(schedule_id: str) -> Step:
    """Counts up in the name of a schedule that runs on demand, and starts a run of it each time."""
    count = 0

    async def step(client: Client) -> None:
        nonlocal count
        name = f"edited {count}"
        answer = await client.ask("PATCH", f"/api/pulse/schedules/{schedule_id}", {"name": name})
        if answer.is_success:
            client.log.add(Entry("edited", schedule_id, str(count)))
            count += 1
        answer = await client.ask("POST", f"/api/pulse/schedules/{schedule_id}/trigger")
        if answer.is_success:
            client.log.add(Entry("triggered", answer.json()["runId"], schedule_id))
        await client.pause(0.2)

    return step


class Load:
    """All clients in a thread with a loop of its own, until `stop`."""

    def __init__(
        self, servers: Sequence[ServerProcess], steps: Sequence[Step], log: ClientLog, seed: int
    ) -> None:
        """Nothing runs yet."""
        self._servers, self._steps, self._log = servers, steps, log
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the requests that are under way."""
        self._over.set()
        self._thread.join(timeout=2 * _PATIENCE_S)

    async def _all(self) -> None:
        limits = httpx.Limits(max_connections=2 * len(self._steps))
        async with httpx.AsyncClient(
            timeout=_PATIENCE_S, limits=limits, trust_env=False, verify=False
        ) as http:
            client = Client(http, self._servers, self._log, self._chance, self._over)
            await asyncio.gather(*(self._repeat(client, step) for step in self._steps))

    async def _repeat(self, client: Client, step: Step) -> None:
        while not self._over.is_set():
            try:
                await step(client)
            except (httpx.TransportError, httpx.InvalidURL, RefusedError):
                # Whatever was not answered was not promised.
                await client.pause(0.05)
