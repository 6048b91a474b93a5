"""Gemini CLI: a file `GEMINI.md` or a directory `.gemini` in the project."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.instructions import product_hints
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime

_DIRECTORY = ".gemini"
_FILE = "GEMINI.md"


class GeminiStrategy:
    """Either mark is enough: the file holds instructions, the directory settings."""

    name = "gemini"
    markers = frozenset({_DIRECTORY, _FILE})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name; described by `GEMINI.md` if there is one."""
        if _DIRECTORY not in folder.directories and _FILE not in folder.files:
            return None
        return product_hints(folder, AgentRuntime.GEMINI, _FILE)
