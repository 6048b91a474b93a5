"""The files of a project, by git where it is one, else by walking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def list_files(folder: Path, *, within: Path) -> Files:
    """At most ten thousand files of `folder`. Links are not followed. Raises `not_ready` for a slow git.

    A repository above `within` does not count.
    """
    known = git.files(folder, within=within)
    if known is None:
        found = []
        for name in _walk(folder, "", 0):
            found.append(name)
            if len(found) > FILES_MAX:
                break
        known = found
    return Files(tuple(known[:FILES_MAX]), len(known) > FILES_MAX, len(known))


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return  # What may not be read is not there for whoever looks.
    for entry in ordered:
        name = entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if entry.name.startswith(".") or entry.name in _LEFT_OUT:
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth < _DEPTH_MAX:
                yield from _walk(Path(entry.path), f"{prefix}{name}/", depth + 1)
        elif entry.is_file(follow_symlinks=False):
            yield f"{prefix}{name}"
