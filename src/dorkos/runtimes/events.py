"""What a program says about its own work: events, each one line of JSON on its standard output.

A line is an event if it is a JSON object with the key `dorkos`, whose value names the kind. Everything else
is output, taken as it is. So any program may speak this protocol, and none has to.

What a row of the database takes of an event is cut to a length and made storable here: a program that says
too much, or what is no text, must not make a run unfit to be stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from dorkos.storable import clean_text

# A longer line is output, never an event: what is not yet a whole line is held in memory.
MAX_LINE_BYTES = 1024 * 1024
# A piece of the answer that is longer is told in several events, so that its line stays one.
PIECE_CHARACTERS = 50_000
WORDS_CHARACTERS = 16_000
NAME_CHARACTERS = 500
OPTIONS_MAX = 100
_SESSION_CHARACTERS = 1000
_KEY = "dorkos"
_MARK = f'"{_KEY}"'
_MARK_BYTES = _MARK.encode()


class ToolStatus(StrEnum):
    """How far a call of a tool came. `denied`: the rights of the run do not cover it."""

    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    DENIED = "denied"


class ResultStatus(StrEnum):
    """How the work ended, as the program itself says it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer. Pieces follow one another without anything between them."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool was called, or its call ended; `id` joins the two."""

    id: str
    name: str
    status: ToolStatus = ToolStatus.STARTED
    input: object = None


@dataclass(frozen=True, slots=True)
class Question:
    """Something that only a person can answer. The result that follows is `blocked`."""

    question: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used from the beginning until now; the last one counts. Cost in millionths of a US dollar.

    None means that the program does not know.
    """

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_microusd: int | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """A remark for whoever looks at the run, not part of the answer."""

    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Session:
    """The handle by which the conversation can be resumed."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended. Said once, last. `kind` is a word for programs, `error` and `hint` are for people."""

    status: ResultStatus
    text: str | None = None
    kind: str | None = None
    error: str | None = None
    hint: str | None = None


Event = Text | ToolCall | Question | Usage | Log | Session | Result


def encode(event: Event) -> str:
    """The event as one line, without its end. Characters beyond ASCII are escaped: no locale can hurt it."""
    return json.dumps(_said(event), default=str)


def fitting(event: Event) -> list[Event]:
    """The same, in events of which each makes one line that is read as an event."""
    match event:
        case Text(text) if len(text) > PIECE_CHARACTERS:
            return [Text(piece) for piece in _pieces(text)]
        case Result(text=str(text)) if len(text) > PIECE_CHARACTERS:
            return [*(Text(piece) for piece in _pieces(text)), replace(event, text=None)]
        case ToolCall(input=given) if len(written := json.dumps(given, default=str)) > PIECE_CHARACTERS:
            return [replace(event, input=written[:WORDS_CHARACTERS] + "…")]
        case Log(text) if len(text) > PIECE_CHARACTERS:
            return [replace(event, text=piece) for piece in _pieces(text)]
        case Question(question, options):
            words = tuple(option[:NAME_CHARACTERS] for option in options[:OPTIONS_MAX])
            return [Question(question[:WORDS_CHARACTERS], words)]
        case _:
            return [event]


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]


def _said(event: Event) -> dict[str, object]:
    match event:
        case Text(text):
            return {_KEY: "text", "text": text}
        case ToolCall(id_, name, status, given):
            return {_KEY: "tool", "id": id_, "name": name, "status": status.value, "input": given}
        case Question(question, options):
            return {_KEY: "question", "question": question, "options": list(options)}
        case Usage(model, input_tokens, output_tokens, cost):
            return {
                _KEY: "usage",
                "model": model,
                "inputTokens": input_tokens,
                "outputTokens": output_tokens,
                "costMicrousd": cost,
            }
        case Log(text, level):
            return {_KEY: "log", "level": level, "text": text}
        case Session(session_id):
            return {_KEY: "session", "sessionId": session_id}
        case Result(ended, text_, kind, error, hint):
            return {
                _KEY: "result",
                "status": ended.value,
                "text": text_,
                "kind": kind,
                "error": error,
                "hint": hint,
            }


def parse(line: str) -> Event | None:
    """The event that a line says, or None if the line is plain output.

    An event of an unknown kind, or one without what its kind needs, becomes a `Log` that shows it: nothing
    that a program said is lost.
    """
    if _MARK not in line or not line.lstrip().startswith("{"):
        return None
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get(_KEY), str):
        return None
    event = _event(said[_KEY], said)
    return event if event is not None else Log(line.strip(), "unknown")


def _event(kind: str, said: Mapping[str, object]) -> Event | None:
    try:
        match kind:
            case "text":
                return Text(_text(said, "text"))
            case "tool":
                status = ToolStatus(str(said.get("status", "started")))
                call = _cut(str(said.get("id", "")), NAME_CHARACTERS)
                return ToolCall(call, _cut(_text(said, "name"), NAME_CHARACTERS), status, said.get("input"))
            case "question":
                options = said.get("options")
                offered = options[:OPTIONS_MAX] if isinstance(options, list) else []
                words = tuple(_cut(str(option), NAME_CHARACTERS) for option in offered)
                return Question(_cut(_text(said, "question"), WORDS_CHARACTERS), words)
            case "usage":
                return Usage(
                    _optional_text(said, "model", NAME_CHARACTERS),
                    _count(said, "inputTokens"),
                    _count(said, "outputTokens"),
                    _count(said, "costMicrousd"),
                )
            case "log":
                return Log(_text(said, "text"), str(said.get("level", "info")))
            case "session":
                return Session(_handle(said, "sessionId"))
            case "result":
                return Result(
                    ResultStatus(_text(said, "status")),
                    None if said.get("text") is None else _text(said, "text"),
                    _optional_text(said, "kind", NAME_CHARACTERS),
                    _optional_text(said, "error", WORDS_CHARACTERS),
                    _optional_text(said, "hint", WORDS_CHARACTERS),
                )
            case _:
                return None
    except ValueError:
        return None


def _text(said: Mapping[str, object], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise ValueError(key)  # One kind of fault: the line does not say what it must.
    return value


def _optional_text(said: Mapping[str, object], key: str, length: int) -> str | None:
    return None if said.get(key) is None else _cut(_text(said, key), length)


def _handle(said: Mapping[str, object], key: str) -> str:
    """A text that is of use whole or not at all."""
    value = _text(said, key)
    if not value.strip() or len(value) > _SESSION_CHARACTERS or clean_text(value) != value:
        raise ValueError(key)
    return value


def _cut(text: str, length: int) -> str:
    return clean_text(text if len(text) <= length else text[:length] + "…")


def _count(said: Mapping[str, object], key: str) -> int | None:
    value = said.get(key)
    if value is None:
        return None
    # A Boolean is an int to Python; beyond 63 bits no column could hold it.
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(key)
    return value


@dataclass(slots=True)
class EventReader:
    """Cuts a stream of bytes into events and output, holding no more than one line of limited length."""

    max_line_bytes: int = MAX_LINE_BYTES
    _held: bytes = b""
    _long: bool = field(default=False)
    """Whether the beginning of the present line was already given out as output."""

    def take(self, data: bytes) -> list[Event | bytes]:
        """The events and pieces of output that are complete now, in order.

        Output that cannot become an event is given out at once, whole lines or not, so that a prompt
        without an end of line is seen while it waits.
        """
        found: list[Event | bytes] = []
        pending = self._held + data
        self._held = b""
        start = 0
        if _MARK_BYTES not in pending and (end := pending.rfind(b"\n")) >= 0:
            # No line of it is an event: a program that prints without end must not cost us a look at each.
            found.append(pending[: end + 1])
            start, self._long = end + 1, False
        while start < len(pending):
            end = pending.find(b"\n", start)
            if end < 0:
                self._keep(pending[start:], found)
                break
            line, start = pending[start : end + 1], end + 1
            found.append(line if self._long else _event_or_output(line, self.max_line_bytes))
            self._long = False
        return _joined(found)

    def close(self) -> list[Event | bytes]:
        """What was held when the stream ended."""
        line, self._held = self._held, b""
        if not line:
            return []
        return [line if self._long else _event_or_output(line, self.max_line_bytes)]

    def _keep(self, start: bytes, found: list[Event | bytes]) -> None:
        may_be_event = not self._long and start.lstrip()[:1] in (b"{", b"")
        if may_be_event and len(start) <= self.max_line_bytes:
            self._held = start
        else:
            self._long = True
            found.append(start)


def _event_or_output(line: bytes, limit: int) -> Event | bytes:
    if len(line) > limit or _MARK_BYTES not in line:
        return line
    event = parse(line.decode("utf-8", "replace"))
    return line if event is None else event


def _joined(found: list[Event | bytes]) -> list[Event | bytes]:
    """Neighbouring pieces of output as one, so that a program that prints many lines causes few writes."""
    joined: list[Event | bytes] = []
    for piece in found:
        if isinstance(piece, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
