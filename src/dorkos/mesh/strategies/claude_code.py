"""Claude Code: a file `CLAUDE.md` in the project."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.paragraph import first_paragraph, shown_name
from dorkos.mesh.strategies.protocol import Folder
from dorkos.mesh.untrusted import UnreadableFileError, read_file
from dorkos.vocabulary import AgentRuntime

_MARKER = "CLAUDE.md"
_READ_BYTES = 4096


class ClaudeCodeStrategy:
    """A regular file `CLAUDE.md`; a directory `.claude` alone is a place for settings, not a project."""

    name = "claude-code"
    markers = frozenset({_MARKER})

    def look(self, folder: Folder) -> Hints | None:
        """The folder's name, and the first paragraph of the file as description."""
        if _MARKER not in folder.files:
            return None
        return Hints(
            suggested_name=shown_name(folder.path.name),
            detected_runtime=AgentRuntime.CLAUDE_CODE,
            inferred_capabilities=("code",),
            description=_description(folder),
        )


def _description(folder: Folder) -> str | None:
    try:
        start = read_file(folder.path / _MARKER, within=folder.path, limit=_READ_BYTES)
    except (UnreadableFileError, FileNotFoundError):
        # The mark counts all the same: often it is a link to a file that several projects share.
        return None
    return first_paragraph(start)
