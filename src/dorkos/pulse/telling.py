"""What is told: to an agent about its run, to a person about what an agent does besides answering. Pure."""

from __future__ import annotations

import json

from dorkos.pulse.model import Claim
from dorkos.runtimes.events import Event, Log, Question, ToolCall

# A tool may be given a whole file.
_INPUT_CHARACTERS = 2000
_MINUTE_MS = 60_000
_ALONE = (
    "Nobody is watching and nobody can answer while you work. If you cannot go on without an answer, ask one"
    " clear question and stop: a person will see it, and you will be resumed with the answer."
)


def remark_of(event: Event) -> str | None:
    """The line that shows an event in the output; None for one that shows otherwise."""
    match event:
        case ToolCall(_, name, status, given):
            shown = "" if given is None else " " + json.dumps(given, ensure_ascii=False, default=str)
            cut = shown if len(shown) <= _INPUT_CHARACTERS else shown[:_INPUT_CHARACTERS] + "…"
            return f"tool {name} {status.value}{cut}"
        case Log(text, level):
            return f"{level}: {text}"
        case Question(question, options):
            return f"question: {question}" + (f" ({' | '.join(options)})" if options else "")
        case _:
            return None


def system_context(claim: Claim, max_runtime_ms: int) -> str:
    """What an agent is told apart from the prompt: who it is, why it runs, and that nobody is there."""
    run = claim.run
    lines = [
        f"You are {claim.token.subject}. This is run {run.id} of DorkOS, started by: {run.trigger.value}.",
        _ALONE,
        f"The run is ended after {max(1, max_runtime_ms // _MINUTE_MS)} minutes.",
    ]
    if (sender := run.context.get("DORKOS_MESSAGE_FROM")) is not None:
        reply_to = run.context.get("DORKOS_REPLY_TO", sender)
        lines.append(f"The prompt is a message from {sender}. To answer it, send a message to {reply_to}.")
    if claim.persona:
        lines.append(claim.persona)
    return "\n".join(lines)
