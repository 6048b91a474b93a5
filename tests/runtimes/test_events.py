"""Facts about the lines in which a program says what it does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorkos.runtimes.events import (
    MAX_LINE_BYTES,
    Event,
    EventReader,
    Log,
    Question,
    Result,
    ResultStatus,
    Session,
    Text,
    ToolCall,
    ToolStatus,
    Usage,
    encode,
    fitting,
    parse,
)

EVENTS: list[Event] = [
    Text("päper\n\x00☃"),
    ToolCall("1", "relay_send", ToolStatus.DENIED, {"to": "x"}),
    Question("Which one?", ("a", "b")),
    Usage("m", 1, 2, 3),
    Usage(),
    Log("hm", "warn"),
    Session("s-1"),
    Result(ResultStatus.FAILED, None, "overloaded", "It is busy.", "Try later."),
    Result(ResultStatus.COMPLETED, "done"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_its_line(event: Event) -> None:
    """What is encoded is parsed as the same event, and takes one line of ASCII."""
    line = encode(event)
    assert parse(line) == event
    assert "\n" not in line
    assert line.isascii()


@pytest.mark.parametrize(
    "line",
    ["", "hello", "{", '{"a": 1}', '["dorkos"]', '{"dorkos": 1}', 'said {"dorkos": "text"}', "[" * 100_000],
)
def test_other_lines_are_output(line: str) -> None:
    """Only an object whose key `dorkos` names a kind is an event; nothing makes the parser fail."""
    assert parse(line) is None


@pytest.mark.parametrize(
    "said",
    [
        {"dorkos": "dance"},
        {"dorkos": "text"},
        {"dorkos": "result", "status": "splendid"},
        {"dorkos": "usage", "inputTokens": -1},
        {"dorkos": "usage", "inputTokens": True},
        {"dorkos": "usage", "costMicrousd": 2**63},
        {"dorkos": "tool", "name": "x", "status": "?"},
        {"dorkos": "session", "sessionId": ""},
        {"dorkos": "session", "sessionId": "s\0"},
        {"dorkos": "session", "sessionId": "s" * 1001},
    ],
)
def test_an_event_that_makes_no_sense_is_shown_not_lost(said: dict[str, object]) -> None:
    """It becomes a remark that holds the whole line, and decides nothing."""
    line = json.dumps(said)
    assert parse(line) == Log(line, "unknown")


def test_what_is_stored_of_an_event_is_cut_and_made_storable() -> None:
    """Questions, options, models and errors: no text of a program makes its run unfit to be stored."""
    odd = "a\0\ud800" + "x" * 30_000
    asked = parse(json.dumps({"dorkos": "question", "question": odd, "options": [odd] * 1000}))
    assert isinstance(asked, Question)
    assert asked.question.startswith("a\ufffd\ufffdx")
    assert (len(asked.question), len(asked.options), len(asked.options[0])) == (16_001, 100, 501)
    used = parse(json.dumps({"dorkos": "usage", "model": odd}))
    assert isinstance(used, Usage)
    assert len(used.model or "") == 501
    words = {"kind": odd, "error": odd, "hint": odd}
    ended = parse(json.dumps({"dorkos": "result", "status": "failed", **words}))
    assert isinstance(ended, Result)
    assert [len(each or "") for each in (ended.kind, ended.error, ended.hint)] == [501, 16_001, 16_001]


def test_what_is_too_long_for_a_line_is_told_in_several() -> None:
    """However long the answer, what a tool was given, or the last word: each line is read as an event."""
    long = "\U0001f600" * 200_000
    for event in (
        Text(long),
        Log(long),
        ToolCall("1", "Write", ToolStatus.STARTED, {"content": long}),
        Question(long, (long,) * 200),
        Result(ResultStatus.COMPLETED, long),
    ):
        lines = [encode(each) for each in fitting(event)]
        assert max(map(len, lines)) < MAX_LINE_BYTES
        told = [parse(line) for line in lines]
        assert None not in told
        if isinstance(event, Text | Result):
            assert "".join(each.text for each in told if isinstance(each, Text)) == long
        assert type(told[-1]) is type(event)


@given(st.lists(st.one_of(st.sampled_from(EVENTS), st.text(max_size=30)), max_size=20), st.data())
def test_pieces_do_not_matter(said: list[Event | str], data: st.DataObject) -> None:
    """However the bytes are cut, the same events come out, and the same output around them."""
    stream = b"".join(
        (s.replace("{", "(").replace("\n", " ") if isinstance(s, str) else encode(s)).encode() + b"\n"
        for s in said
    )
    reader = EventReader()
    found: list[Event | bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.take(stream[:size])
        stream = stream[size:]
    found += reader.close()
    assert [f for f in found if not isinstance(f, bytes)] == [s for s in said if not isinstance(s, str)]
    output = b"".join(f for f in found if isinstance(f, bytes)).decode()
    assert output == "".join(
        s.replace("{", "(").replace("\n", " ") + "\n" for s in said if isinstance(s, str)
    )


def test_a_prompt_without_an_end_of_line_is_seen_at_once() -> None:
    """Output that cannot become an event does not wait for the end of its line."""
    reader = EventReader()
    assert reader.take(b"Password: ") == [b"Password: "]
    assert reader.take(b'{"dorkos": "session", "sessionId": "s"}\n') == [
        b'{"dorkos": "session", "sessionId": "s"}\n'
    ]


def test_memory_is_bounded_by_one_line() -> None:
    """A line that never ends is given out as output once it is longer than an event may be."""
    reader = EventReader(max_line_bytes=10)
    assert reader.take(b'{"dorkos": ') == [b'{"dorkos": ']
    assert reader.take(b'"text"}\n') == [b'"text"}\n']
    assert reader.take(b'{"dorkos": "text", "text": "x"}\n') == [b'{"dorkos": "text", "text": "x"}\n']


def test_what_was_held_at_the_end_counts() -> None:
    """A last line without its end is an event as well."""
    reader = EventReader()
    assert reader.take(encode(Session("s")).encode()) == []
    assert reader.close() == [Session("s")]
    assert reader.close() == []
