"""`dorkos pulse`: schedules and their runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dorkos.cli import pulse_schedules, pulse_text
from dorkos.cli.connection import address, connect
from dorkos.cli.names import names_by_id, schedule_id
from dorkos.cli.options import Command, Noun, Options, options_of
from dorkos.cli.output import follow_output, print_output
from dorkos.cli.render import (
    notice,
    print_json_line,
    say,
    show,
)

if TYPE_CHECKING:
    from dorkos.cli.client import Client

app = typer.Typer(help="When agents run: schedules and runs.", no_args_is_help=True, cls=Noun)
command = functools.partial(app.command, cls=Command)

_SCHEDULES = "/api/pulse/schedules"
_RUNS = "/api/pulse/runs"

ScheduleArgument = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="Id of the schedule, or its name if no other has it.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]


command("add")(pulse_schedules.add)
command("edit")(pulse_schedules.edit)
command("preview")(pulse_schedules.preview)


@command("list")
def list_schedules(
    context: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(metavar="STATE", help="Only those in this state, such as needs_attention."),
    ] = None,
) -> None:
    """Show the schedules and when each is due next.

    Example:

        dorkos pulse list
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(_SCHEDULES, status=state), pulse_text.schedules)


@command("run")
def run(
    context: typer.Context,
    schedule: ScheduleArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its output until it ends.")] = False,
) -> None:
    """Run a schedule now, whatever its clock says.

    With --follow the exit code is 1 unless the run completes.

    Example:

        dorkos pulse run morning --follow
    """
    options = options_of(context)
    with connect(options) as client:
        queued = client.post(address(_SCHEDULES, schedule_id(client, schedule), "trigger"))
        run_id = queued["runId"]
        if not follow:
            show(options, queued, lambda _: pulse_text.queued(run_id))
            return
        notice(f"Run {run_id}")
        follow_to_end(client, options, run_id)


@command("show")
def show_run(context: typer.Context, run: RunArgument) -> None:
    """Show everything about one run.

    Example:

        dorkos pulse show 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get(address(_RUNS, run))
        show(options, found, lambda row: pulse_text.run(row, names_by_id(client)))


@command("logs")
def logs(
    context: typer.Context,
    run: RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
) -> None:
    """Print what a run printed: its standard output to yours, its standard error to yours.

    Example:

        dorkos pulse logs 01JD8Q2M5W7ZC3K9VXN4T6BRAE --follow
    """
    options = options_of(context)
    with connect(options) as client:
        if follow:
            follow_output(client, options, run)
        else:
            print_output(client, options, run)


@command("cancel")
def cancel(context: typer.Context, run: RunArgument) -> None:
    """Cancel a run that waits or is at work.

    Example:

        dorkos pulse cancel 01JD8Q2M5W7ZC3K9VXN4T6BRAE
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.post(address(_RUNS, run, "cancel")), pulse_text.cancelled)


@command("pause")
def pause(context: typer.Context, schedule: ScheduleArgument) -> None:
    """Keep a schedule from firing until it is resumed; it can still be run by hand.

    Example:

        dorkos pulse pause morning
    """
    _change(context, schedule, {"status": "paused"}, lambda row: f"Paused {row['name']}.")


@command("questions")
def questions(context: typer.Context) -> None:
    """Show what blocked runs want to know, the longest waiting first; `resume` answers.

    Example:

        dorkos pulse questions
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get("/api/pulse/questions"), pulse_text.questions)


@command("resume")
def resume(
    context: typer.Context,
    schedule: Annotated[str, typer.Argument(metavar="SCHEDULE|RUN", help="A schedule, or the id of a run.")],
    prompt: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="For a run: the answer, or what to do next.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="For a run: show its output until it ends.")
    ] = False,
) -> None:
    """Let a paused schedule fire again, from now on; or, with a text, go on with the session of a run.

    The text answers the question of a run that is blocked. With --follow the exit code is 1 unless the run
    completes.

    Examples:

        dorkos pulse resume morning
        dorkos pulse resume 01JD8Q2M5W7ZC3K9VXN4T6BRAE 'The blue one.' --follow
    """
    if prompt is not None:
        options = options_of(context)
        with connect(options) as client:
            queued = client.post(address(_RUNS, schedule, "resume"), {"prompt": prompt})
            if not follow:
                show(options, queued, lambda _: pulse_text.queued(queued["runId"]))
                return
            notice(f"Run {queued['runId']}")
            follow_to_end(client, options, queued["runId"])
        return
    _change(
        context,
        schedule,
        {"status": "active", "enabled": True},
        lambda row: f"Resumed {row['name']}: next run {pulse_text.next_run(row) or 'when asked to'}.",
    )


@command("delete")
def delete(context: typer.Context, schedule: ScheduleArgument) -> None:
    """Delete a schedule; its runs that wait are cancelled, and one at work is asked to stop.

    Example:

        dorkos pulse delete morning
    """
    options = options_of(context)
    with connect(options) as client:
        chosen = schedule_id(client, schedule)
        show(options, client.delete(address(_SCHEDULES, chosen)), lambda _: say(f"Deleted {schedule}."))


def _change(
    context: typer.Context, schedule: str, change: Mapping[str, object], sentence: Callable[[Any], str]
) -> None:
    options = options_of(context)
    with connect(options) as client:
        changed = client.patch(address(_SCHEDULES, schedule_id(client, schedule)), change)
        show(options, changed, lambda row: say(sentence(row)))


def follow_to_end(client: Client, options: Options, run_id: str) -> None:
    """Show what a run prints until it ends; exit code 1 unless it completes."""
    try:
        follow_output(client, options, run_id)
    except KeyboardInterrupt:
        notice(f"The run goes on. End it with: dorkos pulse cancel {run_id}")
        raise
    ended = client.get(address(_RUNS, run_id))
    if options.json:
        print_json_line(ended)
    else:
        notice(pulse_text.ending(ended))
    if ended["state"] != "completed":
        raise typer.Exit(1)
