"""A bar on standard error for work that takes a while, on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dorkos.db.progress import Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """What the work is to call with its part's name, how much is done, and of how much."""
    if not sys.stderr.isatty():
        yield _in_silence
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, no_color=bool(os.environ.get("NO_COLOR")))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Bar(*columns, console=console, transient=True) as bar:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what.ljust(9), total=None)
            # Where the size is not known beforehand, a bar that only moves.
            bar.update(tasks[what], completed=done, total=max(total, done) or None)

        yield tell


def _in_silence(what: str, done: int, total: int) -> None:
    pass
