"""What a manifest that was edited by hand says otherwise than the registry, and which of it may count.

How an agent presents itself is taken over on sight: an agent may be renamed in its own file. What would
let it do more than a person approved waits until a person registers the folder again: the program, the
runtime, how it answers messages, what it may spend. Neither id nor namespace ever changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from dorkos.mesh.claims import facts_of, facts_stated
from dorkos.mesh.manifest import InvalidManifest, Manifest, NoManifest
from dorkos.mesh.model import Agent, Looks

_TAKEN_OVER = frozenset(
    {"name", "description", "capabilities", "version", "persona", "personaEnabled", "color", "icon"}
)


class ManifestState(StrEnum):
    """How the manifest on disk stands to the registry."""

    SAME = "same"
    CHANGED = "changed"
    MISSING = "missing"
    INVALID = "invalid"
    FOREIGN = "foreign"
    NEWER = "newer"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Drift:
    """`taken` counts as soon as it is seen; `waiting` when a person registers the folder again. Both by the
    names of the manifest's fields, with the values of the file. `detail` says what is wrong with the file."""

    state: ManifestState
    taken: Mapping[str, object]
    waiting: Mapping[str, object]
    detail: str | None = None


def drift(agent: Agent, found: Manifest | NoManifest | InvalidManifest) -> Drift:
    """Compare what is registered with what was read. A file that cannot be understood changes nothing."""
    if isinstance(found, NoManifest):
        return Drift(ManifestState.MISSING, {}, {}, f"There is no {found.path}.")
    if isinstance(found, InvalidManifest):
        return Drift(ManifestState.INVALID, {}, {}, f"{found.path} {found.reason}.")
    if found.id is not None and found.id != agent.id:
        return Drift(
            ManifestState.FOREIGN, {}, {}, f"{found.path} says that it is {found.id}: another agent."
        )
    if found.is_newer:
        return Drift(
            ManifestState.NEWER, {}, {}, f"{found.path} is of a newer version than this DorkOS knows."
        )
    registered = facts_of(agent)
    differs = {key: value for key, value in facts_stated(found).items() if registered[key] != value}
    taken = {key: value for key, value in differs.items() if key in _TAKEN_OVER}
    waiting = {key: value for key, value in differs.items() if key not in _TAKEN_OVER}
    state = ManifestState.CHANGED if differs else ManifestState.SAME
    return Drift(state, taken, waiting)


def taken_over(agent: Agent, found: Manifest, change: Drift, now: datetime) -> Agent:
    """The agent with what counts at once. Its hash follows only a file of which nothing waits: it says
    which file a person's registration, and nothing beyond it, stands for."""
    said: Mapping[str, Any] = change.taken
    edited = replace(
        agent,
        name=said.get("name", agent.name),
        description=said.get("description", agent.description) or None,
        capabilities=tuple(said.get("capabilities", agent.capabilities)),
        version=said.get("version", agent.version),
        looks=Looks(
            persona=said.get("persona", agent.looks.persona) or None,
            persona_enabled=said.get("personaEnabled", agent.looks.persona_enabled),
            color=said.get("color", agent.looks.color) or None,
            icon=said.get("icon", agent.looks.icon) or None,
        ),
        manifest_hash=agent.manifest_hash if change.waiting else found.hash,
    )
    return agent if edited == agent else replace(edited, updated_at=now)
