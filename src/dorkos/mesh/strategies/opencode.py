"""OpenCode: a file `opencode.json` (or `.jsonc`) or a directory `.opencode` in the project."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.instructions import product_hints
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime

_DIRECTORY = ".opencode"
_FILES = frozenset({"opencode.json", "opencode.jsonc"})
_INSTRUCTIONS = "AGENTS.md"


class OpenCodeStrategy:
    """Any of the marks is enough."""

    name = "opencode"
    markers = frozenset({_DIRECTORY, *_FILES, _INSTRUCTIONS})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name; described by `AGENTS.md`, which OpenCode reads, if there is one."""
        if _DIRECTORY not in folder.directories and _FILES.isdisjoint(folder.files):
            return None
        return product_hints(folder, AgentRuntime.OPENCODE, _INSTRUCTIONS)
