"""`GET /api/events`: every committed event once, in order, from any place, for as long as both sides want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.requests import Request
from starlette.types import Message

from dorkos.clock import ManualClock
from dorkos.db.schema.system import system_state, tokens
from dorkos.events import PRUNED_KEY, Cursor, Event
from dorkos.identity.model import OPERATOR
from dorkos.identity.token_list import TokenService
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.server.sse import EventStream, Seats, StreamLimits, frame
from dorkos.server.stream import Events, SharedFrames, Source, Watch
from dorkos.vocabulary import Scope, TokenKind
from tests.server.kit import Frame, Served, frames, one_turn, serving, settled

EVENTS = "/api/events"
# So short that a sign of life comes between any two frames.
OFTEN_S = 0.001


@asynccontextmanager
async def watching(
    client: httpx.AsyncClient, path: str = EVENTS, *, last_id: str | None = None, **query: str
) -> AsyncGenerator[AsyncIterator[Frame]]:
    """The frames of an open stream."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    async with asyncio.timeout(60), client.stream("GET", path, params=query, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield frames(response)


def tasks() -> int:
    """How many tasks there are in this process, the server's among them."""
    return len(asyncio.all_tasks())


async def test_a_stream_greets_with_its_cursor_and_then_tells_what_happens(served: Served) -> None:
    """Each event under its kind, with the cursor to resume from as its id."""
    await served.emit("before")
    await settled(served, lambda: served.feed.head.position == 1)
    async with watching(served.client) as stream:
        hello = await anext(stream)
        assert (hello.event, hello.data["version"]) == ("hello", "0.1.0")
        assert hello.id == hello.data["cursor"]
        await served.db.write(lambda tx: tx.emit("mesh.path.denied", "E\u2028", {"a": [None]}, actor="kim"))
        event = await anext(stream)

    cursor = Cursor.parse(str(event.id))
    assert event.event == "mesh.path.denied"
    assert {
        "position": cursor.position,
        "kind": "mesh.path.denied",
        "entityId": "E\u2028",
        "actor": "kim",
        "at": "2026-03-01T09:00:00.000Z",
        "data": {"a": [None]},
    } == event.data
    assert cursor.epoch == served.feed.head.epoch


async def test_each_frame_is_one_piece_of_ascii(served: Served) -> None:
    """A reader that splits at line ends of other scripts, or at network reads, still sees whole frames."""
    assert frame("k", {"t": "\u2028\n"}, frame_id="e:1") == b'id: e:1\nevent: k\ndata: {"t":"\\u2028\\n"}\n\n'


async def test_what_was_committed_after_the_greeting_was_decided_is_sent(served: Served) -> None:
    """A client that resumes from the greeting misses nothing."""
    async with watching(served.client) as stream:
        hello = await anext(stream)
    await served.emit("between")
    async with watching(served.client, last_id=hello.id) as stream:
        await anext(stream)
        assert (await anext(stream)).data["entityId"] == "between"


async def test_reconnecting_under_load_repeats_nothing_and_leaves_nothing_out() -> None:
    """Cut after every few frames, at signs of life too, while others write."""
    async with serving(keepalive_s=OFTEN_S) as served:
        async with watching(served.client) as stream:
            last_id = (await anext(stream)).id
        names = [f"{number}" for number in range(300)]

        async def write(part: list[str]) -> None:
            for name in part:
                await served.emit(name)

        writers = [asyncio.ensure_future(write(names[start::4])) for start in range(4)]
        seen: list[int] = []
        entities: set[str] = set()
        while len(seen) < len(names):
            cut_after, until_sign = len(seen) + 1 + len(seen) % 7, len(seen) % 2 == 0
            async with watching(served.client, last_id=last_id) as stream:
                async for got in stream:
                    last_id = got.id or last_id
                    if got.event == "system.node.started":
                        seen.append(got.data["position"])
                        entities.add(got.data["entityId"])
                    is_sign = got.event is None
                    if len(seen) >= min(cut_after, len(names)) and (is_sign or not until_sign):
                        break
        await asyncio.gather(*writers)

    assert seen == sorted(set(seen))
    assert set(names) == entities


async def test_a_reconnecting_clients_header_wins_over_its_address(served: Served) -> None:
    """A browser repeats the address it began with and adds the id it saw last."""
    start = str(served.feed.head)
    await served.emit("a", "b")
    async with watching(served.client, after=start) as stream:
        await anext(stream)
        first = await anext(stream)
    async with watching(served.client, last_id=first.id, after=start) as stream:
        await anext(stream)
        assert [first.data["entityId"], (await anext(stream)).data["entityId"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"topics": "pulse"}, ["P"]),
        ({"topics": "relay, mesh"}, ["R", "M", "end"]),
        ({"kinds": "relay.endpoint.opened,mesh.path.denied"}, ["R", "M"]),
        ({"topics": "relay", "kinds": "mesh.path.denied,relay.endpoint.opened"}, ["R"]),
        ({"topics": "", "kinds": ","}, ["P", "R", "M", "end"]),
    ],
)
async def test_a_stream_sends_only_what_was_asked_for(
    served: Served, query: dict[str, str], expected: list[str]
) -> None:
    """Of these topics and of these kinds; an empty list asks for all."""
    start = str(served.feed.head)
    for name, kind in {
        "P": "pulse.run.queued",
        "R": "relay.endpoint.opened",
        "M": "mesh.path.denied",
    }.items():
        await served.emit(name, kind=kind)
    await served.emit("end", kind="mesh.path.allowed")
    async with watching(served.client, after=start, **query) as stream:
        assert (await anext(stream)).event == "hello"
        assert expected == [(await anext(stream)).data["entityId"] for _ in expected]


@pytest.mark.parametrize("query", [{"topics": "pulse,x"}, {"kinds": "pulse"}, {"kinds": "pulse.run.queued;"}])
async def test_an_unknown_topic_or_kind_is_refused(served: Served, query: dict[str, str]) -> None:
    """A stream that can never send anything would look like a quiet system."""
    answer = await served.client.get(EVENTS, params=query)

    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
    assert list(query) == list(answer.json()["details"]["fieldErrors"])


async def test_events_left_out_still_move_the_place_to_resume_from() -> None:
    """A sign of life carries the id, so that a watcher of rare kinds does not read all others again."""
    async with serving(keepalive_s=OFTEN_S) as served, watching(served.client, topics="mesh") as stream:
        await anext(stream)
        await served.emit(*"abc")
        while served.feed.head.position < 3:
            await anext(stream)
        async for sign in stream:
            assert sign.event is None
            if sign.id == str(served.feed.head):
                break


async def test_a_sign_of_life_never_names_a_frame_that_is_not_sent_yet() -> None:
    """Else a connection that breaks in between would leave that frame out for good."""
    place = 0

    async def two() -> AsyncGenerator[bytes]:
        nonlocal place
        for place in (1, 2):
            yield frame("k", {}, frame_id=f"e:{place}")

    async def verify() -> Any:
        for _ in range(5):  # Long enough for the next frame to be made, but not sent.
            await one_turn()
        return OPERATOR

    async def stays() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def keep(message: Message) -> None:
        sent.append(message.get("body", b""))

    sent: list[bytes] = []
    scope = {"type": "http", "method": "GET", "headers": [], "state": {"verify": verify}}
    limits = StreamLimits(Seats(1), keepalive_s=0.0)
    stream = EventStream(Request(scope), two(), limits=limits, position=lambda: f"e:{place}")
    await stream(scope, stays, keep)

    ids = [
        line.partition(b": ")[2] for piece in sent for line in piece.split(b"\n") if line.startswith(b"id")
    ]
    assert sorted(ids) == ids
    first_of_two = next(n for n, piece in enumerate(sent) if b"id: e:2" in piece)
    assert b"event: k" in sent[first_of_two]


async def test_a_frame_is_made_once_for_all_who_watch(clock: ManualClock) -> None:
    """However many there are, though the first goes away meanwhile; one that failed is made again."""
    made, release = 0, asyncio.Event()
    event = Event(1, "k", "a", None, clock.now(), "{}")

    async def render(events: Events) -> list[bytes | None]:
        nonlocal made
        made += 1
        await release.wait()
        if made == 1:
            raise LookupError("on purpose")
        return [event_id.encode() for _, event_id in events]

    shared = SharedFrames(render)
    for expected in (1, 2, 2):
        first, *others = [asyncio.ensure_future(shared.get(event, "e:1")) for _ in range(20)]
        await one_turn()
        first.cancel()
        release.set()
        answers = await asyncio.gather(*others, return_exceptions=True)
        assert made == expected
        assert all(isinstance(each, LookupError) if expected == 1 else each == b"e:1" for each in answers)


async def test_frames_of_a_page_are_made_together_once_for_all_who_watch(clock: ManualClock) -> None:
    """Who comes to them later waits for them; where that failed all are told, and each is made again."""
    asked: list[list[str]] = []
    page = [(Event(number, "k", "a", None, clock.now(), "{}"), f"e:{number}") for number in range(1, 4)]

    async def render(events: Events) -> list[bytes | None]:
        asked.append([event_id for _, event_id in events])
        await one_turn()
        if len(asked) == 1:
            raise LookupError("on purpose")
        return [event_id.encode() for _, event_id in events]

    shared = SharedFrames(render)
    shared.begin(page[:2])
    first = [asyncio.ensure_future(shared.get(*each)) for each in page[:2]]
    assert [type(each) for each in await asyncio.gather(*first, return_exceptions=True)] == [LookupError] * 2
    for _ in range(3):
        shared.begin(page)
        assert [await shared.get(*each) for each in page] == [b"e:1", b"e:2", b"e:3"]
    assert asked == [["e:1", "e:2"], ["e:1", "e:2", "e:3"]]


async def test_a_large_frame_is_kept_for_nobody(clock: ManualClock) -> None:
    """Who waits for it has it; for who comes later it is made again, since many would fill the memory."""
    event, asked = Event(1, "k", "a", None, clock.now(), "{}"), 0

    async def render(events: Events) -> list[bytes | None]:
        nonlocal asked
        asked += 1
        return [b"x" * 70_000 for _ in events]

    shared = SharedFrames(render)
    both = await asyncio.gather(shared.get(event, "e:1"), shared.get(event, "e:1"))
    assert ([len(each or b"") for each in both], asked) == ([70_000, 70_000], 1)
    await shared.get(event, "e:1")
    assert asked == 2


async def test_many_events_come_in_one_piece(served: Served) -> None:
    """Who is woken less often sees as much."""
    await served.emit(*"abcdef")
    await settled(served, lambda: served.feed.head.position >= 6)
    start = Cursor(served.feed.head.epoch, 0)

    async def render(events: Events) -> list[bytes | None]:
        return [f"{event.entity_id} {event_id[-1]}\n".encode() for event, event_id in events]

    async def span() -> tuple[int, int]:
        return 0, 6

    source = Source(served.feed, span, StreamLimits(Seats(1)))
    watch = Watch(source, start, [], SharedFrames(render), lambda event: event.entity_id != "b")
    async with aclosing(watch.frames()) as pieces:
        assert await anext(pieces) == b"a 1\nc 3\nd 4\ne 5\nf 6\n"
    assert watch.cursor.position == 6


async def test_a_cursor_of_another_history_gets_a_reset_and_what_happens_from_now(served: Served) -> None:
    """After a restore the old positions mean other events; the client has to read the state anew."""
    await served.emit("before")
    await settled(served, lambda: served.feed.head.position == 1)
    async with watching(served.client, last_id="another:0") as stream:
        reset, hello = await anext(stream), await anext(stream)
        await served.emit("after")
        event = await anext(stream)

    assert [reset.event, hello.event, event.event] == ["reset", "hello", "system.node.started"]
    assert str(Cursor(served.feed.head.epoch, 1)) == reset.data["cursor"] == reset.id
    assert event.data["entityId"] == "after"


async def test_a_place_that_was_never_given_out_gets_a_reset(served: Served) -> None:
    """Waiting until the database gets there would leave the client in the dark for good."""
    async with watching(served.client, after=f"{served.feed.head.epoch}:1000000") as stream:
        assert [(await anext(stream)).event, (await anext(stream)).event] == ["reset", "hello"]


async def test_a_place_of_which_the_next_events_were_taken_away_gets_a_reset(served: Served) -> None:
    """One behind what is gone is told that there is a gap; the newest one that is gone leaves none."""
    for name in "abc":
        await served.emit(name)
    stored = system_state.insert().values(key=PRUNED_KEY, value="2")
    await served.db.write(lambda tx: tx.execute(stored).rowcount)
    epoch = served.feed.head.epoch
    async with watching(served.client, after=f"{epoch}:1") as stream:
        assert [(await anext(stream)).event, (await anext(stream)).event] == ["reset", "hello"]
    async with watching(served.client, after=f"{epoch}:2") as stream:
        hello, event = await anext(stream), await anext(stream)
    assert (hello.event, event.data["entityId"]) == ("hello", "c")


async def test_a_place_that_only_the_database_knows_yet_is_a_place(served: Served) -> None:
    """Another server may have committed what this one has not seen."""
    await served.feed.stop()
    await served.emit("unseen")
    head = served.feed.head
    async with watching(served.client, after=f"{head.epoch}:{head.position + 1}") as stream:
        assert (await anext(stream)).event == "hello"


@pytest.mark.parametrize("cursor", ["7", "e:", ":1", "e:x", "e:-1", "e:" + "9" * 40])
async def test_a_text_that_is_no_cursor_is_refused_before_the_stream_starts(
    served: Served, cursor: str
) -> None:
    """With a status that says so, not with an empty stream."""
    for answer in (
        await served.client.get(EVENTS, params={"after": cursor}),
        await served.client.get(EVENTS, headers={"Last-Event-ID": cursor}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


async def test_streams_are_bounded_and_a_closed_one_makes_room() -> None:
    """The refusal names the limit."""
    async with serving(max_streams=2) as served:
        async with watching(served.client) as one, watching(served.client) as two:
            await anext(one)
            await anext(two)
            answer = await served.client.get(EVENTS)
            assert (answer.status_code, answer.json()["code"]) == (429, "too_many_streams")
            assert answer.json()["details"] == {"limit": 2}
        await _opened(served)


async def _opened(served: Served) -> None:
    """Try until a stream opens: the server learns of a client that left a moment after it did."""
    async with asyncio.timeout(30):
        while True:
            async with served.client.stream("GET", EVENTS) as response:
                if response.status_code == 200:
                    return


async def test_streams_that_come_and_go_leave_nothing_behind() -> None:
    """Neither seats nor tasks, however they end."""
    async with serving(max_streams=3) as served:
        await served.client.get("/api/health")
        before = tasks()
        for turn in range(60):
            await _opened(served)
            if turn % 3 == 0:
                await served.client.head(EVENTS)
            if turn % 5 == 0:
                await served.client.get(EVENTS, params={"topics": "nonsense"})
        await settled(served, lambda: tasks() <= before)
        async with watching(served.client) as a, watching(served.client) as b, watching(served.client) as c:
            assert {"hello"} == {(await anext(stream)).event for stream in (a, b, c)}


async def test_head_answers_without_opening_a_stream(served: Served) -> None:
    """The headers, and an end."""
    answer = await served.client.head(EVENTS)

    assert (answer.status_code, answer.content) == (200, b"")


async def test_stopping_the_feed_ends_a_stream_in_good_order(served: Served) -> None:
    """Everything that was sent before arrives, then the stream is over, not broken."""
    async with watching(served.client) as stream:
        await anext(stream)
        await served.emit("last")
        assert (await anext(stream)).data["entityId"] == "last"
        await served.feed.stop()
        assert [got async for got in stream] == []


async def test_a_stream_ends_when_its_token_is_revoked() -> None:
    """With the next sign of life; what a token may see ends with the token."""
    async with serving(keepalive_s=OFTEN_S) as served:
        secret = new_secret()
        token = NewToken(new_id(), secret, "relay.agent.team.a", frozenset({Scope.OBSERVE}))
        await served.db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(days=1)))
        async with served.stranger(Authorization=f"Bearer {secret}") as agent, watching(agent) as stream:
            await anext(stream)
            await anext(stream)
            await served.db.write(lambda tx: tx.execute(sa.update(tokens).values(revoked_at=tx.now())))
            async for _ in stream:
                pass


@pytest.mark.parametrize("topics", ["system", "pulse"])
async def test_a_stream_ends_at_once_when_its_token_is_revoked_by_hand(topics: str) -> None:
    """Before anything younger is sent, whatever it follows; streams of others go on."""
    async with serving(keepalive_s=3600) as served:
        service = TokenService(served.db, served.clock)
        made = [
            await service.create(kind=TokenKind.READ_ONLY, name=name, lifetime=timedelta(days=1), actor="a")
            for name in ("lost", "kept")
        ]
        # A stream begins where the feed is, which looks a moment after a commit.
        await settled(served, lambda: served.feed.head.position >= 2)
        async with (
            served.stranger(Authorization=f"Bearer {made[0][1]}") as thief,
            served.stranger(Authorization=f"Bearer {made[1][1]}") as screen,
            watching(thief, topics=topics) as stolen,
            watching(screen, topics="system,pulse") as other,
        ):
            assert [(await anext(stream)).event for stream in (stolen, other)] == ["hello", "hello"]
            await service.revoke(made[0][0].id, actor="a")
            await served.tell("younger", kind="pulse.run.finished")
            async with asyncio.timeout(30):
                assert [got async for got in stolen] == []
                assert [(await anext(other)).event for _ in range(2)] == [
                    "system.token.revoked",
                    "pulse.run.finished",
                ]


async def test_a_client_that_reads_late_misses_nothing(served: Served) -> None:
    """Thirty megabytes are more than sockets hold: what does not fit waits in the table."""
    start = str(served.feed.head)
    text = "x" * 1_000_000
    for number in range(30):
        await served.tell(f"{number}", kind="mesh.path.denied", text=text)
    async with watching(served.client, after=start) as stream:
        await anext(stream)
        await settled(served, lambda: served.feed.head.position >= 30)
        assert [f"{n}" for n in range(30)] == [(await anext(stream)).data["entityId"] for _ in range(30)]
