"""The script of senders and consumers with few kills, so that every test run has been through some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.senders import run


@pytest.mark.timeout(300)
def test_every_message_is_accounted_for_when_the_server_is_killed(tmp_path: Path) -> None:
    """Twice kill -9 under senders and consumers that do everything one can do with a message."""
    report = run(2, tmp_path, senders=16, consumers=8)

    assert report.faults == []
    assert report.kills == 2
    assert report.published > 0
    assert report.acked > 0
