"""The crash laboratory in short, with a fixed seed, so that every test run has been through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.laboratory.disturbances import full_disk, kill, read_only, torn_log, wrong_clock
from tests.crash.laboratory.experiment import experiment
from tests.crash.laboratory.world import SqliteWorld

PLAN = (kill, torn_log, wrong_clock, full_disk, read_only)


@pytest.mark.timeout(600)
def test_every_promise_is_kept_through_whatever_is_done_to_a_server(tmp_path: Path) -> None:
    """Nothing that was answered is lost, done twice or unexplained, and each promise had its cases."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # Whoever has no rights must be able to come here.
    report = experiment(SqliteWorld(tmp_path), kills=len(PLAN), seed=1, say=print, plan=PLAN)
    assert report.broken == []
    idle = [promise.words for promise in report.promises[:-1] if not promise.kept]
    assert idle == []
