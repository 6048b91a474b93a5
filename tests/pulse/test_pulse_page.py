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
from dorkos.events import EVENT_KINDS
from dorkos.pulse import cron
from dorkos.settings import SETTINGS
from dorkos.vocabulary import (
    ACTIVE_RUN_STATES,
    CatchUpPolicy,
    OverlapPolicy,
    RunReason,
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
        ("why it ended so", RunReason),
    ],
)
def test_each_word_has_its_row(heading: str, words: type[StrEnum]) -> None:
    """The tables are complete, in the order of the code, and name nothing else."""
    assert [row[0] for row in rows(heading)] == [word.value for word in words]


def test_each_setting_and_event_that_is_named_exists() -> None:
    """A name that is misspelt would be looked for in vain."""
    named = set(re.findall(r"`(scheduler\.[a-zA-Z]+)`", PAGE))
    assert len(named) > 5
    assert named <= {row.key for row in SETTINGS}
    assert set(re.findall(r"`(pulse\.[a-z_]+\.[a-z_]+)`", PAGE)) <= set(EVENT_KINDS)


def test_the_diagram_has_every_state() -> None:
    """Final states lead nowhere, and every state can be reached."""
    arrows = re.findall(r"^ +(\S+) --> (\w+)", PAGE, re.MULTILINE)
    assert {there for _, there in arrows} == {state.value for state in RunState}
    assert {here for here, _ in arrows} == {"[*]", *(state.value for state in ACTIVE_RUN_STATES)}
