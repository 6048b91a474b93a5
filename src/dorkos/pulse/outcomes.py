"""From how a turn ended to what is stored of its run. Pure."""

from __future__ import annotations

from dorkos.pulse.model import Account, Outcome
from dorkos.runtimes.events import Usage
from dorkos.runtimes.results import (
    Blocked,
    Cancelled,
    Completed,
    Ending,
    Failed,
    FailureKind,
    Report,
    TimedOut,
    Unavailable,
)
from dorkos.vocabulary import RunReason, RunState

CANCELLED = "Run cancelled"

_FAILURES = {
    FailureKind.EXIT_CODE: RunReason.EXIT_CODE,
    FailureKind.SIGNAL: RunReason.SIGNAL,
    FailureKind.AGENT_ERROR: RunReason.AGENT_ERROR,
    FailureKind.EMPTY_RESULT: RunReason.EMPTY_RESULT,
}


def outcome_of(ending: Ending) -> Outcome:
    """The state and the reason of a run that ended so."""
    match ending:
        case Completed():
            return Outcome(RunState.COMPLETED)
        case Failed(kind, message):
            return Outcome(RunState.FAILED, _FAILURES[kind], message)
        case Cancelled():
            return Outcome(RunState.CANCELLED, RunReason.CANCEL_REQUESTED, CANCELLED)
        case TimedOut(message, idle):
            return Outcome(RunState.TIMEOUT, RunReason.IDLE if idle else RunReason.DEADLINE, message)
        case Blocked(question):
            return Outcome(RunState.BLOCKED, RunReason.QUESTION, question.question)
        case Unavailable(message, hint):
            return Outcome(RunState.FAILED, RunReason.UNAVAILABLE, f"{message} {hint}" if hint else message)


def account_of(report: Report, ending: Ending | None, *, runtime: str) -> Account:
    """What took the turn and what it said about itself. A question counts only if it ended the run."""
    usage = report.usage or Usage()
    tokens = {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens}
    asked = ending.question if isinstance(ending, Blocked) else None
    return Account(
        runtime=runtime,
        session_id=report.session_id,
        model=usage.model,
        usage={name: number for name, number in tokens.items() if number is not None},
        cost_microusd=usage.cost_microusd,
        question=None if asked is None else {"question": asked.question, "options": list(asked.options)},
    )
