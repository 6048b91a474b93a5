"""The environment of a run: clean, so that no secret of the server's own environment leaks into it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_KEPT = frozenset({"HOME", "LANG", "TZ", "TMPDIR", "USER", "SHELL"})
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def run_environment(
    source: Mapping[str, str],
    *,
    url: str,
    secret: str,
    run_id: str,
    subject: str,
    agent_id: str | None,
    context: Mapping[str, str],
    passed: Sequence[str] = (),
) -> dict[str, str]:
    """What a run's program sees: a few variables of `source`, the cause of the run, and who it is.

    `passed` names what else is taken from `source`.

    PATH begins with the directory of this Python, where the `dorkos` command is.
    """
    kept = {
        name: value
        for name, value in source.items()
        if name in _KEPT or name in passed or name.startswith("LC_")
    }
    path = os.pathsep.join((str(Path(sys.executable).parent), source.get("PATH") or _DEFAULT_PATH))
    own = {
        "PATH": path,
        "DORKOS_URL": url,
        "DORKOS_TOKEN": secret,
        "DORKOS_RUN_ID": run_id,
        "DORKOS_SUBJECT": subject,
    }
    if agent_id is not None:
        own["DORKOS_AGENT_ID"] = agent_id
    # Ours come last: what a message says about itself must not replace who the run is.
    return kept | dict(context) | own
