"""Looking at the folders of registered agents."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.model import Agent
from dorkos.mesh.patience import NoAnswerError, Patience
from dorkos.mesh.projects import Projects


class Presence(StrEnum):
    """Three states that are never confused: only `gone` says that the folder is away."""

    THERE = "there"
    GONE = "gone"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at an agent's folder showed. `found` is its manifest, if the folder is there."""

    presence: Presence
    found: Manifest | NoManifest | InvalidManifest | None = None
    detail: str | None = None


class Folders:
    """One look at each folder at a time, and none that anybody waits for without end."""

    def __init__(self, projects: Projects, *, patience_s: float | None = None) -> None:
        """`patience_s` is how long one look may take."""
        self._projects = projects
        self._patience = Patience[Look](patience_s)

    async def look(self, agent: Agent) -> Look:
        """What is at the agent's path now. Never raises for what is on the disk.

        Whoever asks while another look at the same folder is at work gets what that one sees.
        """
        try:
            return await self._patience.wait_for(agent.id, partial(self._look, agent))
        except NoAnswerError as fault:
            return Look(Presence.UNREADABLE, detail=fault.detail)

    def _look(self, agent: Agent) -> Look:
        try:
            mode = agent.project_path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return Look(Presence.GONE)
        except OSError as fault:
            return Look(Presence.UNREADABLE, detail=f"{agent.project_path}: {fault.strerror}")
        except ValueError:  # A row from elsewhere may hold a text that is no path.
            return Look(Presence.UNREADABLE, detail=f"{str(agent.project_path)!r} is no path")
        if not stat.S_ISDIR(mode):
            return Look(Presence.GONE, detail=f"{agent.project_path} is no directory")
        return Look(Presence.THERE, self._projects.manifest_of(agent.project_path))
