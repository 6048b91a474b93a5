"""The run of the tests: who shares something stays together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
_GROUP = """
import os
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(4))
@pytest.mark.xdist_group("shared")
def test_worker(number):
    with Path(__file__).with_name("workers").open("a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
"""


def test_a_group_is_run_by_one_worker(tmp_path: Path) -> None:
    """However many there are: each other one would make anew what the group shares."""
    (tmp_path / "test_shared.py").write_text(_GROUP, encoding="ascii")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="ascii")
    options = ("-c", tmp_path / "pytest.ini", "-p", "xdist", "-p", "tests.groups", "-n", "2")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--dist", "loadgroup", tmp_path],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    workers = (tmp_path / "workers").read_text(encoding="ascii").split()
    assert len(workers) == 4
    assert len(set(workers)) == 1
