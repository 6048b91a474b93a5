"""Cursor: a directory `.cursor` in the project."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.instructions import product_hints
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime

_MARKER = ".cursor"
_INSTRUCTIONS = "AGENTS.md"


class CursorStrategy:
    """A directory `.cursor`, with its rules or settings."""

    name = "cursor"
    markers = frozenset({_MARKER, _INSTRUCTIONS})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name; described by `AGENTS.md`, which Cursor reads, if there is one."""
        if _MARKER not in folder.directories:
            return None
        return product_hints(folder, AgentRuntime.CURSOR, _INSTRUCTIONS)
