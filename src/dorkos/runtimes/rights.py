"""What the rights of a run cover, by the kind of what an agent wants to do. Pure.

A kind that is not listed is not covered: what is not recognised is never allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dorkos.vocabulary import PermissionMode

_LOOKING = frozenset({"read", "search", "think"})
_COVERED: Mapping[PermissionMode, frozenset[str]] = {
    PermissionMode.DEFAULT: _LOOKING,
    PermissionMode.PLAN: _LOOKING,
    PermissionMode.ACCEPT_EDITS: _LOOKING | {"edit", "move"},
}


def covers(mode: PermissionMode, kind: str | None) -> bool:
    """Whether a run of this mode may do something of this kind without asking."""
    return mode is PermissionMode.BYPASS_PERMISSIONS or (kind is not None and kind in _COVERED[mode])


def inside(folder: Path, path: str) -> Path | None:
    """Where a path of an agent leads, links followed, if that is in `folder`; else None."""
    try:
        found = (folder / path).resolve()
        return found if found.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):
        return None
