"""The language of the `scripted` runtime: one step a line, each with a fixed effect. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

FIRST_LINE = "#!scripted"

# Word -> how many words it needs at least, and what it does, for the documentation.
STEPS: Mapping[str, tuple[int, str]] = {
    "say": (0, "Say the rest of the line as a piece of the answer."),
    "log": (1, "Leave a remark."),
    "tool": (1, "Say that the tool of this name was called."),
    "usage": (2, "Say the tokens read and written, and maybe the cost in micro-dollars and the model."),
    "session": (0, "Say the session: this word, else the one that is resumed, else one named after the run."),
    "append": (1, "Append the rest as a line to this file of the working directory."),
    "wait": (1, "Go on once the test lets this name pass."),
    "hang": (0, "Never go on."),
    "deaf": (0, "From here on take no notice of being asked to end: only killing helps."),
    "ask": (1, "Ask a question, its answers behind bars, and end as blocked."),
    "fail": (0, "End as failed: a word for programs, then words for people."),
    "unavailable": (0, "End as unavailable."),
    "exit": (1, "End with this exit code, without a result."),
    "done": (0, "End as completed; so does the end of the script."),
}


class ScriptError(ValueError):
    """A line is no step. The message names it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line: its word, the rest as it stands, and the rest as words."""

    word: str
    rest: str
    words: tuple[str, ...]


def is_script(prompt: str) -> bool:
    """Whether a prompt is a script, and not words to be said back."""
    return prompt.split("\n", 1)[0].strip() == FIRST_LINE


def read_script(prompt: str) -> list[Step]:
    """The steps of a script. Raises `ScriptError`. Empty lines and those after `#` do nothing."""
    return [_step(line) for line in prompt.split("\n") if line.strip() and not line.lstrip().startswith("#")]


def _step(line: str) -> Step:
    word, _, rest = line.strip().partition(" ")
    if word not in STEPS:
        raise ScriptError(f"{word!r} is no step of a script; there are: {', '.join(STEPS)}.")
    try:
        words = (
            tuple(shlex.split(rest)) if word not in ("say", "log", "ask", "append") else tuple(rest.split())
        )
    except ValueError as fault:
        raise ScriptError(f"{line.strip()!r}: {fault}.") from fault
    if len(words) < STEPS[word][0]:
        raise ScriptError(f"{line.strip()!r} needs more words: {STEPS[word][1]}")
    return Step(word, rest, words)
