"""Folders on disk as the registry meets them: confined, read with care, never changed here."""

from __future__ import annotations

from pathlib import Path

from dorkos.boundary import Boundary
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.manifest_file import manifest_path, read_manifest
from dorkos.mesh.model import Hints
from dorkos.mesh.registration import Enrolment
from dorkos.mesh.statement import Statement
from dorkos.mesh.strategies.order import first_answer
from dorkos.mesh.strategies.paragraph import shown_name
from dorkos.mesh.strategies.protocol import Strategy, folder_at
from dorkos.storable import check_storable


class Projects:
    """Everything here blocks on the disk, so it is called in a thread."""

    def __init__(self, boundary: Boundary, strategies: tuple[Strategy, ...]) -> None:
        """Keep the collaborators."""
        self._boundary = boundary
        self._strategies = strategies

    def confine(self, path: str) -> Path:
        """The real path of a folder that may be registered. Raises `outside_boundary` or `invalid_text`."""
        project = self._boundary.confine(path)
        # A name may be sent in good order and lead, by a link, to one that cannot be stored.
        check_storable(str(project))
        # The manifest of a home directory would lie in the data directory, if that is `~/.dork`.
        if project.is_dir():
            self._boundary.confine(str(manifest_path(project).parent))
        return project

    def scan_root(self, path: str) -> Path:
        """The real path of the folder whose scan found a project.

        Raises `outside_boundary` or `invalid_text`.
        """
        real = self._boundary.confine(path)
        check_storable(str(real))
        return real

    def require_directory(self, project: Path) -> None:
        """Raise `validation_failed` if there is no such directory."""
        if not project.is_dir():
            raise DorkError(
                ErrorCode.VALIDATION_FAILED,
                f"There is no directory {project}.",
                hint="Name a directory that exists.",
            )

    def enrol(self, project: Path, overrides: Statement, approver: str) -> Enrolment:
        """Gather what the folder says. Raises `validation_failed` or `invalid_manifest`."""
        self.require_directory(project)
        found = read_manifest(project)
        if isinstance(found, InvalidManifest):
            raise DorkError(
                ErrorCode.INVALID_MANIFEST,
                f"{found.path} {found.reason}.",
                hint="Mend the file, or move it away and a new one is written. Nothing was changed.",
                details={"path": str(found.path), "reason": found.reason},
            )
        return Enrolment(
            path=project,
            overrides=overrides,
            manifest=found if isinstance(found, Manifest) else None,
            hints=self._hints(project) if isinstance(found, NoManifest) else None,
            default_name=shown_name(project.name),
            approver=approver,
        )

    def manifest_of(self, project: Path) -> Manifest | NoManifest | InvalidManifest:
        """The manifest of a registered folder, unless its path leads to another place by now."""
        path = manifest_path(project)
        try:
            is_same = self.confine(str(project)) == project
        except DorkError as fault:
            return InvalidManifest(path, f"is out of reach: {fault.message.rstrip('.')}")
        if not is_same:
            why = "a link took its folder's place; if it leads to the same one, say `dorkos mesh move`"
            return InvalidManifest(path, f"is out of reach: {why}")
        return read_manifest(project)

    def _hints(self, project: Path) -> Hints | None:
        markers = {marker for strategy in self._strategies for marker in strategy.markers}
        answer = first_answer(self._strategies, folder_at(project, markers))
        return answer[1] if answer is not None and isinstance(answer[1], Hints) else None
