"""Codex: a directory `.codex`, or a file `AGENTS.md`, which other products read as well."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.instructions import product_hints
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime

_MARKER = ".codex"
_INSTRUCTIONS = "AGENTS.md"


class CodexStrategy:
    """A directory `.codex`, with the project's settings."""

    name = "codex"
    markers = frozenset({_MARKER, _INSTRUCTIONS})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name; described by `AGENTS.md` if there is one."""
        if _MARKER not in folder.directories:
            return None
        return product_hints(folder, AgentRuntime.CODEX, _INSTRUCTIONS)


class AgentsFileStrategy:
    """A regular file `AGENTS.md` in a folder that no product marks as its own: Codex made the name."""

    name = "codex"
    markers = frozenset({_INSTRUCTIONS})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name, and the first paragraph of the file as description."""
        if _INSTRUCTIONS not in folder.files:
            return None
        return product_hints(folder, AgentRuntime.CODEX, _INSTRUCTIONS)
