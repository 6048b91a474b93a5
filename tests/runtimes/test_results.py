"""Facts about what is concluded from an exit and from what was said."""

from __future__ import annotations

import pytest

from dorkos.runtimes.events import Question, Result, ResultStatus, Session, Text, Usage
from dorkos.runtimes.protocol import Exit, Printed, Said
from dorkos.runtimes.results import (
    Blocked,
    Cancelled,
    Completed,
    Ending,
    Failed,
    FailureKind,
    Report,
    Unavailable,
    conclude,
)
from dorkos.vocabulary import OutputStream

OK, BAD = Exit(0, None), Exit(1, None)
DONE = Result(ResultStatus.COMPLETED)


def report_of(*said: Said) -> Report:
    report = Report()
    for each in said:
        report.take(each)
    return report


def ending(ended: Exit, *said: Said, reports: bool = True, **codes: ResultStatus) -> Ending:
    return conclude(
        ended, report_of(*said), reports=reports, codes={int(code[1:]): word for code, word in codes.items()}
    )


def test_a_program_that_tells_nothing_is_judged_by_its_exit() -> None:
    """Exit 0 without a word is fine for a program of which no result is expected."""
    assert ending(OK, reports=False) == Completed()
    assert ending(Exit(3, None), reports=False) == Failed(
        FailureKind.EXIT_CODE, "The program exited with code 3."
    )
    assert ending(Exit(None, 9), reports=False) == Failed(
        FailureKind.SIGNAL, "The program was ended by SIGKILL."
    )


def test_an_agent_has_to_say_how_it_went() -> None:
    """Exit 0 without a result is a failure of what should have told one."""
    assert isinstance(ending(OK, Text("hello")), Failed)


@pytest.mark.parametrize(
    "said", [Text("yes"), Printed(OutputStream.STDOUT, b"yes"), Result(DONE.status, "yes")]
)
def test_a_success_has_an_answer(said: Said) -> None:
    """Text, printed output or the text of the result make a success."""
    assert ending(OK, said, *(() if isinstance(said, Result) else (DONE,))) == Completed()


@pytest.mark.parametrize(
    "said", [(), (Text(" \n"),), (Printed(OutputStream.STDERR, b"noise"),), (Session("s"),)], ids=str
)
def test_an_empty_success_is_a_failure(said: tuple[Said, ...]) -> None:
    """Nothing, blanks, or noise on standard error are no answer."""
    found = ending(OK, *said, DONE)
    assert isinstance(found, Failed)
    assert found.kind is FailureKind.EMPTY_RESULT


def test_the_worse_of_exit_and_result_counts() -> None:
    """A success with a bad exit code failed; a failure with a good one failed as well."""
    found = ending(BAD, Text("yes"), DONE)
    assert isinstance(found, Failed)
    assert found.kind is FailureKind.EXIT_CODE
    told = Result(ResultStatus.FAILED, kind="overloaded", error="Try later.")
    assert ending(OK, told) == Failed(FailureKind.AGENT_ERROR, "Try later. (overloaded)")


def test_what_was_told_is_kept() -> None:
    """Blocked carries the question, unavailable the hint, cancelled nothing."""
    question = Question("Which?", ("a", "b"))
    assert ending(BAD, question, Result(ResultStatus.BLOCKED)) == Blocked(question)
    assert ending(BAD, Result(ResultStatus.BLOCKED, error="Who?")) == Blocked(Question("Who?"))
    assert ending(BAD, Result(ResultStatus.UNAVAILABLE, error="No SDK.", hint="Install it.")) == Unavailable(
        "No SDK.", "Install it."
    )
    assert ending(BAD, Result(ResultStatus.CANCELLED)) == Cancelled()


def test_exit_codes_can_be_given_a_meaning() -> None:
    """The map speaks for programs that tell no result, and only for the codes in it."""
    assert ending(Exit(3, None), reports=False, _3=ResultStatus.COMPLETED) == Completed()
    assert isinstance(ending(Exit(69, None), reports=False, _69=ResultStatus.UNAVAILABLE), Unavailable)
    assert isinstance(ending(Exit(4, None), reports=False, _3=ResultStatus.COMPLETED), Failed)


def test_the_last_word_counts() -> None:
    """Of several sessions and usages the last one is kept; an answer is told once."""
    report = report_of(Session("a"), Session("b"), Usage("m", 1, 1, 1), Usage("m", 2, 2, 2))
    assert (report.session_id, report.usage) == ("b", Usage("m", 2, 2, 2))
    assert report_of(Result(DONE.status, "said")).answer == "said"
    assert report_of(Text("said"), Result(DONE.status, "said")).answer is None
