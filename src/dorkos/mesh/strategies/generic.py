"""Any agent with a manifest, whatever drives it."""

from __future__ import annotations

from dorkos.mesh.manifest import InvalidManifest, NoManifest
from dorkos.mesh.manifest_file import read_manifest
from dorkos.mesh.model import Hints, Problem
from dorkos.mesh.strategies.paragraph import shortened
from dorkos.mesh.strategies.protocol import Folder


class ManifestStrategy:
    """`.dork/agent.json`. An invalid one is a problem to show, not a folder without a mark."""

    name = "manifest"
    markers = frozenset({".dork"})

    def look(self, folder: Folder) -> Hints | Problem | None:
        """Hints from the manifest's own words."""
        if ".dork" not in folder.directories:
            return None
        found = read_manifest(folder.path)
        if isinstance(found, NoManifest):
            return None
        if isinstance(found, InvalidManifest):
            return Problem(str(found.path), found.reason)
        return Hints(
            suggested_name=found.name,
            detected_runtime=found.runtime,
            inferred_capabilities=found.capabilities,
            description=shortened(found.description) or None,
            namespace=found.namespace,
            entrypoint=found.entrypoint,
            manifest_id=found.id,
            schema_version=found.schema_version,
        )
