"""What a schedule does with late, overlapping and failing runs, as options of `dorkos pulse`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from dorkos.cli.instants import milliseconds
from dorkos.errors import DorkError, ErrorCode

# Takes a limit away.
OFF = "off"

MaxRuntime = Annotated[
    str | None, typer.Option(metavar="TIME", help="End a run after this long, such as 10m.")
]
Overlap = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="What becomes of an instant while a run is not over: skip, queue, cancel_previous or allow.",
    ),
]
MaxActive = Annotated[
    str | None, typer.Option(metavar="N", help="Runs at once with --overlap allow; more wait.")
]
CatchUp = Annotated[
    str | None,
    typer.Option(metavar="POLICY", help="Which missed instants run late: skip, latest or all."),
]
CatchUpMax = Annotated[str | None, typer.Option(metavar="N", help="How many at most with --catch-up all.")]
Window = Annotated[
    str | None, typer.Option(metavar="TIME", help="Do not run an instant that is older, such as 2h.")
]
Jitter = Annotated[
    str | None, typer.Option(metavar="TIME", help="Start each run up to this much later, such as 5m.")
]
Retries = Annotated[
    int | None, typer.Option(min=0, max=19, metavar="N", help="Try a failed run again, up to N times.")
]
RetryDelay = Annotated[
    str | None, typer.Option(metavar="TIME", help="Pause before the first retry; each next is longer.")
]
Repeatable = Annotated[
    bool | None,
    typer.Option(
        "--repeatable/--not-repeatable", help="Doing it twice does no harm: retry also if the end is unknown."
    ),
]
IdleTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="End a run that prints nothing for this long.")
]
AlarmAfter = Annotated[
    str | None, typer.Option(metavar="TIME", help="Raise an alarm when an instant has no outcome by then.")
]
PauseAfter = Annotated[
    str | None, typer.Option(metavar="N", help="Pause it after this many failures in a row.")
]

_FIELDS = {
    "--overlap": "overlap",
    "--catch-up": "catchUp",
    "--max-active": "maxActive",
    "--catch-up-max": "catchUpMax",
    "--pause-after": "pauseAfterFailures",
    "--max-runtime": "maxRuntime",
    "--window": "catchUpWindowMs",
    "--jitter": "jitterMs",
    "--retry-delay": "retryDelayMs",
    "--idle-timeout": "idleTimeoutMs",
    "--alarm-after": "alarmAfterMs",
}


def policies(
    words: Mapping[str, str | None],
    numbers: Mapping[str, str | None],
    durations: Mapping[str, str | None],
    *,
    retries: int | None,
    repeatable: bool | None,
) -> dict[str, object]:
    """The fields of the options that were given."""
    body: dict[str, object] = {}
    for option, word in words.items():
        if word is not None:
            body[_FIELDS[option]] = word.replace("-", "_")
    for options, read in ((numbers, _number), (durations, milliseconds)):
        for option, text in options.items():
            if text is not None:
                body[_FIELDS[option]] = _limit(text, option, read)
    if retries is not None:
        body["maxAttempts"] = retries + 1
    if repeatable is not None:
        body["repeatable"] = repeatable
    return body


def _limit(text: str, option: str, read: Callable[[str, str], int]) -> int | None:
    if text != OFF:
        return read(text, option)
    return 0 if option == "--jitter" else None


def _number(text: str, option: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise DorkError(ErrorCode.USAGE, f"{option} {text!r} is not a number.", hint=f"Write 3, or {OFF}.")
