"""The script that kills upgrades, at a choice of moments, so that every test run has been through some."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dorkos.db.ledger import revisions

STEPS = {f"Applying {revision.id}" for revision in revisions()[1:]}


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "sqlite", "--every", "120"),
        ("--engine", "sqlite", "--within", "--every", "100"),
        # An upgrade takes longer there: before the commit of each step is enough.
        ("--engine", "postgresql", "--every", "1000", "--no-first"),
    ],
    ids=["between statements", "within statements", "on PostgreSQL"],
)
@pytest.mark.timeout(300)
def test_an_upgrade_that_is_killed_leaves_a_whole_version_and_can_be_repeated(
    options: tuple[str, ...],
) -> None:
    """Killed at the edges of every step and in between: old or new, all rows there, then the same end."""
    # In a process of its own, which forks: this one has threads.
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.kill_migration", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert set(report["steps"]) >= STEPS
    assert report["kills"] >= len(STEPS)
