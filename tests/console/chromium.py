"""The browser of this machine, and how it is started."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

_SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "browser"

# As root Chromium has no sandbox of its own; the others keep it from talking to anybody but our server.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


@cache
def executable() -> str:
    """Where it is; installed if it was not there. A machine that can have none fails loudly."""
    done = subprocess.run([sys.executable, str(_SCRIPT)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()
