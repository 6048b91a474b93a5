"""The crash script with few kills, so that every test run has been through some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.kill9 import run


@pytest.mark.timeout(300)
def test_nothing_that_was_acknowledged_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    """Three times kill -9 under load: no message, no slot and no run goes missing or happens twice."""
    report = run(3, tmp_path)

    assert report.faults == []
    assert report.kills == 3
    assert report.published > 0
    assert report.acked > 0
    assert report.interrupted > 0
