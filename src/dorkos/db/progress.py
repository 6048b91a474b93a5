"""How long work tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called often and from the working thread: first with 0 done, then as it goes on."""

    def __call__(self, what: str, done: int, total: int) -> None:
        """`what` names the part of the work, `done` of about `total` rows are through."""


def no_progress(what: str, done: int, total: int) -> None:
    """For whoever does not watch."""
