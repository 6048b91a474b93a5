"""Streams over the real subsystems: what a run prints, and messages as they are published."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dorkos.app import System, build
from dorkos.clock import SystemClock
from dorkos.home import Home
from dorkos.identity.model import Caller
from dorkos.operation import Operation, Wire
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.testing import create_test_db
from dorkos.vocabulary import Scope
from tests.server.kit import STOPPED_WITHIN_S, Frame, Served, frames, serving, settled

STORY = """
import sys
leave = open(sys.argv[1], "rb", buffering=0)
for word in ("one", "two", "three"):
    print(word, flush=True)
    leave.read(1)
"""


@dataclass
class Running:
    """The whole system at work, and a client that speaks as the operator."""

    system: System
    client: httpx.AsyncClient
    folder: Path
    pipe: int

    async def run(self) -> str:
        """Start a run that prints a word and waits for leave to go on; returns its id."""
        body = {
            "name": "story",
            "cron": "@manual",
            "prompt": "p",
            "cwd": str(self.folder),
            "command": [sys.executable, "-c", STORY, str(self.folder / "pipe")],
        }
        schedule = (await self.client.post("/api/pulse/schedules", json=body)).json()
        answer = await self.client.post(f"/api/pulse/schedules/{schedule['id']}/trigger")
        return str(answer.json()["runId"])

    def go(self, times: int) -> None:
        """Let the run go on, so many times."""
        os.write(self.pipe, b"." * times)

    async def send(self, subject: str, payload: Any) -> str:
        """Publish a message; returns its id."""
        answer = await self.client.post("/api/relay/messages", json={"subject": subject, "payload": payload})
        return str(answer.json()["messageId"])


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """Everything wired as the program wires it, on a database of its own."""
    home, folder, clock = Home(tmp_path / "home"), tmp_path / "agents", SystemClock()
    home.prepare()
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    pipe = os.open(folder / "pipe", os.O_RDWR)  # Both ways, since opening one end waits for the other.
    settings = Settings(server=ServerSettings(port=0, boundary=folder))
    async with create_test_db("sqlite", clock=clock) as db:
        system = build(home, given(settings), db, clock)
        await system.start()
        headers = {"Authorization": f"Bearer {home.token_path.read_text(encoding='ascii').strip()}"}
        try:
            async with httpx.AsyncClient(
                base_url=system.http.url, headers=headers, timeout=30, trust_env=False, verify=False
            ) as client:
                yield Running(system, client, folder, pipe)
        finally:
            await system.stop()
            os.close(pipe)


async def until(stream: AsyncIterator[Frame], text: str) -> Frame:
    """The first frame whose output ends with the text."""
    async with asyncio.timeout(30):
        async for frame in stream:
            if frame.event == "output" and frame.data["text"].strip().endswith(text):
                return frame
    raise AssertionError(f"the stream ended before {text!r}")


async def test_a_run_is_followed_to_its_end_across_a_broken_connection(running: Running) -> None:
    """Each piece once, in order, with its number as id; at last the state the run ended in."""
    run_id = await running.run()
    address = f"/api/pulse/runs/{run_id}/output/stream"
    async with running.client.stream("GET", address) as response:
        first = await until(frames(response), "one")
    assert {"seq", "stream", "at", "text"} == set(first.data)
    assert str(first.data["seq"]) == first.id

    headers = {"Last-Event-ID": str(first.id)}
    async with asyncio.timeout(30), running.client.stream("GET", address, headers=headers) as response:
        running.go(3)
        rest = [frame async for frame in frames(response)]

    assert "".join(frame.data["text"] for frame in rest[:-1]) == "two\nthree\n"
    assert (rest[-1].id, rest[-1].event, rest[-1].data) == (None, "end", {"state": "completed"})

    async with asyncio.timeout(30), running.client.stream("GET", address) as response:
        again = [frame async for frame in frames(response)]
    assert "".join(frame.data["text"] for frame in again[:-1]) == "one\ntwo\nthree\n"
    assert again[-1].event == "end"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/event-stream", "text/event-stream"),
        ("Text/Event-Stream; charset=utf-8, */*;q=0.1", "text/event-stream"),
        ("application/json;q=0.5, text/event-stream", "text/event-stream"),
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream;q=0", "application/json"),
        ("text/event-stream;q=most", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_output_is_a_stream_for_whoever_accepts_one(running: Running, accept: str, kind: str) -> None:
    """The page is for everybody else; both begin behind the same `after`."""
    run_id = await running.run()
    running.go(3)
    address = f"/api/pulse/runs/{run_id}/output"
    async with asyncio.timeout(30), running.client.stream("GET", f"{address}/stream") as response:
        _ = [frame async for frame in frames(response)]
    async with (
        asyncio.timeout(30),
        running.client.stream("GET", address, headers={"Accept": accept}, params={"after": "0"}) as response,
    ):
        body = (await response.aread()).decode()
    assert response.headers["content-type"].split(";")[0] == kind
    assert ("event: end" in body) is (kind == "text/event-stream")
    assert "one" in body


async def test_following_a_run_that_does_not_exist_is_refused(running: Running) -> None:
    """With a status, not with an empty stream."""
    answer = await running.client.get("/api/pulse/runs/none/output/stream")

    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")

    for run_id in ("%2e%2e", "%20", "a%2Fb", "%F0%9F%98%80", "x" * 65):
        for address in (f"{run_id}/output/stream", f"{run_id}/output"):
            headers = {"Accept": "text/event-stream"}
            answer = await running.client.get(f"/api/pulse/runs/{address}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


@pytest.mark.parametrize("place", ["x", "-1", "e:1", "9" * 30])
async def test_a_place_in_the_output_is_a_number(running: Running, place: str) -> None:
    """Anything else was not given out by this server."""
    run_id = await running.run()
    answer = await running.client.get(f"/api/pulse/runs/{run_id}/output/stream", params={"after": place})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_stopping_the_server_ends_the_stream_of_a_run_without_saying_it_ended(running: Running) -> None:
    """The run is marked by the stop; a client that comes back reads how."""
    run_id = await running.run()
    async with running.client.stream("GET", f"/api/pulse/runs/{run_id}/output/stream") as response:
        stream = frames(response)
        await until(stream, "one")
        async with asyncio.timeout(STOPPED_WITHIN_S):
            await running.system.http.stop()
        assert [frame async for frame in stream] == []


async def test_messages_are_watched_without_being_consumed(running: Running) -> None:
    """Those of the pattern, as full envelopes; they still wait for whoever claims them."""
    for name in ("kim", "lee"):
        await running.client.post("/api/relay/endpoints", json={"subject": f"relay.human.{name}"})
    async with (
        asyncio.timeout(30),
        running.client.stream("GET", "/api/relay/stream?subject=relay.human.kim") as response,
    ):
        stream = frames(response)
        connected = await anext(stream)
        await running.send("relay.human.lee", "no")
        wanted = await running.send("relay.human.kim", {"a": None})
        message = await anext(stream)

    assert (connected.event, connected.data["pattern"]) == ("relay_connected", "relay.human.kim")
    assert "connectedAt" in connected.data
    assert ("relay_message", wanted) == (message.event, message.data["id"])
    assert (message.data["payload"], message.data["from"]) == ({"a": None}, "relay.human.operator")
    claim = await running.client.post("/api/relay/endpoints/relay.human.kim/claim", json={})
    assert [wanted] == [delivery["messageId"] for delivery in claim.json()["deliveries"]]


async def test_watching_messages_goes_on_where_it_was_cut(running: Running) -> None:
    """The lineage lost what was sent in between."""
    await running.client.post("/api/relay/endpoints", json={"subject": "relay.human.kim"})
    async with running.client.stream("GET", "/api/relay/stream") as response:
        start = await anext(frames(response))
    sent = await running.send("relay.human.kim", "between")
    headers = {"Last-Event-ID": str(start.id)}
    async with (
        asyncio.timeout(30),
        running.client.stream("GET", "/api/relay/stream", headers=headers) as response,
    ):
        stream = frames(response)
        await anext(stream)
        assert sent == (await anext(stream)).data["id"]


async def test_a_place_that_never_was_is_told(running: Running) -> None:
    """Whoever resumes there learns that messages may be missing."""
    for place, is_reset in (("another:1", True), (str(running.system.feed.head), False)):
        headers = {"Last-Event-ID": place}
        async with running.client.stream("GET", "/api/relay/stream", headers=headers) as response:
            assert (await anext(frames(response))).data["reset"] is is_reset


async def test_a_pattern_that_is_none_is_refused_before_the_stream_starts(running: Running) -> None:
    """The lineage said connected first and then cut the connection."""
    answer = await running.client.get("/api/relay/stream", params={"subject": "a..b"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_subject")


class _Page(Wire):
    id: str
    after: int = 0
    limit: int = 100


class _Run(Wire):
    id: str


class _Chunk(Wire):
    seq: int
    text: str


class _Output(Wire):
    chunks: list[_Chunk]
    final: bool


class _State(Wire):
    state: str


@dataclass
class _Printer:
    """A run that prints its only line at the worst moment: right after the first look at its output."""

    served: Served | None = None
    looks: int = 0

    async def page(self, _caller: Caller, asked: _Page) -> _Output:
        self.looks += 1
        if self.looks > 1:
            return _Output(chunks=[_Chunk(seq=1, text="late")][asked.after :], final=True)
        assert self.served is not None
        feed = self.served.feed
        before = feed.head
        await self.served.emit(asked.id, kind="pulse.run.output")
        await settled(self.served, lambda: feed.head != before)
        return _Output(chunks=[], final=False)

    async def run(self, _caller: Caller, _asked: _Run) -> _State:
        return _State(state="completed")


async def test_what_is_printed_while_the_stream_begins_is_not_waited_for_in_vain() -> None:
    """The news of it is over before the stream begins to listen, and it is told all the same."""
    printer, address = _Printer(), "/api/pulse/runs/{id}"
    operations: tuple[Operation[_Printer, Any, Any], ...] = (
        Operation(
            "pulse.runs.output",
            "",
            "pulse",
            "GET",
            f"{address}/output",
            Scope.OBSERVE,
            _Page,
            _Output,
            _Printer.page,
        ),
        Operation("pulse.runs.get", "", "pulse", "GET", address, Scope.OBSERVE, _Run, _State, _Printer.run),
    )
    async with serving(operations=operations, parts={"pulse": printer}) as served:
        printer.served = served
        async with (
            asyncio.timeout(30),
            served.client.stream("GET", "/api/pulse/runs/7/output/stream") as response,
        ):
            assert [frame.event async for frame in frames(response)] == ["output", "end"]
