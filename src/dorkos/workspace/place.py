"""Folders that a client names: inside the boundary, there, and a folder; or a refusal."""

from __future__ import annotations

from pathlib import Path

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.errors import DorkError, ErrorCode


class Workspace:
    """Looks into folders inside the boundary. `default` is where a client begins that names none."""

    def __init__(self, boundary: Boundary, clock: Clock, *, default: Path, transcripts: Path) -> None:
        """`transcripts` is the folder in which Claude Code keeps what was said, by project."""
        self.boundary = boundary
        self.clock = clock
        self.default = default
        self.transcripts = transcripts

    def folder(self, path: str | None) -> Path:
        """The real path of a folder; None means the default.

        Raises `outside_boundary`, `not_found`, or `validation_failed` for what is no folder.
        """
        if path is None:
            return self.default
        real = self.boundary.confine(path)
        if real.is_dir():
            return real
        if real.exists():
            raise DorkError(
                ErrorCode.VALIDATION_FAILED, "Not a directory", hint=f"{real} is something else.", details={}
            )
        raise DorkError(ErrorCode.NOT_FOUND, f"There is no directory {real}.", hint="Name one that exists.")
