"""Reading schedules and runs: from `dork.db`, and from `schedules.json` and `pulse.db` that it replaced.

Nothing here may fire or run by having been read: a schedule that we would refuse today needs attention
first, one that waited for a person waits on, and a run that was under way is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dorkos.db.legacy.home import ABSENT, UNREADABLE, LegacyHome
from dorkos.db.legacy.ids import ulid_of
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.rows import DRIZZLE_DATABASES, Cells, Row, Rows, key_of, unite
from dorkos.db.legacy.values import Values, read_instant
from dorkos.vocabulary import PermissionMode, RunReason, RunState, RunTrigger, ScheduleStatus

# What is wrong with a cron expression in a zone (None inherits), in words, or None.
ScheduleProblem = Callable[[str, str | None], str | None]

_SCHEDULES = "pulse_schedules"
_RUNS = "pulse_runs"
_FILE = "schedules.json"
_STATUSES = {
    word.value: word
    for word in (ScheduleStatus.ACTIVE, ScheduleStatus.PAUSED, ScheduleStatus.PENDING_APPROVAL)
}
_MODES = {mode.value: mode for mode in PermissionMode}
# The lineage never queued. Whatever claims to wait must not start now.
_FINAL = {
    state.value: state
    for state in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.TIMEOUT)
}
_TRIGGERS = {word.value: word for word in (RunTrigger.SCHEDULED, RunTrigger.MANUAL, RunTrigger.AGENT)}
_INTERRUPTED = "Interrupted by server restart"


@dataclass(slots=True)
class _Schedules:
    """The schedules that were read, and what their ids were."""

    rows: list[Row] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    kept: list[Row] = field(default_factory=list)


def collect(home: LegacyHome, report: Report, now: datetime, schedule_problem: ScheduleProblem) -> Rows:
    """The rows of `pulse_schedules` and `pulse_runs`, and what was kept of them for `system_state`."""
    schedules = _read_schedules(home, report, now, schedule_problem)
    runs, kept = _read_runs(home, report, now, schedules.ids)
    for row in schedules.rows:
        if row["status_reason"] is not None:
            report.note(
                f"The schedule {row['name']!r} ({row['id']}) was kept as it is and cannot fire: "
                f"{row['status_reason']}"
            )
    interrupted = sum(1 for row in runs if row["status"] is RunState.INTERRUPTED)
    if interrupted:
        report.note(f"{interrupted} runs were under way when the old server ended and are interrupted now.")
    return {_SCHEDULES: schedules.rows, _RUNS: runs, "system_state": [*schedules.kept, *kept]}


def _read_schedules(
    home: LegacyHome, report: Report, now: datetime, schedule_problem: ScheduleProblem
) -> _Schedules:
    read = _Schedules()
    for part, stored, values in _stored_schedules(home, report, now):
        known: list[Row] = []
        for number, entry in enumerate(stored):
            cells = _cells(values, _SCHEDULES, entry, number)
            read.ids.setdefault(key_of(entry.get("id"), number), cells.id)
            known.append({**_schedule(cells, schedule_problem), PART: part})
        read.rows = unite(read.rows, known, ("id",), part=part, values=values, report=report)
        read.kept += values.rows()
    return read


def _stored_schedules(
    home: LegacyHome, report: Report, now: datetime
) -> Iterator[tuple[str, list[Mapping[str, object]], Values]]:
    """Each source in order of precedence: its part, and its entries under the names of our columns."""
    for name in DRIZZLE_DATABASES:
        database = home.database(name)
        if database is None or _SCHEDULES not in database.tables():
            continue
        part = f"{name} {_SCHEDULES}"
        stored: list[Mapping[str, object]] = list(database.rows(_SCHEDULES, "created_at, id"))
        report.found(part, len(stored))
        yield part, stored, Values(report, part, now=now)
    document = home.document(_FILE)
    if document is ABSENT or document is UNREADABLE:
        return
    if not isinstance(document, list):
        report.unreadable(_FILE, str(home.path / _FILE), "it is JSON, but no list of schedules")
        return
    report.found(_FILE, len(document))
    entries: list[Mapping[str, object]] = []
    for number, entry in enumerate(document):
        if isinstance(entry, dict) and isinstance(entry.get("cron"), str):
            entries.append(_in_our_words(entry))
        else:
            place = f"{home.path / _FILE}: entry {number + 1}"
            report.unreadable(_FILE, place, "it is no schedule with a cron expression")
    yield _FILE, entries, Values(report, _FILE, now=now, from_json=True)


# Of `schedules.json` and `pulse.db`, where they differ from ours.
_COLUMNS = {
    "output_summary": "output",
    "maxRuntime": "max_runtime",
    "permissionMode": "permission_mode",
    "createdAt": "created_at",
    "updatedAt": "updated_at",
}
# `nextRun` was computed for answers and means nothing at rest.
_UNDERSTOOD = frozenset(
    (
        *("id", "name", "description", "cron", "timezone", "prompt", "cwd", "status", "enabled"),
        *("max_runtime", "permission_mode", "created_at", "updated_at", "nextRun"),
    )
)


def _in_our_words(stored: Mapping[str, object]) -> dict[str, object]:
    return {_COLUMNS.get(key, key): value for key, value in stored.items()}


def _schedule(cells: Cells, schedule_problem: ScheduleProblem) -> Row:
    cells.keep_unknown(_UNDERSTOOD)
    status = cells.word("status", _STATUSES, absent=ScheduleStatus.ACTIVE, otherwise=ScheduleStatus.PAUSED)
    name, prompt = cells.required("name"), cells.required("prompt")
    cron, timezone = cells.required("cron"), cells.text("timezone")
    max_runtime = cells.integer("max_runtime")
    problem = schedule_problem(cron, timezone) or _other_problem(name, prompt, max_runtime)
    if problem is not None and status is ScheduleStatus.ACTIVE:
        status = ScheduleStatus.NEEDS_ATTENTION
    return {
        "id": cells.id,
        "name": name,
        "description": cells.text("description"),
        "cron": cron,
        "timezone": timezone,
        "prompt": prompt,
        "cwd": cells.text("cwd"),
        # It ran nothing else; a schedule that names nothing to run would only ever fail.
        "runtime": "claude",
        "status": status,
        # Also where it is paused or waits for approval: whoever lets it go should know.
        "status_reason": problem,
        "enabled": cells.flag("enabled", absent=True, otherwise=False),
        "max_runtime": max_runtime,
        "permission_mode": cells.word(
            "permission_mode", _MODES, absent=PermissionMode.ACCEPT_EDITS, otherwise=PermissionMode.DEFAULT
        ),
        # The hold at the end of the import sets both; until then nothing is due.
        "decided_until": cells.values.now,
        "next_due_at": None,
        "created_at": cells.instant("created_at"),
        "updated_at": cells.instant("updated_at"),
    }


def _other_problem(name: str, prompt: str, max_runtime: int | None) -> str | None:
    """What besides its time would be refused today."""
    if not name.strip():
        return "It has no name."
    if not prompt:
        return "It has no prompt."
    if max_runtime is not None and max_runtime <= 0:
        return f"Its longest run would last {max_runtime} ms."
    return None


def _read_runs(
    home: LegacyHome, report: Report, now: datetime, schedules: Mapping[str, str]
) -> tuple[list[Row], list[Row]]:
    rows: list[Row] = []
    kept: list[Row] = []
    for name, table in (*((name, _RUNS) for name in DRIZZLE_DATABASES), ("pulse.db", "runs")):
        database = home.database(name)
        if database is None or table not in database.tables():
            continue
        part = f"{name} {table}"
        values = Values(report, part, now=now)
        known: list[Row] = []
        report.found(part, 0)
        for number, stored in enumerate(database.rows(table, "created_at, id")):
            report.found(part)
            cells = _cells(values, _RUNS, _in_our_words(stored), number)
            known.append({**_run(cells, schedules), PART: part})
        rows = unite(rows, known, ("id",), part=part, values=values, report=report)
        kept += values.rows()
    return rows, kept


def _run(cells: Cells, schedules: Mapping[str, str]) -> Row:
    schedule_id = schedules.get(key_of(cells.stored.get("schedule_id"), -1))
    if schedule_id is None:
        cells.keep("schedule_id", "named a schedule that is gone and is empty")
    was_running = cells.stored.get("status") == RunState.RUNNING
    finished_at, error = cells.optional_instant("finished_at"), cells.text("error")
    return {
        "id": cells.id,
        "chain_id": cells.id,
        "schedule_id": schedule_id,
        "status": RunState.INTERRUPTED
        if was_running
        else cells.word("status", _FINAL, absent=RunState.FAILED, otherwise=RunState.FAILED),
        "reason": RunReason.UNCONFIRMED if was_running else None,
        "trigger": cells.word(
            "trigger", _TRIGGERS, absent=RunTrigger.SCHEDULED, otherwise=RunTrigger.SCHEDULED
        ),
        # The lineage did not record it, and the schedule's may have been edited since.
        "prompt": "",
        "created_at": cells.instant("created_at"),
        "started_at": cells.optional_instant("started_at"),
        "finished_at": (finished_at or cells.values.now) if was_running else finished_at,
        "duration_ms": cells.integer("duration_ms"),
        "output": cells.text("output"),
        "error": (error or _INTERRUPTED) if was_running else error,
        "session_id": cells.text("session_id"),
    }


def _cells(values: Values, table: str, entry: Mapping[str, object], number: int) -> Cells:
    old_id = key_of(entry.get("id"), number)
    new_id = ulid_of(table, old_id, read_instant(entry.get("created_at")))
    values.note_id(table, new_id, old_id)
    return Cells(values, table, new_id, entry)
