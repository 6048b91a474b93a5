"""Looking at the folders of registered agents, with patience that ends."""

from __future__ import annotations

import asyncio
import logging
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.model import Agent
from dorkos.mesh.projects import Projects

log = logging.getLogger("dorkos.mesh")

_PATIENCE_S = 5.0


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
    """Looks in threads of their own, because a disk that does not answer can hold a thread for ever.

    An agent whose last look never came back is not looked at again until it does, so threads do not pile
    up, and no other agent waits for it.
    """

    def __init__(self, projects: Projects, *, patience_s: float = _PATIENCE_S) -> None:
        """`patience_s` is how long one look may take."""
        self._projects = projects
        self._patience_s = patience_s
        self._at_work: dict[str, asyncio.Future[Look]] = {}
        self._overdue: set[str] = set()

    async def look(self, agent: Agent) -> Look:
        """What is at the agent's path now. Never raises for what is on the disk.

        Whoever asks while another look at the same folder is at work gets what that one sees.
        """
        if agent.id in self._overdue:
            return Look(Presence.UNREADABLE, detail="an earlier look has not come back from the disk")
        work = self._at_work.get(agent.id) or self._in_thread(agent)
        try:
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(work)
        except TimeoutError:
            self._overdue.add(agent.id)
            return Look(Presence.UNREADABLE, detail=f"the disk did not answer within {self._patience_s:g} s")

    def _look(self, agent: Agent) -> Look:
        try:
            mode = agent.project_path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return Look(Presence.GONE)
        except OSError as fault:
            return Look(Presence.UNREADABLE, detail=f"{agent.project_path}: {fault.strerror}")
        if not stat.S_ISDIR(mode):
            return Look(Presence.GONE, detail=f"{agent.project_path} is no directory")
        return Look(Presence.THERE, self._projects.manifest_of(agent.project_path))

    def _in_thread(self, agent: Agent) -> asyncio.Future[Look]:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Look] = loop.create_future()
        self._at_work[agent.id] = outcome

        def settle(give: Callable[[], None]) -> None:
            del self._at_work[agent.id]
            self._overdue.discard(agent.id)
            give()
            if outcome.exception() is not None:
                log.debug("a look at %s failed", agent.project_path)  # Seen, should nobody wait for it now.

        def work() -> None:
            try:
                seen = self._look(agent)
            except Exception as fault:  # noqa: BLE001  # It comes out of `look`, in the caller's loop.
                failure = fault
                tell = lambda: settle(lambda: outcome.set_exception(failure))  # noqa: E731  # Named for the call below.
            else:
                tell = lambda: settle(lambda: outcome.set_result(seen))  # noqa: E731  # As above.
            try:
                loop.call_soon_threadsafe(tell)
            except RuntimeError:
                log.debug("the event loop closed before a look came back from the disk")

        # A daemon, because a thread that hangs on a disk must not keep the process from ending.
        threading.Thread(target=work, name="dorkos-look", daemon=True).start()
        return outcome
