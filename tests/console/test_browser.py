"""The script that finds a browser, or installs one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "browser"


def test_one_of_several_installs_and_the_others_wait_for_it(tmp_path: Path) -> None:
    """Two that ask the package manager at once are in each other's way, and one of them would fail."""
    folder = tmp_path / "programs"
    folder.mkdir()
    environment = {"PATH": str(folder), "TMPDIR": str(tmp_path), "PLAYWRIGHT_BROWSERS_PATH": str(tmp_path)}
    with (tmp_path / f"dorkos-browser-{os.getuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        assert second.stderr.readline().startswith("waiting for another")
        # What the first one does meanwhile.
        browser = folder / "chromium"
        browser.write_text("#!/bin/sh\necho Chromium 1\n", "utf-8")
        browser.chmod(0o755)
    printed, complaints = second.communicate(timeout=60)
    assert (second.returncode, printed.strip(), complaints) == (0, str(browser), "")
