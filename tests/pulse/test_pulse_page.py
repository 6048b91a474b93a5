"""The page on Pulse says what the code does: clock changes, policies, verdicts and states."""

from __future__ import annotations

import re
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dorkos.clock import from_iso
from dorkos.pulse import cron
from dorkos.vocabulary import (
    ACTIVE_RUN_STATES,
    CatchUpPolicy,
    OverlapPolicy,
    RunState,
    SlotReason,
    Verdict,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pulse.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", PAGE, re.MULTILINE)
    assert found is not None, heading
    return [[cell.strip(" `") for cell in line[1:-1].split("|")] for line in found[1].splitlines()]


def test_the_clock_changes_are_as_shown() -> None:
    """Each example is computed again."""
    examples = rows("cron")
    assert len(examples) == 6
    for expression, zone, after, due, _ in examples:
        shown = [from_iso(instant) for instant in due.split(", ")]
        search = cron.instants(expression, ZoneInfo(zone), from_iso(after))
        found: list[datetime] = list(islice(search, len(shown)))
        assert found == shown, (expression, zone, after)


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        ("overlap", OverlapPolicy),
        ("catchUp", CatchUpPolicy),
        ("verdict", Verdict),
        ("reason", SlotReason),
    ],
)
def test_each_word_has_its_row(heading: str, words: type[StrEnum]) -> None:
    """The tables are complete, in the order of the code, and name nothing else."""
    assert [row[0] for row in rows(heading)] == [word.value for word in words]


def test_the_diagram_has_every_state() -> None:
    """Final states lead nowhere, and every state can be reached."""
    arrows = re.findall(r"^ +(\S+) --> (\w+)", PAGE, re.MULTILINE)
    assert {there for _, there in arrows} == {state.value for state in RunState}
    assert {here for here, _ in arrows} == {"[*]", *(state.value for state in ACTIVE_RUN_STATES)}
