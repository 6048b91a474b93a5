"""What products have in common: a folder gives the name, a file of instructions the description."""

from __future__ import annotations

from dorkos.mesh.model import Hints
from dorkos.mesh.strategies.paragraph import first_paragraph, shown_name
from dorkos.mesh.strategies.protocol import Folder
from dorkos.mesh.untrusted import UnreadableFileError, read_file
from dorkos.vocabulary import AgentRuntime

_READ_BYTES = 4096


def product_hints(folder: Folder, runtime: AgentRuntime, *instructions: str) -> Hints:
    """Hints about a folder that `runtime` drives. Of these files the first that is there describes it."""
    there = [name for name in instructions if name in folder.files]
    return Hints(
        suggested_name=shown_name(folder.path.name),
        detected_runtime=runtime,
        inferred_capabilities=("code",),
        description=_description(folder, there[0]) if there else None,
    )


def _description(folder: Folder, name: str) -> str | None:
    try:
        start = read_file(folder.path / name, within=folder.path, limit=_READ_BYTES)
    except (UnreadableFileError, FileNotFoundError):
        # The mark counts all the same: often it is a link to a file that several projects share.
        return None
    return first_paragraph(start)
