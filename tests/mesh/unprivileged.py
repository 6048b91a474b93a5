"""Running a piece of Python as somebody whom file permissions stop, also when the tests run as root."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# The imports come before the drop: the person may have no right to read the packages.
_PREAMBLE = """
import os, sys
import encodings.utf_8_sig
import dorkos.mesh.service
import dorkos.clock
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


@dataclass
class Unprivileged:
    """A person with a folder that everybody may enter."""

    folder: Path

    def run(self, code: str, *arguments: str) -> str:
        """What the code prints."""
        done = subprocess.run(
            [sys.executable, "-c", _PREAMBLE + code, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def unprivileged() -> Iterator[Unprivileged]:
    """See the module. pytest's own temporary folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="dorkos-mesh-"))
    folder.chmod(0o755)
    try:
        yield Unprivileged(folder.resolve())
    finally:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(folder)
