"""Looking for agents on disk: which roots, what to respect there, and what is told of what was found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.copies import Copies
from dorkos.mesh.denials import denied_paths
from dorkos.mesh.discovery import Ground, Limits, Walk
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.model import Candidate, Discovery, Problem, SearchEnd
from dorkos.mesh.patience import Patience
from dorkos.mesh.scans import Finding, Scans
from dorkos.mesh.store import registered_ids, registered_paths
from dorkos.mesh.strategies.protocol import Strategy
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.storable import check_storable


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database says about paths, in one snapshot."""

    denied: set[str]
    registered: set[str]
    ids: set[str]


class Explorer:
    """Discovery. It makes nobody an agent: that is for a person. Only copies of agents are remembered."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: MeshSettings,
        boundary: Boundary,
        *,
        strategies: Sequence[Strategy],
        limits: Limits,
        hosts: Hosts,
        copies: Copies,
    ) -> None:
        """`limits` bounds each discovery; its depth is the default of those that name none."""
        self._database = database
        self._clock = clock
        self._settings = settings
        self._boundary = boundary
        self._strategies = strategies
        self._limits = limits
        self._hosts = hosts
        self._copies = copies
        self._scans = Scans()
        self._disk = Patience[Path]()

    async def discover(self, roots: Sequence[str] | None, *, max_depth: int | None) -> Discovery:
        """All that `search` gives, in one piece, when it is over."""
        candidates: list[Candidate] = []
        problems: list[Problem] = []
        end: SearchEnd | None = None
        async with aclosing(await self.search(roots, max_depth=max_depth)) as findings:
            async for found in findings:
                if isinstance(found, Candidate):
                    candidates.append(found)
                elif isinstance(found, Problem):
                    problems.append(found)
                elif isinstance(found, SearchEnd):
                    end = found
        assert end is not None  # It is the last thing that a search gives.
        return Discovery(tuple(candidates), tuple(problems), end.progress.directories, end.truncated)

    async def search(self, roots: Sequence[str] | None, *, max_depth: int | None) -> AsyncGenerator[Finding]:
        """Look for agents below `roots`, else below the scan roots of the settings, else the boundary.

        Gives candidates and problems as they are found, progress in between, and the end at last. Raises
        `outside_boundary` before anything is read, or `not_ready` when discovery is switched off; the
        generator raises `not_ready` when too many discoveries are at work.
        """
        if not self._settings.enabled:
            raise DorkError(
                ErrorCode.NOT_READY,
                "Discovery is switched off.",
                hint="Set `mesh.enabled` (DORKOS_MESH_ENABLED) to true and start the server again.",
            )
        named = roots if roots is not None else [str(root) for root in self._settings.scan_roots]
        real = [await self._confine(root) for root in named or [str(self._boundary.root)]]
        known = await self._database.read(self._known)
        allowed = [root for root in real if not _is_below(root, known.denied)]
        walk = Walk(
            allowed,
            strategies=self._strategies,
            ground=Ground(
                denied=known.denied,
                registered=known.registered,
                data_directory=str(self._boundary.data_directory),
                home=str(await asyncio.to_thread(_home)),
            ),
            limits=self._limits if max_depth is None else replace(self._limits, depth=max_depth),
            clock=self._clock,
        )
        denied = [Problem(str(root), "is denied") for root in real if root not in allowed]
        return self._findings(walk, denied, known.ids)

    def stop(self) -> None:
        """End the searches that are at work, so that a shutdown need not wait for them."""
        self._scans.stop()

    async def _findings(
        self, walk: Walk, denied: list[Problem], registered: set[str]
    ) -> AsyncGenerator[Finding]:
        for problem in denied:
            yield problem
        async with aclosing(self._scans.watch(walk)) as findings:
            async for found in findings:
                if isinstance(found, Candidate) and found.hints.manifest_id in registered:
                    assert found.hints.manifest_id is not None  # It is among those that are registered.
                    await self._copies.note(found.hints.manifest_id, Path(found.path))
                    yield replace(found, duplicate_of=found.hints.manifest_id)
                else:
                    yield found

    async def _confine(self, root: str) -> Path:
        real = await self._disk.require(root, partial(self._boundary.confine, root))
        check_storable(str(real))
        return real

    def _known(self, connection: sa.Connection) -> _Known:
        return _Known(
            denied=denied_paths(connection),
            registered=set(registered_paths(connection, self._hosts)),
            ids=registered_ids(connection),
        )


def _is_below(path: Path, denied: set[str]) -> bool:
    return any(str(folder) in denied for folder in (path, *path.parents))


def _home() -> Path:
    return Path.home().resolve()
