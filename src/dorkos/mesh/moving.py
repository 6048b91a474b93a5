"""Whether a registered agent may be said to have moved to another folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dorkos.db.database import Transaction
from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.manifest_file import read_manifest
from dorkos.mesh.model import Agent
from dorkos.mesh.projects import Projects
from dorkos.node import AWAY_AFTER, hosts_at_work


def refuse_move(projects: Projects, agent: Agent, after: Path, *, is_here: bool) -> None:
    """Raise the reason why it may not. Blocks on the disk, so it is called in a thread.

    What is still at its old place has not moved, and what is somewhere else as well is a copy. Where
    nobody can tell whether the old folder is there, nothing is concluded from that. Of an agent of another
    machine, which is not `is_here`, this disk says nothing: see `refuse_from_afar`.
    """
    agent_id, before = agent.id, agent.project_path
    projects.require_directory(after)
    if after == before and is_here:
        return
    found = read_manifest(after)
    if isinstance(found, InvalidManifest):
        raise DorkError(
            ErrorCode.INVALID_MANIFEST,
            f"{found.path} {found.reason}.",
            hint="Mend the file, or move it away. Nothing was changed.",
            details={"path": str(found.path), "reason": found.reason},
        )
    claimed = found.id if isinstance(found, Manifest) else None
    if claimed is not None and claimed != agent_id:
        raise DorkError(
            ErrorCode.AGENT_EXISTS,
            f"{found.path} says that it is {claimed}, another agent than {agent_id}.",
            hint="Register the folder as an agent of its own.",
            details={"agentId": claimed, "path": str(after)},
        )
    if is_here and _leads_to(before, after):
        return  # The same folder under another name: a link took its place, or stood in the path ever since.
    if is_here and _is_there(before) and not (claimed == agent_id and _is_another(before, agent_id)):
        raise _still(f"{before} is still there, so {after} is a copy of it, not the same folder moved.")


def refuse_from_afar(tx: Transaction, agent: Agent) -> None:
    """Raise `conflict` for an agent of another machine as long as a server there can see its folder."""
    if agent.unreachable_since is None and agent.host in hosts_at_work(tx, since=tx.now() - AWAY_AFTER):
        raise DorkError(
            ErrorCode.CONFLICT,
            f"{agent.name!r} lies on the host {agent.host!r}, and a server there finds its folder.",
            hint="Move or remove the folder there first, and say `dorkos mesh reconcile` on that host.",
        )


def _leads_to(before: Path, after: Path) -> bool:
    return os.path.realpath(before) == str(after)


def _is_there(folder: Path) -> bool:
    try:
        return stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as fault:
        raise _still(f"Whether {folder} is still there cannot be told: {fault.strerror}.") from fault


def _is_another(folder: Path, agent_id: str) -> bool:
    """Whether something else was put in the place of the agent's folder."""
    found = read_manifest(folder)
    return isinstance(found, NoManifest) or (isinstance(found, Manifest) and found.id != agent_id)


def _still(message: str) -> DorkError:
    return DorkError(
        ErrorCode.CONFLICT,
        message,
        hint="Move or remove the old folder first, or unregister the agent and register the other folder.",
    )
