"""The files of a project, by git where it is one, else by walking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dorkos.boundary import Boundary
from dorkos.workspace import git

FILES_MAX = 10_000
_DEPTH_MAX = 8
_LEFT_OUT = frozenset(
    {"node_modules", ".git", "dist", "build", ".next", "coverage", "__pycache__", ".cache", ".venv"}
)


@dataclass(frozen=True, slots=True)
class Files:
    """Paths relative to the folder, with `/`. `total` counts all that there are; where it was cut while
    walking, all that were seen."""

    names: tuple[str, ...]
    truncated: bool
    total: int


def list_files(folder: Path, boundary: Boundary) -> Files:
    """At most ten thousand files of `folder`. Links are not followed. Raises `not_ready` for a slow git.

    A repository that leads out of the boundary does not count, and the data directory is not shown.
    """
    known = git.files(folder, within=boundary.root)
    hidden = boundary.data_directory
    if known is None:
        known = list(islice(_walk(folder, "", 0, without=hidden), FILES_MAX + 1))
    elif hidden.is_relative_to(folder):
        below = f"{_shown(str(hidden.relative_to(folder)))}/"
        known = [name for name in known if not name.startswith(below)]
    return Files(tuple(known[:FILES_MAX]), len(known) > FILES_MAX, len(known))


def _shown(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _walk(folder: Path, prefix: str, depth: int, *, without: Path) -> Iterator[str]:
    if folder == without:
        return
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return  # What may not be read is not there for whoever looks.
    for entry in ordered:
        name = _shown(entry.name)
        if entry.name.startswith(".") or entry.name in _LEFT_OUT:
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < _DEPTH_MAX:
                yield from _walk(Path(entry.path), f"{prefix}{name}/", depth + 1, without=without)
        elif entry.is_file(follow_symlinks=False):
            yield f"{prefix}{name}"
