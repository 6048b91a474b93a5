"""What the client makes of servers, and of things that are none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dorkos.cli.client import Client
from dorkos.cli.target import Target
from dorkos.errors import DorkError, ErrorCode
from tests.cli.scripted_server import ScriptedServer


@pytest.fixture
def client(scripted: ScriptedServer) -> Iterator[Client]:
    """A client of the scripted server."""
    made = Client(Target(scripted.url, "secret"))
    yield made
    made.close()


def _refusal_of(act: object) -> DorkError:
    with pytest.raises(DorkError) as refusal:
        act()  # type: ignore[operator]  # Every caller hands in a function.
    return refusal.value


def test_a_request_carries_the_token_and_answers_as_it_is(scripted: ScriptedServer, client: Client) -> None:
    """The document comes back unchanged; query values of None are left out."""
    scripted.answer({"a": [1, None]})
    assert client.get("/api/x", one=1, none=None) == {"a": [1, None]}
    assert scripted.requests[0].startswith("GET /api/x?one=1 HTTP/1.1")
    assert "authorization: Bearer secret" in scripted.requests[0].replace("Authorization", "authorization")


def test_a_refusal_keeps_the_servers_words(scripted: ScriptedServer, client: Client) -> None:
    """Code, message, hint and details are the server's."""
    body = {"error": "No.", "code": "run_not_active", "hint": "Wait.", "details": {"a": 1}}
    scripted.answer(body, 409)
    refusal = _refusal_of(lambda: client.post("/api/x"))
    assert refusal.body() == body
    assert refusal.exit_code == 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.VALIDATION_FAILED),
        (401, ErrorCode.TOKEN_INVALID),
        (404, ErrorCode.NOT_FOUND),
        (409, ErrorCode.CONFLICT),
        (418, ErrorCode.INTERNAL_ERROR),
        (503, ErrorCode.NOT_READY),
    ],
)
def test_a_code_of_a_newer_server_is_understood_by_its_status(
    scripted: ScriptedServer, client: Client, status: int, code: ErrorCode
) -> None:
    """The exit code still says what to do, and the unknown code is kept in the details."""
    scripted.answer({"error": "Hm.", "code": "from_the_future"}, status)
    refusal = _refusal_of(lambda: client.get("/api/x"))
    assert refusal.code is code
    assert refusal.details is not None
    assert refusal.details["serverCode"] == "from_the_future"


@pytest.mark.parametrize("url", ["http://xn--a", "http://é..é"])
def test_what_the_library_takes_for_no_address_is_misuse(url: str) -> None:
    """Not a fault of ours."""
    assert _refusal_of(lambda: Client(Target(url, "secret"))).code is ErrorCode.USAGE


def test_nothing_that_answers_is_not_running() -> None:
    """A closed port is told with the way to start a server."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = Client(Target(f"http://127.0.0.1:{port}", "secret"))
    refusal = _refusal_of(lambda: client.get("/api/status"))
    client.close()
    assert refusal.code is ErrorCode.NOT_RUNNING
    assert refusal.hint is not None
    assert "dorkos up" in refusal.hint


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>",
        b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>",
        b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n[]",
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nConnection: close\r\n\r\n",
    ],
    ids=["page", "gateway", "list", "redirect"],
)
def test_something_else_on_the_port_is_told_apart(
    scripted: ScriptedServer, client: Client, answer: bytes
) -> None:
    """It is never taken for an answer, and a redirect is not followed with our token."""
    scripted.raw(answer)
    refusal = _refusal_of(lambda: client.get("/api/status"))
    assert refusal.code is ErrorCode.NOT_RUNNING
    assert "not a DorkOS server" in refusal.message
    assert len(scripted.requests) == 1


def test_a_lost_answer_to_a_question_is_not_running(scripted: ScriptedServer, client: Client) -> None:
    """Nothing can have changed, so it is enough to say that the server is gone."""
    scripted.raw(b"")
    assert _refusal_of(lambda: client.get("/api/x")).code is ErrorCode.NOT_RUNNING


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_a_lost_answer_to_a_change_says_that_it_may_have_happened(
    scripted: ScriptedServer, client: Client, answer: bytes
) -> None:
    """Neither success nor failure is claimed, and nothing is sent a second time."""
    scripted.raw(answer)
    refusal = _refusal_of(lambda: client.post("/api/x", {"a": 1}))
    assert refusal.code is ErrorCode.OUTCOME_UNKNOWN
    assert len(scripted.requests) == 1


@pytest.mark.parametrize("value", ["\udcff", "\x00", 2**70, float("nan")])
def test_what_cannot_be_stored_is_refused_before_it_is_sent(
    scripted: ScriptedServer, client: Client, value: object
) -> None:
    """With the code that the server would use, instead of a fault in the encoder."""
    assert _refusal_of(lambda: client.post("/api/x", {"a": value})).code is ErrorCode.INVALID_TEXT
    assert scripted.requests == []


def test_proxies_of_the_environment_do_not_see_the_token(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is not meant for the server next door."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    scripted.answer({})
    client = Client(Target(scripted.url, "secret"))
    assert client.get("/api/x") == {}
    client.close()


def test_a_stream_gives_frames_and_names_where_to_go_on(scripted: ScriptedServer, client: Client) -> None:
    """The last id seen is sent along."""
    scripted.stream("id: e:8\nevent: a\ndata: 1\n\n")
    with client.stream("/api/events", last_id="e:7", topics="pulse") as frames:
        assert [frame.data for frame in frames] == ["1"]
    assert "Last-Event-ID: e:7" in scripted.requests[0]
    assert "topics=pulse" in scripted.requests[0]


def test_a_refused_stream_is_a_refusal(scripted: ScriptedServer, client: Client) -> None:
    """As for any other request."""
    scripted.answer({"error": "No.", "code": "too_many_streams"}, 429)

    def read() -> None:
        with client.stream("/api/events") as frames:
            list(frames)

    assert _refusal_of(read).code is ErrorCode.TOO_MANY_STREAMS


def test_an_answer_that_is_no_stream_is_told_apart(scripted: ScriptedServer, client: Client) -> None:
    """A page with status 200 would otherwise look like a stream without events."""
    scripted.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>")

    def read() -> None:
        with client.stream("/api/events") as frames:
            list(frames)

    assert "not a DorkOS server" in _refusal_of(read).message
