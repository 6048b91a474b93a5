"""How Pulse's answers read to a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from dorkos.cli.instants import duration, local_time, zone_label, zoned_time
from dorkos.cli.render import Column, preview, print_facts, print_table, raw, say

# What stands in the place of the next run of a schedule that has none.
_NEVER = {"once": "it is over"}


def added(schedule: Any) -> None:
    """A schedule that was just stored, with what will happen."""
    say(f"Added {schedule['name']}.", "green")
    _facts(schedule)
    if not schedule["nextRuns"]:
        say(f"Run it with: dorkos pulse run {schedule['id']}")


def changed(schedule: Any) -> None:
    """A schedule that was just edited, with what will happen."""
    say(f"Changed {schedule['name']}.", "green")
    _facts(schedule)


def previewed(answer: Any) -> None:
    """When a trigger is due, in its zone and in UTC."""
    zone = answer["resolvedTimezone"]
    print_table(
        [{"at": instant} for instant in answer["nextRuns"]],
        (
            Column(f"due ({zone})", lambda row: _in_zone(row["at"], zone)),
            Column("UTC", lambda row: row["at"]),
        ),
        empty="It is never due: it runs only when asked to, or its time has passed.",
    )


def schedules(rows: Any) -> None:
    """All schedules in a table."""
    print_table(
        rows,
        (
            Column("id", lambda row: row["id"]),
            Column("name", lambda row: row["name"], shrinks=True),
            Column("when", _when, shrinks=True),
            Column("state", lambda row: row["state"] if row["enabled"] else "disabled", state=True),
            Column(f"next ({zone_label()})", lambda row: next_run(row) or _NEVER.get(_when(row))),
        ),
        empty="No schedules here. Add one: dorkos pulse add NAME --cron '0 9 * * *' --agent AGENT",
    )
    for row in rows:
        if row["state"] == "needs_attention":
            say("")
            say(f"{row['name']} needs attention, so it does not fire: {row['statusReason']}", "red")
        elif row["state"] != "active" and row["statusReason"]:
            say("")
            say(f"{row['name']} is {row['state']}: {row['statusReason']}", "yellow")
        if row.get("alarm"):
            say("")
            say(f"{row['name']} has no outcome in time of {local_time(row['alarm'])}.", "yellow")


def next_run(schedule: Mapping[str, Any]) -> str:
    """When it is due next, empty for never."""
    return local_time(schedule["nextRun"])


def questions(rows: Any) -> None:
    """What blocked runs want to know."""
    print_table(
        rows,
        (
            Column("run", lambda row: row["runId"]),
            Column("question", lambda row: preview(row["content"]["question"]), shrinks=True),
            Column("answers", lambda row: " | ".join(row["content"]["options"]), shrinks=True),
            Column("asked", lambda row: local_time(row["createdAt"])),
        ),
        empty="No run waits for an answer.",
    )


def queued(run_id: str) -> None:
    """A run that was just asked for."""
    say(f"Run {run_id} is queued.")
    say(f"See what it prints: dorkos pulse logs {run_id} --follow")


def runs(rows: Any, names: Mapping[str, str]) -> None:
    """Runs in a table; `names` says what schedules and agents are called."""
    print_table(
        rows,
        (
            Column("id", lambda row: row["id"]),
            Column("of", lambda row: _owner(row, names), shrinks=True),
            Column("state", lambda row: row["state"], state=True),
            Column(f"started ({zone_label()})", lambda row: local_time(row["startedAt"])),
            Column("took", lambda row: duration(row["durationMs"]), right=True),
        ),
        empty="No runs here yet. Start one: dorkos pulse run SCHEDULE",
    )


def run(row: Any, names: Mapping[str, str]) -> None:
    """Everything about one run, with the end of its output."""
    print_facts(
        (
            ("id", row["id"]),
            ("schedule", _named(row["scheduleId"], names)),
            ("agent", _named(row["agentId"], names)),
            ("asked", row["targetSubject"]),
            ("message", row["messageId"]),
            ("state", f"{row['state']} ({row['reason']})" if row["reason"] else row["state"]),
            ("trigger", row["trigger"]),
            ("created", zoned_time(row["createdAt"])),
            ("started", zoned_time(row["startedAt"]) or None),
            ("finished", zoned_time(row["finishedAt"]) or None),
            ("took", duration(row["durationMs"]) or None),
            ("exit code", None if row["exitCode"] is None else str(row["exitCode"])),
            ("error", row["error"]),
            ("prompt", preview(row["prompt"]) or None),
        )
    )
    if row["outputSummary"]:
        say("")
        raw(row["outputSummary"].rstrip("\n") + "\n")
    say("")
    say(f"All it printed: dorkos pulse logs {row['id']}")


def ending(row: Any) -> str:
    """How a run ended, in a sentence."""
    took = f" in {duration(row['durationMs'])}" if row["durationMs"] is not None else ""
    why = f": {row['error']}" if row["error"] else ""
    return f"{row['state'].capitalize()}{took}{why}"


def cancelled(answer: Any) -> None:
    """What came of a wish to cancel."""
    if answer["outcome"] == "stopping":
        say("The run was asked to stop.")
    elif answer["outcome"] == "unconfirmed":
        say("Its server gives no sign of life: whether the program still runs cannot be told.", "yellow")
    else:
        say("The run is cancelled.")


def _facts(schedule: Mapping[str, Any]) -> None:
    coming = ", ".join(map(local_time, schedule["nextRuns"][:3]))
    print_facts(
        (
            ("id", schedule["id"]),
            ("when", _when(schedule)),
            ("zone", schedule["resolvedTimezone"]),
            (f"next ({zone_label()})", coming or "when asked to"),
            ("policies", _policies(schedule)),
        )
    )


def _policies(schedule: Mapping[str, Any]) -> str | None:
    """What is not as it is unless said otherwise."""
    cap = schedule["maxActive"] or ""
    most = schedule["catchUpMax"] or ""
    tries = schedule["maxAttempts"]
    said = (
        (schedule["overlap"] != "skip", f"overlap {schedule['overlap']} {cap}"),
        (schedule["catchUp"] != "latest", f"catch up {schedule['catchUp']} {most}"),
        (schedule["catchUpWindowMs"], f"window {duration(schedule['catchUpWindowMs'])}"),
        (schedule["jitterMs"], f"jitter {duration(schedule['jitterMs'])}"),
        (tries > 1, f"up to {tries} tries"),
        (schedule["idleTimeoutMs"], f"idle at most {duration(schedule['idleTimeoutMs'])}"),
        (schedule["alarmAfterMs"], f"alarm after {duration(schedule['alarmAfterMs'])}"),
        (schedule["pauseAfterFailures"], f"pause after {schedule['pauseAfterFailures']} failures"),
    )
    return ", ".join(words.strip() for is_said, words in said if is_said) or None


def _in_zone(instant: str, zone: str) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M:%S %Z}"


def _when(schedule: Mapping[str, Any]) -> str:
    cron = str(schedule["cron"])
    return "once" if cron.startswith("@at ") else "by hand" if cron == "@manual" else cron


def _owner(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What a run is of: its schedule, else the agent that a message woke."""
    owners = [key for key in (row["scheduleId"], row["agentId"]) if key]
    known = [names[key] for key in owners if key in names]
    return str([*known, *owners, "-"][0])


def _named(entity_id: str | None, names: Mapping[str, str]) -> str | None:
    """What an id stands for, with the name it has; one that was removed since has none."""
    if entity_id is None:
        return None
    return f"{names[entity_id]}  {entity_id}" if entity_id in names else f"{entity_id} (removed)"
