"""How a turn ended: one of a closed set, concluded from its exit and from what it said itself. Pure.

A success without a word is none. What a program says about its own end and its exit code must agree; where
they do not, the worse one counts.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dorkos.runtimes.events import Question, Result, ResultStatus, Session, Text, Usage
from dorkos.runtimes.protocol import Exit, Printed, Said
from dorkos.vocabulary import OutputStream


class FailureKind(StrEnum):
    """What showed that it failed: its exit, a signal, what the agent said, or that it said nothing."""

    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    AGENT_ERROR = "agent_error"
    EMPTY_RESULT = "empty_result"


@dataclass(frozen=True, slots=True)
class Completed:
    """It did what it was asked to."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It did not. `message` is for people."""

    kind: FailureKind
    message: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody ended it, or it gave up when it was asked to."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Its time was up, or it was silent for too long. `message` says which."""

    message: str
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """It cannot go on until a person has answered."""

    question: Question


@dataclass(frozen=True, slots=True)
class Unavailable:
    """What the runtime needs is not there. `hint` says how to get it."""

    message: str
    hint: str | None = None


Ending = Completed | Failed | Cancelled | TimedOut | Blocked | Unavailable


@dataclass(slots=True)
class Report:
    """What a turn has said about itself so far."""

    session_id: str | None = None
    usage: Usage | None = None
    question: Question | None = None
    result: Result | None = None
    spoke: bool = False
    """Whether there was any answer: text, or something printed on standard output."""

    def take(self, said: Said) -> None:
        """Take in what was said. The last session, usage, question and result count."""
        match said:
            case Text(text):
                self.spoke = self.spoke or bool(text.strip())
            case Printed(stream, data):
                self.spoke = self.spoke or (stream is OutputStream.STDOUT and bool(data.strip()))
            case Session(session_id):
                self.session_id = session_id
            case Usage():
                self.usage = said
            case Question():
                self.question = said
            case Result():
                self.result = said
            case _:
                pass

    @property
    def answer(self) -> str | None:
        """The text of the result, where nothing else said it before."""
        text = self.result.text if self.result is not None else None
        return text if text and not self.spoke else None


def conclude(
    ended: Exit, report: Report, *, reports: bool, codes: Mapping[int, ResultStatus] | None = None
) -> Ending:
    """How work that ended by itself has ended.

    `reports` says that it has to tell its result. `codes` gives exit codes of programs that tell none a
    meaning other than failure.
    """
    result = report.result
    if result is not None and result.status is not ResultStatus.COMPLETED:
        return _told(result, report)
    if ended.signal is not None:
        return Failed(FailureKind.SIGNAL, f"The program was ended by {_signal_name(ended.signal)}.")
    if not ended.ok:
        return _by_code(ended.code or 0, report, codes or {})
    if result is None and reports:
        return Failed(FailureKind.AGENT_ERROR, "The agent ended without saying how its turn went.")
    if result is not None and not report.spoke and not (result.text or "").strip():
        return Failed(FailureKind.EMPTY_RESULT, "The agent said that it is done, and nothing else.")
    return Completed()


def _told(result: Result, report: Report) -> Ending:
    said = result.error or result.text
    match result.status:
        case ResultStatus.CANCELLED:
            return Cancelled()
        case ResultStatus.UNAVAILABLE:
            return Unavailable(said or "What the runtime needs is not there.", result.hint)
        case ResultStatus.BLOCKED:
            return Blocked(
                report.question or Question(said or "The agent did not say what it wants to know.")
            )
        case _:
            kind = f" ({result.kind})" if result.kind else ""
            return Failed(FailureKind.AGENT_ERROR, f"{said or 'The agent failed.'}{kind}")


def _by_code(code: int, report: Report, codes: Mapping[int, ResultStatus]) -> Ending:
    meaning = codes.get(code) if report.result is None else None
    if meaning is None or meaning is ResultStatus.FAILED:
        return Failed(FailureKind.EXIT_CODE, f"The program exited with code {code}.")
    if meaning is ResultStatus.COMPLETED:
        return Completed()
    told = Result(meaning, error=f"The program exited with code {code}, which means {meaning.value}.")
    return _told(told, report)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Real-time signals have no names.
        return f"signal {number}"
