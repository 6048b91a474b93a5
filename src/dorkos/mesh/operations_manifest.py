"""What can be asked about manifests as such, without any agent."""

from __future__ import annotations

from typing import Any

from dorkos.identity.model import Caller
from dorkos.mesh.manifest_schema import manifest_schema
from dorkos.mesh.service import MeshService
from dorkos.operation import Nothing, NoTool, Operation
from dorkos.vocabulary import Scope


async def _schema(_mesh: MeshService, _caller: Caller, _asked: Nothing) -> dict[str, Any]:
    return manifest_schema()


MANIFEST_OPERATIONS: tuple[Operation[MeshService, Any, Any], ...] = (
    Operation(
        name="mesh.manifest_schema",
        summary="The JSON Schema of `.dork/agent.json`.",
        part="mesh",
        method="GET",
        path="/api/mesh/manifest-schema",
        scope=Scope.OBSERVE,
        input=Nothing,
        answer=dict[str, Any],
        handler=_schema,
        mcp=NoTool("It is for editors and validators; agents register with `mesh_register`."),
    ),
)
