"""Folders that claim the identity of an agent that is registered elsewhere: copied checkouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dorkos.mesh.manifest import Manifest
from dorkos.mesh.manifest_file import read_manifest
from dorkos.mesh.model import Candidate

_MOST_AGENTS = 1000
_MOST_EACH = 50


class Copies:
    """Remembers what discoveries of this process saw. A copy is shown and never adopted.

    Only a memory of where to look: whether a folder still claims the identity is read from it again.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._seen: dict[str, dict[Path, None]] = {}

    def note(self, candidates: Iterable[Candidate]) -> None:
        """Remember the candidates that claim to be a registered agent."""
        for candidate in candidates:
            if candidate.duplicate_of is None:
                continue
            places = self._seen.setdefault(candidate.duplicate_of, {})
            places[Path(candidate.path)] = None
            while len(places) > _MOST_EACH:
                del places[next(iter(places))]
            while len(self._seen) > _MOST_AGENTS:
                del self._seen[next(iter(self._seen))]

    def of(self, agent_id: str, home: Path) -> tuple[Path, ...]:
        """Folders other than `home` that claim to be this agent right now. Blocks on the disk."""
        places = sorted(path for path in self._seen.get(agent_id, ()) if path != home)
        return tuple(path for path in places if _claims(path, agent_id))


def _claims(path: Path, agent_id: str) -> bool:
    found = read_manifest(path)
    return isinstance(found, Manifest) and found.id == agent_id
