"""What is asked of the server over HTTP all the time: some messages, those who follow, and visits."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

from benchmarks.payload import CONTENT
from benchmarks.soak import inside
from benchmarks.soak.wire import Line, RefusedError
from tests.server_process import ServerProcess

MAILBOXES = tuple(f"relay.human.over{number}" for number in range(2))
ASKED = "relay.human.answers"
_ENDPOINTS = "/api/relay/endpoints"
_REJECTED, _KEYED = 1 / 200, 1 / 10
# Followers: of one mailbox each, of everything that schedules do, slow ones of everything, and visitors.
_OF_A_MAILBOX, _OF_PULSE, _SLOW, _PASSING = 10, 3, 4, 3
FOLLOWERS = _OF_A_MAILBOX + _OF_PULSE + _SLOW + _PASSING
_SLOW_BYTES, _SLOW_PAUSE_S, _PASSING_S = 2048, 1.0, 5.0
_BACK_AFTER_S = 1.0


@dataclass
class Told:
    """What the load saw since somebody asked last."""

    counts: Counter[str] = field(default_factory=Counter)
    publish_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def take(self) -> Told:
        """What was seen, and begin anew. Faults stay."""
        seen = Told(self.counts, self.publish_ms, self.faults)
        self.counts, self.publish_ms = Counter(), []
        return seen


class Load:
    """All clients of one server. `rate` is in messages a second."""

    def __init__(self, server: ServerProcess, rate: float, folder: str) -> None:
        """Nothing is asked yet. `folder` is what discovery searches."""
        self.told = Told()
        self._server, self._rate, self._folder = server, rate, folder
        self._url, self._token = server.url, server.token
        self._chance = random.Random(1)
        self._tasks: list[asyncio.Task[None]] = []
        self.visited = asyncio.Event()
        """Set when every kind of visit was made once, so that what is loaded on first use is loaded."""
        self._visits_left = {self._visit.__name__, self._discover.__name__}

    def start(self) -> None:
        """Begin."""
        senders = len(MAILBOXES)
        ways = [
            *(self._publish(subject, senders / self._rate) for subject in MAILBOXES),
            *(self._consume(subject) for subject in MAILBOXES),
            self._ask(),
            self._answer(),
            *(self._follow(self._of_mailbox(number)) for number in range(_OF_A_MAILBOX)),
            *(self._follow("/api/events?topics=pulse") for _ in range(_OF_PULSE)),
            *(self._follow("/api/events", slowly=True) for _ in range(_SLOW)),
            *(self._follow(self._of_mailbox(number), leave=True) for number in range(_PASSING)),
            self._every(10, self._visit),
            self._every(60, self._discover),
        ]
        self._tasks = [asyncio.create_task(way) for way in ways]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.told.faults.update(repr(one) for one in ended if not isinstance(one, asyncio.CancelledError))

    def _of_mailbox(self, number: int) -> str:
        return f"/api/relay/stream?subject={inside.MAILBOXES[number % len(inside.MAILBOXES)]}"

    async def _again(self, what: str, step: Callable[[Line], Awaitable[None]]) -> None:
        """Do `step` for ever over one connection; over a new one after a fault, which is noted."""
        while True:
            line = await Line.open(self._url, self._token)
            try:
                while True:
                    await step(line)
            except Exception as fault:  # noqa: BLE001  # Whatever it is, it is told and the load goes on.
                self._note(what, fault)
                await asyncio.sleep(_BACK_AFTER_S)
            finally:
                line.close()

    def _note(self, what: str, fault: Exception) -> None:
        self.told.counts["faults"] += 1
        self.told.faults[f"{what}: {fault!r}"[:500]] += 1

    async def _publish(self, subject: str, every_s: float) -> None:
        """At a steady pace; what came late is sent at once, so that the rate is kept."""
        due = time.monotonic() + self._chance.random() * every_s

        async def one(line: Line) -> None:
            nonlocal due
            late = time.monotonic() - due
            if late < 0:
                await asyncio.sleep(-late)
            # After a standstill of the machine nobody sends all that would have been.
            due = max(due, time.monotonic() - 1) + every_s
            body: dict[str, object] = {"subject": subject, "payload": CONTENT, "from": "relay.human.writer"}
            if self._chance.random() < _KEYED:
                body["idempotencyKey"] = f"{subject} {time.monotonic_ns()}"
            begun = time.perf_counter()
            receipt = await line.post("/api/relay/messages", body)
            self.told.publish_ms.append((time.perf_counter() - begun) * 1000)
            self.told.counts["published" if receipt["deliveredTo"] == 1 else "undelivered"] += 1

        await self._again(f"publish to {subject}", one)

    async def _consume(self, subject: str) -> None:
        place = f"{_ENDPOINTS}/{subject}"

        async def one(line: Line) -> None:
            got = await line.post(f"{place}/claim", {"limit": 50, "waitMs": 1000})
            for delivery in got["deliveries"]:
                body = {name: delivery[name] for name in ("messageId", "leaseToken")}
                if self._chance.random() < _REJECTED:
                    await line.post(f"{place}/nack", body | {"reject": True})
                    self.told.counts["rejected"] += 1
                else:
                    await line.post(f"{place}/ack", body)
                    self.told.counts["acknowledged"] += 1

        await self._again(f"consume {subject}", one)

    async def _ask(self) -> None:
        """A request that waits for its reply, every half second."""

        async def one(line: Line) -> None:
            await asyncio.sleep(0.5)
            answer = await line.post(
                "/api/relay/requests", {"subject": ASKED, "payload": CONTENT, "waitMs": 30_000}
            )
            self.told.counts[f"requests {answer['state']}"] += 1

        await self._again("ask", one)

    async def _answer(self) -> None:
        async def one(line: Line) -> None:
            got = await line.post(f"{_ENDPOINTS}/{ASKED}/claim", {"waitMs": 1000})
            for delivery in got["deliveries"]:
                await line.post(f"/api/relay/messages/{delivery['messageId']}/reply", {"payload": "yes"})
                body = {name: delivery[name] for name in ("messageId", "leaseToken")}
                await line.post(f"{_ENDPOINTS}/{ASKED}/ack", body)

        await self._again("answer", one)

    async def _follow(self, path: str, *, slowly: bool = False, leave: bool = False) -> None:
        """A stream that is opened again where it ends. One that leaves comes back at once."""
        while True:
            try:
                line = await Line.open(self._url, self._token)
                try:
                    reader = await line.follow(path)
                    self.told.counts["streams opened"] += 1
                    await self._read(reader, slowly=slowly, for_s=_PASSING_S if leave else None)
                finally:
                    line.close()
                self.told.counts["streams left" if leave else "streams ended"] += 1
            except Exception as fault:  # noqa: BLE001  # As above.
                self._note(f"follow {path}", fault)
            if not leave:
                await asyncio.sleep(_BACK_AFTER_S)

    async def _read(self, reader: asyncio.StreamReader, *, slowly: bool, for_s: float | None) -> None:
        until = None if for_s is None else time.monotonic() + for_s
        while until is None or time.monotonic() < until:
            read = await reader.read(_SLOW_BYTES if slowly else 1 << 16)
            if not read:
                return
            self.told.counts["bytes followed"] += len(read)
            if slowly:
                await asyncio.sleep(_SLOW_PAUSE_S)

    async def _every(self, seconds: float, visit: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        with self._server.client() as api:
            link = api.post("/api/logins/links").json()["path"]
        async with httpx.AsyncClient(base_url=self._url, timeout=60, trust_env=False) as browser:
            await browser.get(link)
            while True:
                try:
                    await visit(browser)
                    self._visits_left.discard(visit.__name__)
                    if not self._visits_left:
                        self.visited.set()
                except Exception as fault:  # noqa: BLE001  # As above.
                    self._note("visit", fault)
                await asyncio.sleep(seconds)

    async def _visit(self, browser: httpx.AsyncClient) -> None:
        """A look at each page of the console, the numbers, the system, a search and the tools."""
        for page in (
            "/",
            "/pulse",
            "/pulse/runs",
            "/inbox",
            "/mesh",
            "/relay",
            "/relay/mailboxes",
            "/relay/dead",
            "/database",
        ):
            _must_be_fine(await browser.get(page, headers={"Accept": "text/html"}))
        as_operator = {"Authorization": f"Bearer {self._token}"}
        for path in (
            "/metrics",
            "/api/status",
            "/api/ready",
            "/api/relay/search?q=report",
            "/api/pulse/runs",
        ):
            _must_be_fine(await browser.get(path, headers=as_operator))
        called = await browser.post("/mcp", json=_CALL, headers=as_operator | _MCP_HEADERS)
        _must_be_fine(called)
        self.told.counts["visits"] += 1

    async def _discover(self, browser: httpx.AsyncClient) -> None:
        as_operator = {"Authorization": f"Bearer {self._token}"}
        answer = await browser.post("/api/mesh/discover", json={"roots": [self._folder]}, headers=as_operator)
        _must_be_fine(answer)
        self.told.counts["discoveries"] += 1


def _must_be_fine(answer: httpx.Response) -> None:
    """Raises `RefusedError` with what the server had to say."""
    if not answer.is_success:
        raise RefusedError(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}")


_MCP_HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}
_CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
