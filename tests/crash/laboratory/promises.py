"""The promises, looked at by nothing but the database and the log of what clients were answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dorkos.db.schema.pulse import pulse_runs, pulse_schedules, pulse_slots
from dorkos.db.schema.relay import relay_dead_letters, relay_index, relay_messages
from dorkos.db.schema.system import events
from dorkos.vocabulary import ACTIVE_RUN_STATES, RunState, Verdict
from tests.crash.laboratory.log import Entry, entries


@dataclass
class Promise:
    """One of them: in how many cases it was kept, and the cases in which it was not."""

    words: str
    kept: int = 0
    broken: list[str] = field(default_factory=list)


def check(connection: sa.Connection, log: Path, witness: Path) -> list[Promise]:
    """Look at each promise. `witness` holds a line for each start of a run that did something."""
    answers = list(entries(log))
    return [
        *_messages(connection, answers),
        *_slots(connection),
        *_runs(connection, witness.read_text("utf-8").split() if witness.exists() else []),
        *_changes(connection, answers),
        _cases("no request is answered by a fault of ours", (), _of(answers, "internal_error")),
    ]


def _cases(words: str, kept: Iterable[object], broken: Iterable[str]) -> Promise:
    """`kept` are all cases that were looked at."""
    wrong = list(broken)
    return Promise(words, max(len(list(kept)) - len(wrong), 0), wrong)


def _of(answers: Iterable[Entry], what: str) -> list[str]:
    return [f"{entry.subject} {entry.note}".strip() for entry in answers if entry.what == what]


def _messages(connection: sa.Connection, answers: list[Entry]) -> Iterator[Promise]:
    stored = _pairs(connection, relay_messages.c.id, relay_messages.c.idempotency_key)
    status = _pairs(connection, relay_index.c.message_id, relay_index.c.status)
    dead = _pairs(connection, relay_dead_letters.c.message_id, relay_dead_letters.c.reason)
    published = {entry.subject: entry.note for entry in answers if entry.what == "published"}
    acked, rejected = set(_of(answers, "acked")), set(_of(answers, "rejected"))
    yield _cases(
        "a message that was accepted is stored",
        published,
        [one for one, key in published.items() if stored.get(one) != key],
    )
    yield _cases("and for its recipient", published, _of(answers, "undelivered"))
    keys = Counter(key for key in stored.values() if key is not None)
    yield _cases("a key stands for one message", keys, [key for key, times in keys.items() if times > 1])
    yield _cases(
        "a message that was acknowledged stays delivered",
        acked,
        [one for one in acked if status.get(one) != "delivered"],
    )
    yield _cases("and never comes again", acked, _came_again(answers))
    yield _cases(
        "a message that was rejected is a dead letter", rejected, [one for one in rejected if one not in dead]
    )
    yield _cases(
        "every message ends delivered, or dead with a reason",
        status,
        [f"{one} is {state}" for one, state in status.items() if state != "delivered" and not dead.get(one)],
    )


def _came_again(answers: list[Entry]) -> Iterator[str]:
    acked: dict[str, int] = {}
    for number, entry in enumerate(answers):
        if entry.what == "acked":
            acked.setdefault(entry.subject, number)
        elif entry.what == "claimed" and entry.asked > acked.get(entry.subject, len(answers)):
            yield entry.subject


def _slots(connection: sa.Connection) -> Iterator[Promise]:
    """The schedules of the laboratory are due every two seconds."""
    until = _pairs(connection, pulse_schedules.c.id, pulse_schedules.c.decided_until)
    rows = connection.execute(
        sa.select(pulse_slots, pulse_slots.c.count.label("number")).order_by(
            pulse_slots.c.schedule_id, pulse_slots.c.due_at
        )
    ).all()
    gaps: list[str] = []
    for schedule_id, of_schedule in groupby(rows, key=lambda slot: slot.schedule_id):
        own = list(of_schedule)
        gaps += [
            f"{schedule_id}: after {earlier.through_at} came {later.due_at}"
            for earlier, later in pairwise(own)
            if (later.due_at - earlier.through_at).total_seconds() != 2
        ]
        gaps += [
            f"{slot.id} does not span its {slot.number} instants"
            for slot in own
            if (slot.through_at - slot.due_at).total_seconds() != 2 * (slot.number - 1)
        ]
        if not 0 <= (until[schedule_id] - own[-1].through_at).total_seconds() < 2:
            gaps.append(f"{schedule_id} is decided until {until[schedule_id]}, its slots end before")
    yield _cases("every due instant is decided exactly once", rows, gaps)
    fired = {slot.id for slot in rows if slot.verdict is Verdict.RUN}
    ran = set(connection.execute(sa.select(pulse_runs.c.slot_id)).scalars())
    yield _cases("a slot that fires has its run", fired, sorted(fired - ran))


def _runs(connection: sa.Connection, witnessed: list[str]) -> Iterator[Promise]:
    rows = connection.execute(
        sa.select(pulse_runs).order_by(pulse_runs.c.slot_id, pulse_runs.c.attempt)
    ).all()
    yield _cases(
        "every run ends",
        rows,
        [f"{run.id} is {run.status}" for run in rows if run.status in ACTIVE_RUN_STATES],
    )
    times = Counter(witnessed)
    yield _cases("no attempt is started twice", times, [run for run, count in times.items() if count > 1])
    completed = [run.id for run in rows if run.status is RunState.COMPLETED]
    yield _cases("a run that completed did its work", completed, sorted(set(completed) - set(times)))
    ended = [run for run in rows if run.status not in (*ACTIVE_RUN_STATES, RunState.COMPLETED)]
    yield _cases(
        "one that did not says why", ended, [run.id for run in ended if not (run.reason or run.error)]
    )
    attempts = [run for run in rows if run.slot_id is not None]
    yield _cases(
        "a later attempt begins when the earlier ended", attempts, _out_of_turn(connection, attempts)
    )


def _out_of_turn(connection: sa.Connection, runs: list[sa.Row[Any]]) -> Iterator[str]:
    """By the order in which it was committed: the clocks are wrong on purpose."""
    began, ended = (
        _pairs(connection, events.c.entity_id, events.c.position, events.c.kind == kind)
        for kind in ("pulse.run.started", "pulse.run.finished")
    )
    for slot_id, of_slot in groupby(runs, key=lambda run: run.slot_id):
        own = list(of_slot)
        if [run.attempt for run in own] != list(range(1, len(own) + 1)):
            yield f"slot {slot_id} has the attempts {[run.attempt for run in own]}"
        for earlier, later in pairwise(own):
            if later.id in began and began[later.id] < ended[earlier.id]:
                yield f"{later.id} began before {earlier.id} ended"


def _changes(connection: sa.Connection, answers: list[Entry]) -> Iterator[Promise]:
    names = _pairs(connection, pulse_schedules.c.id, pulse_schedules.c.name)
    newest = {entry.subject: int(entry.note) for entry in answers if entry.what == "edited"}
    yield _cases(
        "a change that was answered is kept",
        newest,
        [f"{one} is {names.get(one)}" for one, count in newest.items() if _number(names.get(one)) < count],
    )
    runs = set(connection.execute(sa.select(pulse_runs.c.id)).scalars())
    triggered = _of(answers, "triggered")
    yield _cases(
        "a run that was asked for is there",
        triggered,
        [one for one in triggered if one.split()[0] not in runs],
    )


def _number(name: str | None) -> int:
    return int(name.split()[1]) if name is not None and name.startswith("edited ") else -1


def _pairs(
    connection: sa.Connection, key: sa.Column[Any], value: sa.Column[Any], *which: sa.ColumnElement[bool]
) -> dict[Any, Any]:
    return {row[0]: row[1] for row in connection.execute(sa.select(key, value).where(*which))}
