"""`dorkos pulse add`, `edit` and `preview`: when a schedule runs, and what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from dorkos.cli import pulse_text
from dorkos.cli.connection import address, connect
from dorkos.cli.instants import instant, milliseconds
from dorkos.cli.names import agent_id, schedule_id
from dorkos.cli.options import options_of
from dorkos.cli.pulse_policies import (
    OFF,
    AlarmAfter,
    CatchUp,
    CatchUpMax,
    IdleTimeout,
    Jitter,
    MaxActive,
    MaxRuntime,
    Overlap,
    PauseAfter,
    Repeatable,
    Retries,
    RetryDelay,
    Window,
    policies,
)
from dorkos.cli.render import show
from dorkos.cli.typed import absolute, text_or_stdin
from dorkos.errors import DorkError, ErrorCode

_SCHEDULES = "/api/pulse/schedules"

Program = Annotated[
    list[str] | None,
    typer.Argument(metavar="-- COMMAND ARGS", help="The program to run, if it is not an agent."),
]
Cron = Annotated[
    str | None,
    typer.Option(metavar="EXPR", help="Run when this cron expression is due, such as '0 9 * * 1-5'."),
]
Every = Annotated[str | None, typer.Option(metavar="TIME", help="Run again and again, such as every 15m.")]
At = Annotated[
    str | None, typer.Option(metavar="TIME", help="Run once, at this time, such as 2026-03-01T09:00.")
]
Manual = Annotated[bool, typer.Option("--manual", help="Run only when asked to.")]
Timezone = Annotated[
    str | None, typer.Option(metavar="ZONE", help="Zone of --cron or --at, such as Europe/Berlin.")
]
Prompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What to ask; `-` reads it from standard input.")
]
Agent = Annotated[str | None, typer.Option(metavar="AGENT", help="Agent to run, by id or name.")]
Subject = Annotated[
    str | None, typer.Option(metavar="SUBJECT", help="Ask this Relay subject; its reply is the outcome.")
]
Runtime = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="What takes the turn, such as claude; see `dorkos runtime list`."),
]
Rights = Annotated[
    str | None,
    typer.Option(
        "--permission-mode",
        metavar="MODE",
        help="default, plan, acceptEdits or bypassPermissions; else acceptEdits.",
    ),
]
Directory = Annotated[str | None, typer.Option(metavar="DIR", help="Working directory of the program.")]


def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the schedule.")],
    program: Program = None,
    *,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    manual: Manual = False,
    timezone: Timezone = None,
    prompt: Prompt = None,
    agent: Agent = None,
    subject: Subject = None,
    runtime: Runtime = None,
    rights: Rights = None,
    cwd: Directory = None,
    max_runtime: MaxRuntime = None,
    overlap: Overlap = None,
    max_active: MaxActive = None,
    catch_up: CatchUp = None,
    catch_up_max: CatchUpMax = None,
    window: Window = None,
    jitter: Jitter = None,
    retries: Retries = None,
    retry_delay: RetryDelay = None,
    repeatable: Repeatable = None,
    idle_timeout: IdleTimeout = None,
    alarm_after: AlarmAfter = None,
    pause_after: PauseAfter = None,
) -> None:
    """Add a schedule: when to run, and what.

    When is one of --cron, --every, --at and --manual; what is an agent, a program, a subject to ask, or a
    runtime by itself.

    Examples:

        dorkos pulse add morning --cron '0 9 * * *' --agent scout --prompt 'News?'
        dorkos pulse add backup --at 2026-03-01T02:00 -- ./backup.sh --full
        dorkos pulse add standup --cron '30 9 * * 1-5' --subject relay.human.ada --prompt 'What is next?'
        dorkos pulse add inbox --every 15m --overlap queue --catch-up all --window 2h -- ./inbox.sh
    """
    options = options_of(context)
    _exactly_one({"--cron": cron, "--every": every, "--at": at, "--manual": manual}, "Say when it runs")
    if runtime is None or agent is not None or subject is not None or program:
        _exactly_one({"--agent": agent, "--subject": subject, "-- COMMAND": program}, "Say what it runs")
    if not program and prompt is None:
        raise DorkError(
            ErrorCode.USAGE,
            "Whoever is asked has to be asked something: with --prompt.",
            hint="Such as --prompt 'News?'",
        )
    # A program gets the prompt on its standard input; one that needs none is told what it runs for.
    body: dict[str, object] = {"name": name, "prompt": name if prompt is None else text_or_stdin(prompt)}
    body |= {name: value for name, value in _driven(runtime, rights).items() if value is not None}
    if timezone is not None:
        body["timezone"] = timezone
    body |= _trigger(cron, every, at, timezone, manual=manual)
    if program:
        body["command"] = program
    if program or (agent is None and subject is None):
        body["cwd"] = absolute(cwd or ".")
    elif cwd is not None:
        body["cwd"] = absolute(cwd)
    if subject is not None:
        body["targetSubject"] = subject
    body |= policies(
        {"--overlap": overlap, "--catch-up": catch_up},
        {"--max-active": max_active, "--catch-up-max": catch_up_max, "--pause-after": pause_after},
        {
            "--max-runtime": max_runtime,
            "--window": window,
            "--jitter": jitter,
            "--retry-delay": retry_delay,
            "--idle-timeout": idle_timeout,
            "--alarm-after": alarm_after,
        },
        retries=retries,
        repeatable=repeatable,
    )
    with connect(options) as client:
        if agent is not None:
            body["agentId"] = agent_id(client, agent)
        show(options, client.post(_SCHEDULES, body), pulse_text.added)


def edit(
    context: typer.Context,
    schedule: Annotated[
        str, typer.Argument(metavar="SCHEDULE", help="Id of the schedule, or its name if no other has it.")
    ],
    program: Program = None,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What to call it from now on.")] = None,
    cron: Cron = None,
    every: Every = None,
    at: At = None,
    manual: Manual = False,
    timezone: Timezone = None,
    prompt: Prompt = None,
    agent: Agent = None,
    subject: Subject = None,
    runtime: Runtime = None,
    rights: Rights = None,
    cwd: Directory = None,
    max_runtime: MaxRuntime = None,
    overlap: Overlap = None,
    max_active: MaxActive = None,
    catch_up: CatchUp = None,
    catch_up_max: CatchUpMax = None,
    window: Window = None,
    jitter: Jitter = None,
    retries: Retries = None,
    retry_delay: RetryDelay = None,
    repeatable: Repeatable = None,
    idle_timeout: IdleTimeout = None,
    alarm_after: AlarmAfter = None,
    pause_after: PauseAfter = None,
) -> None:
    """Change a schedule. What is not named stays; `off` takes a limit away, and a zone.

    A new time counts from now: what was due before is not run again. A run that is at work is not touched.

    Examples:

        dorkos pulse edit morning --cron '30 8 * * 1-5' --timezone Europe/Berlin
        dorkos pulse edit inbox --window off --retries 3
    """
    options = options_of(context)
    _at_most_one({"--cron": cron, "--every": every, "--at": at, "--manual": manual}, "It runs at one time")
    _at_most_one({"--agent": agent, "--subject": subject, "-- COMMAND": program}, "It runs one thing")
    body: dict[str, object] = {}
    if name is not None:
        body["name"] = name
    if prompt is not None:
        body["prompt"] = text_or_stdin(prompt)
    driven = _driven(runtime, rights).items()
    body |= {name: None if value == OFF else value for name, value in driven if value is not None}
    if timezone is not None:
        body["timezone"] = None if timezone == OFF else timezone
    body |= _trigger(cron, every, at, None if timezone == OFF else timezone, manual=manual)
    if program:
        body["command"] = program
    if subject is not None:
        body["targetSubject"] = subject
    if cwd is not None:
        body["cwd"] = None if cwd == OFF else absolute(cwd)
    body |= policies(
        {"--overlap": overlap, "--catch-up": catch_up},
        {"--max-active": max_active, "--catch-up-max": catch_up_max, "--pause-after": pause_after},
        {
            "--max-runtime": max_runtime,
            "--window": window,
            "--jitter": jitter,
            "--retry-delay": retry_delay,
            "--idle-timeout": idle_timeout,
            "--alarm-after": alarm_after,
        },
        retries=retries,
        repeatable=repeatable,
    )
    if not body and agent is None:
        raise DorkError(
            ErrorCode.USAGE, "Say what to change.", hint="`dorkos pulse edit --help` shows what there is."
        )
    with connect(options) as client:
        if agent is not None:
            body["agentId"] = agent_id(client, agent)
        changed = client.patch(address(_SCHEDULES, schedule_id(client, schedule)), body)
        show(options, changed, pulse_text.changed)


def preview(
    context: typer.Context,
    cron: Annotated[
        str, typer.Argument(metavar="CRON", help="A cron expression, or an interval such as '@every 15m'.")
    ],
    *,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone that it is meant in, such as Europe/Berlin.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many instants.")] = 5,
    after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Look from this time on instead of from now.")
    ] = None,
) -> None:
    """Show when a cron expression is due, without adding a schedule.

    Example:

        dorkos pulse preview '30 2 * * *' --zone America/New_York --after 2026-03-07T12:00
    """
    options = options_of(context)
    since = None if after is None else instant(after, zone)
    with connect(options) as client:
        found = client.get("/api/pulse/preview", cron=cron, timezone=zone, after=since, count=count)
        show(options, found, pulse_text.previewed)


def _trigger(
    cron: str | None, every: str | None, at: str | None, timezone: str | None, *, manual: bool
) -> dict[str, object]:
    if cron is not None:
        return {"cron": cron}
    if every is not None:
        return {"everyMs": milliseconds(every, "--every")}
    if at is not None:
        return {"runAt": instant(at, timezone)}
    return {"cron": "@manual"} if manual else {}


def _exactly_one(choices: Mapping[str, object], wish: str) -> None:
    if sum(bool(value) for value in choices.values()) == 1:
        return
    *others, last = choices
    raise DorkError(
        ErrorCode.USAGE,
        f"{wish}: with exactly one of {', '.join(others)} and {last}.",
        hint="`dorkos pulse add --help` has an example of each.",
    )


def _at_most_one(choices: Mapping[str, object], wish: str) -> None:
    if any(choices.values()):
        _exactly_one(choices, wish)


def _driven(runtime: str | None, rights: str | None) -> dict[str, str | None]:
    return {"runtime": runtime, "permissionMode": rights}
