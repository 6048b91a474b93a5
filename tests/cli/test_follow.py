"""Following a stream across broken connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dorkos.cli.client import Client
from dorkos.cli.follow import follow
from dorkos.cli.target import Target
from dorkos.errors import DorkError, ErrorCode
from tests.cli.scripted_server import ScriptedServer


@pytest.fixture
def client(scripted: ScriptedServer) -> Iterator[Client]:
    """A client of the scripted server."""
    made = Client(Target(scripted.url, "secret"))
    yield made
    made.close()


def _frame(number: int) -> str:
    return f"id: e:{number}\nevent: tick\ndata: {number}\n\n"


def test_it_goes_on_after_the_last_id_seen(scripted: ScriptedServer, client: Client) -> None:
    """Whether the connection breaks or the server ends the stream: no event is missing, none comes twice."""
    scripted.stream(_frame(1), _frame(2), "id: e:3\nevent: tick\nda", promise=10)
    scripted.stream(_frame(3), "id: e:9\n\n")
    scripted.stream(_frame(10))

    seen = []
    for event in follow(client, "/api/events"):
        if event.event:
            seen.append(event.data)
        if event.data == "10":
            break

    assert seen == ["1", "2", "3", "10"]
    assert "Last-Event-ID" not in scripted.requests[0]
    assert "Last-Event-ID: e:2" in scripted.requests[1]
    assert "Last-Event-ID: e:9" in scripted.requests[2]


def test_the_first_connection_must_succeed(scripted: ScriptedServer, client: Client) -> None:
    """A server that does not run is told at once instead of being waited for."""
    scripted.raw(b"")
    with pytest.raises(DorkError) as refusal:
        next(follow(client, "/api/events"))
    assert refusal.value.code is ErrorCode.NOT_RUNNING
    assert len(scripted.requests) == 1


def test_a_server_that_stays_away_is_given_up(scripted: ScriptedServer, client: Client) -> None:
    """After the time allowed, the refusal is raised; meanwhile it was tried again."""
    scripted.stream(_frame(1))
    events = follow(client, "/api/events", give_up_s=0.1)
    assert next(events).data == "1"
    with pytest.raises(DorkError) as refusal:
        next(events)
    assert refusal.value.code is ErrorCode.NOT_RUNNING
    assert len(scripted.requests) >= 2


def test_a_refusal_that_waiting_does_not_mend_is_raised(scripted: ScriptedServer, client: Client) -> None:
    """A token revoked meanwhile ends the command."""
    scripted.stream(_frame(1))
    scripted.answer({"error": "No.", "code": "token_invalid"}, 401)
    events = follow(client, "/api/events")
    assert next(events).data == "1"
    with pytest.raises(DorkError) as refusal:
        next(events)
    assert refusal.value.code is ErrorCode.TOKEN_INVALID
