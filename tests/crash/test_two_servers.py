"""Two servers on one database, in short, so that every test run has been through it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.two_servers import run


@pytest.mark.timeout(300)
def test_two_servers_fire_every_instant_once_though_one_is_killed(tmp_path: Path) -> None:
    """Killed at work and started again: one slot an instant, no attempt twice, later ones in their turn."""
    report = run(20, 4.0, tmp_path, kills=1)

    assert report.faults == []
    assert report.kills == 1
    assert report.completed > 0
    assert report.timeouts > 0
    assert report.interrupted > 0
    assert report.later_attempts > 0
    assert report.instants >= report.slots >= 20
    assert len(report.by_server) > 1
