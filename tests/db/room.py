"""Disks that are full, for tests of what becomes of the work then."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


@contextmanager
def no_room_beyond(pages: int) -> Iterator[None]:
    """Let no database of this process grow beyond so many pages."""

    def bound(raw: Any, _record: object) -> None:
        if hasattr(raw, "in_transaction"):  # Of SQLite; PostgreSQL has no such bound.
            raw.execute(f"PRAGMA max_page_count = {pages}")

    sa.event.listen(sa.Engine, "connect", bound)
    try:
        yield
    finally:
        sa.event.remove(sa.Engine, "connect", bound)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As a disk with that much room: writing beyond it fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def only_more_files(number: int) -> Iterator[None]:
    """Let this process open only so many files besides those that are open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/dev/fd").iterdir())
    # The limit is on the numbers of files: those that are free below it are taken first.
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] <= highest:
        held.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1 + number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)
