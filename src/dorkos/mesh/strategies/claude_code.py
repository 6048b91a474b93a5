"""Claude Code: a file `CLAUDE.md` in the project."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.instructions import product_hints
from dorkos.mesh.strategies.protocol import Folder
from dorkos.vocabulary import AgentRuntime

_MARKER = "CLAUDE.md"


class ClaudeCodeStrategy:
    """A regular file `CLAUDE.md`; a directory `.claude` alone is a place for settings, not a project."""

    name = "claude-code"
    markers = frozenset({_MARKER})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name, and the first paragraph of the file as description."""
        if _MARKER not in folder.files:
            return None
        return product_hints(folder, AgentRuntime.CLAUDE_CODE, _MARKER)
