"""`dorkos pulse runs | test | stats | missed | simulate`: what ran, what did not, and what is to come."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dorkos.cli import pulse_text
from dorkos.cli.connection import address, connect
from dorkos.cli.instants import duration, instant, local_time, milliseconds, zone_label
from dorkos.cli.names import names_by_id, schedule_id
from dorkos.cli.options import Command, options_of
from dorkos.cli.pulse import ScheduleArgument, follow_to_end
from dorkos.cli.render import Column, notice, preview, print_facts, print_table, say, show

_SCHEDULES = "/api/pulse/schedules"

SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="From this time on, such as 2026-03-01T09:00.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Before this time; now unless said.")]


def join(app: typer.Typer) -> None:
    """Add these commands to `dorkos pulse`."""
    app.command("runs", cls=Command)(runs)
    app.command("test", cls=Command)(try_out)
    app.command("stats", cls=Command)(stats)
    app.command("missed", cls=Command)(missed)
    app.command("simulate", cls=Command)(simulate)


def runs(
    context: typer.Context,
    *,
    schedule: Annotated[
        str | None, typer.Option(metavar="SCHEDULE", help="Only runs of this schedule, by id or name.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Only runs in this state, such as failed.")
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where the page before ended.")
    ] = None,
) -> None:
    """Show runs, newest first, by the time at which they were made.

    When there may be older ones, standard error names the cursor of the next page, also with --json.

    Examples:

        dorkos pulse runs --schedule morning --state failed

        dorkos pulse runs --since 2026-03-01T00:00 --until 2026-03-02T00:00
    """
    options = options_of(context)
    with connect(options) as client:
        chosen = None if schedule is None else schedule_id(client, schedule)
        found, following = client.page(
            "/api/pulse/runs",
            scheduleId=chosen,
            status=state,
            since=_time(since),
            until=_time(until),
            limit=limit,
            cursor=cursor,
        )
        show(options, found, lambda rows: pulse_text.runs(rows, names_by_id(client) if rows else {}))
        if following is not None:
            notice(f"There may be older ones: --cursor {following}")


def try_out(
    context: typer.Context,
    schedule: ScheduleArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its output until it ends.")] = False,
) -> None:
    """Run a schedule once to try it out, also while it waits for approval.

    With --follow the exit code is 1 unless the run completes.

    Example:

        dorkos pulse test morning --follow
    """
    options = options_of(context)
    with connect(options) as client:
        queued = client.post(address(_SCHEDULES, schedule_id(client, schedule), "test"))
        run_id = queued["runId"]
        if not follow:
            show(options, queued, lambda _: pulse_text.queued(run_id))
            return
        notice(f"Run {run_id}")
        follow_to_end(client, options, run_id)


def stats(
    context: typer.Context, schedule: ScheduleArgument, since: SinceOption = None, until: UntilOption = None
) -> None:
    """Show how often a schedule succeeds, how long it takes and what it costs; of 30 days unless said.

    Example:

        dorkos pulse stats morning --since 2026-03-01T00:00
    """
    options = options_of(context)
    with connect(options) as client:
        where = address(_SCHEDULES, schedule_id(client, schedule), "stats")
        show(options, client.get(where, since=_time(since), until=_time(until)), _figures)


def missed(
    context: typer.Context,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 100,
) -> None:
    """Show what should have run and did not, and why; of a day unless said.

    Example:

        dorkos pulse missed --since 2026-03-01T00:00
    """
    options = options_of(context)
    with connect(options) as client:
        found = client.get("/api/pulse/missed", since=_time(since), until=_time(until), limit=limit)
        show(options, found, _missed)


def simulate(
    context: typer.Context,
    *,
    days: Annotated[int, typer.Option(min=1, max=31, help="How many days from now on.")] = 7,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPR", help="With one more schedule, due like this.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="Zone of --cron.")] = None,
    overlap: Annotated[str, typer.Option(metavar="POLICY", help="Overlap policy of that schedule.")] = "skip",
    takes: Annotated[
        str, typer.Option(metavar="TIME", help="How long a run of that schedule takes, such as 10m.")
    ] = "1m",
) -> None:
    """Play the next days through: what is due when, what would wait, and what would be skipped.

    Example:

        dorkos pulse simulate --days 3 --cron '*/10 * * * *' --takes 15m
    """
    options = options_of(context)
    body: dict[str, object] = {"days": days}
    if cron is not None:
        took = milliseconds(takes, "--takes")
        body["draft"] = {"cron": cron, "timezone": timezone, "overlap": overlap, "takesMs": took}
    with connect(options) as client:
        show(options, client.post("/api/pulse/simulate", body), _forecast)


def _time(text: str | None) -> str | None:
    return None if text is None else instant(text, None)


def _figures(found: Any) -> None:
    rate, cost = found["successRate"], found["costUsd"]
    states = ", ".join(f"{count} {state}" for state, count in sorted(found["byState"].items()))
    print_facts(
        (
            ("from", local_time(found["since"])),
            (f"to ({zone_label()})", local_time(found["until"])),
            ("runs", f"{found['runs']}" + (f": {states}" if states else "")),
            ("succeeded", "-" if rate is None else f"{rate:.1%}"),
            ("half took up to", duration(found["p50DurationMs"]) or "-"),
            ("95% took up to", duration(found["p95DurationMs"]) or "-"),
            ("cost", None if cost is None else f"{cost:.2f} USD"),
        )
    )
    if found["truncated"]:
        say("Only the newest runs were counted.")


def _missed(found: Any) -> None:
    print_table(
        found["missed"],
        (
            Column(f"due ({zone_label()})", lambda row: local_time(row["dueAt"])),
            Column("times", lambda row: str(row["count"]), right=True),
            Column("schedule", lambda row: row["scheduleName"], shrinks=True),
            Column("what", lambda row: row["what"]),
            Column("why", _why, shrinks=True),
            Column("run", lambda row: row["runId"] or "-"),
        ),
        empty="Everything that was due has run and completed.",
    )
    if found["more"]:
        say("There are older ones: ask for more with --limit, or with --until.")


def _forecast(found: Any) -> None:
    busiest = ", ".join(f"{local_time(one['minute'])} ({one['due']})" for one in found["busiest"][:3])
    print_facts(
        (
            (f"until ({zone_label()})", local_time(found["until"])),
            ("at work at once", f"{found['mostAtWork']} of {found['places']}"),
            ("waiting at once", str(found["mostWaiting"])),
            ("shared instants", str(found["collisions"])),
            ("busiest minutes", busiest or "-"),
        )
    )
    say("")
    print_table(
        found["schedules"],
        (
            Column("schedule", lambda row: row["name"], shrinks=True),
            Column("due", lambda row: str(row["due"]), right=True),
            Column("starts", lambda row: str(row["started"]), right=True),
            Column("skipped", lambda row: str(row["skipped"]), right=True),
            Column("replaced", lambda row: str(row["replaced"]), right=True),
            Column("longest wait", lambda row: duration(row["longestWaitMs"]), right=True),
        ),
        empty="Nothing is due in that time.",
    )


def _why(row: Any) -> str:
    reason = row["reason"] or row["state"] or "-"
    return f"{reason}: {preview(row['error'])}" if row["error"] else str(reason)
