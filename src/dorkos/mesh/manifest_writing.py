"""Writing an agent's manifest after its row: the row counts, and the file follows it as soon as it can."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dorkos.db.database import Database
from dorkos.mesh import store
from dorkos.mesh.manifest import Manifest, hash_of
from dorkos.mesh.manifest_file import ManifestNotWrittenError, write_manifest
from dorkos.mesh.model import Agent


async def follow_row(
    database: Database, agent: Agent, data: bytes | None, before: Manifest | None, *, vouches: bool
) -> tuple[Agent, str | None]:
    """Write `data` in the place of the file `before`; the agent as it is stored then, and why the file could
    not be written, or None.

    With `vouches` its hash is stored, and only when the file is there: an old file that could not be
    replaced must not pass for one that somebody edited, which would take the change back. The caller
    holds the lock of the folder.
    """
    if data is None:
        return agent, None
    try:
        replaces = None if before is None else before.hash
        await asyncio.to_thread(write_manifest, agent.project_path, data, replaces=replaces)
    except ManifestNotWrittenError as fault:
        return agent, fault.reason
    written = hash_of(data)
    if vouches and await database.write(lambda tx: store.set_manifest_hash(tx, agent, written)):
        return replace(agent, manifest_hash=written), None
    return agent, None
