"""A report in the few lines that a start prints. `dorkos db adopt` shows all of it."""

from __future__ import annotations

from collections.abc import Iterator

from dorkos.db.legacy.report import Report

# What people count, by table.
_WORDS = {
    "agents": "agents",
    "agent_denials": "denied paths",
    "pulse_schedules": "schedules",
    "pulse_runs": "runs",
    "relay_messages": "messages",
    "relay_dead_letters": "dead letters",
    "relay_traces": "traces",
    "relay_rules": "access rules",
    "relay_adapters": "adapters",
}


def lines(report: Report) -> Iterator[str]:
    """What came, what did not, and what a person should know."""
    grown = (
        (words, report.after.get(table, 0) - report.before.get(table, 0)) for table, words in _WORDS.items()
    )
    brought = ", ".join(f"{count} {words}" for words, count in grown if count) or "nothing"
    yield f"Brought over from DorkOS for Node: {brought}."
    for left in report.left_out:
        yield f"Left out: {left.where}: {left.why}."
    if report.values:
        yield (
            f"{len(report.values)} values could not stand as they were; their originals are kept in "
            "system_state under lineage:<table>:<id>:<column>."
        )
    yield from report.notes
    yield "The fleet is on hold: nothing starts before `dorkos fleet resume`."
