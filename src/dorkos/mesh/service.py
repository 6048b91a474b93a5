"""Mesh as the rest of the system sees it: discovery, the registry and the denials."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa

from dorkos.boundary import Boundary
from dorkos.clock import Clock
from dorkos.db.database import Database
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.denials import DenialList, denied_paths
from dorkos.mesh.discovery import DEFAULT_LIMITS, Limits, Walk
from dorkos.mesh.model import AgentSchedules, Candidate, Discovery, Mailboxes, Problem
from dorkos.mesh.projects import Projects
from dorkos.mesh.registry import AgentRegistry
from dorkos.mesh.scans import Scans
from dorkos.mesh.store import registered_paths
from dorkos.mesh.strategies.order import STRATEGIES
from dorkos.mesh.strategies.protocol import Strategy
from dorkos.settings import MeshSettings
from dorkos.storable import check_storable


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database says about paths, in one snapshot."""

    denied: set[str]
    agents_by_path: dict[str, str]


class MeshService:
    """The parts of Mesh, wired. It has no background work."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: MeshSettings,
        boundary: Boundary,
        *,
        mailboxes: Mailboxes,
        schedules: AgentSchedules,
        strategies: tuple[Strategy, ...] = STRATEGIES,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`limits` bounds each discovery; its depth is the default of those that name none."""
        self._database = database
        self._clock = clock
        self._settings = settings
        self._boundary = boundary
        self._strategies = strategies
        self._limits = limits
        self._scans = Scans()
        self._projects = Projects(boundary, strategies)
        self.registry = AgentRegistry(
            database, boundary, self._projects, mailboxes=mailboxes, schedules=schedules
        )
        self.denials = DenialList(database, boundary)

    async def discover(
        self, roots: Sequence[str] | None = None, *, max_depth: int | None = None
    ) -> Discovery:
        """Look for agents below `roots`, else below the scan roots of the settings, else the boundary.

        Changes nothing: a candidate becomes an agent only when a person registers it. Raises
        `outside_boundary`, or `not_ready` when discovery is switched off.
        """
        if not self._settings.enabled:
            raise DorkError(
                ErrorCode.NOT_READY,
                "Discovery is switched off.",
                hint="Set `mesh.enabled` (DORKOS_MESH_ENABLED) to true and start the server again.",
            )
        named = roots if roots is not None else [str(root) for root in self._settings.scan_roots]
        real = await asyncio.to_thread(self._confine_all, named or [str(self._boundary.root)])
        known = await self._database.read(_known)
        allowed = [root for root in real if not _is_below(root, known.denied)]
        walk = Walk(
            allowed,
            strategies=self._strategies,
            denied=known.denied,
            registered=known.agents_by_path,
            limits=self._limits if max_depth is None else replace(self._limits, depth=max_depth),
            clock=self._clock,
        )
        found = await self._scans.run(walk)
        denied = tuple(Problem(str(root), "is denied") for root in real if root not in allowed)
        candidates = await asyncio.to_thread(self._judge, found.candidates, known)
        return replace(found, candidates=candidates, problems=denied + found.problems)

    def stop(self) -> None:
        """End the discoveries that are at work, so that a shutdown need not wait for them."""
        self._scans.stop()

    def _confine_all(self, roots: Iterable[str]) -> list[Path]:
        real = [self._boundary.confine(root) for root in roots]
        check_storable([str(root) for root in real])
        return real

    def _judge(self, candidates: Iterable[Candidate], known: _Known) -> tuple[Candidate, ...]:
        """Those that could be registered, with the registered agent that each may be a copy of."""
        ids = set(known.agents_by_path.values())
        return tuple(
            replace(candidate, duplicate_of=_one_of(ids, candidate.hints.manifest_id))
            for candidate in candidates
            if self._projects.may_be_registered(Path(candidate.path))
        )


def _known(connection: sa.Connection) -> _Known:
    return _Known(denied_paths(connection), registered_paths(connection))


def _is_below(path: Path, denied: set[str]) -> bool:
    return any(str(folder) in denied for folder in (path, *path.parents))


def _one_of(ids: set[str], claimed: str | None) -> str | None:
    return claimed if claimed in ids else None
