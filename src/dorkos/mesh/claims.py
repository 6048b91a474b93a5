"""What a manifest says of behaviour, budget and looks, and how these stand in a manifest and in a row.

A manifest was validated when it was read, and leaves out what it says nothing of. What a row from
elsewhere holds may be anything: what is not of the right kind says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from dorkos.mesh.manifest import Manifest, ResponseMode
from dorkos.mesh.model import Agent, Behavior, Budget

_LOOKS = ("persona", "color", "icon")


def behavior_of(stored: object) -> Behavior:
    """A behaviour from JSON."""
    said = stored if isinstance(stored, Mapping) else {}
    mode, threshold = said.get("responseMode"), said.get("escalationThreshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        threshold = None
    return Behavior(
        ResponseMode(mode) if isinstance(mode, str) and mode in list(ResponseMode) else None,
        None if threshold is None else float(threshold),
    )


def budget_of(stored: object) -> Budget:
    """A budget from JSON."""
    said = stored if isinstance(stored, Mapping) else {}
    return Budget(_limit(said.get("maxHopsPerMessage")), _limit(said.get("maxCallsPerHour")))


def behavior_document(behavior: Behavior) -> dict[str, object] | None:
    """A behaviour as it is stored; None if it says nothing."""
    return _nested(_behavior_facts(behavior))


def budget_document(budget: Budget) -> dict[str, object] | None:
    """A budget as it is stored; None if it says nothing."""
    return _nested(_budget_facts(budget))


def stated_looks(manifest: Manifest) -> dict[str, object]:
    """`persona`, `personaEnabled`, `color` and `icon`, as far as the manifest names them; "" takes away."""
    document = manifest.document
    looks: dict[str, object] = {key: document[key] for key in _LOOKS if isinstance(document.get(key), str)}
    if isinstance(document.get("personaEnabled"), bool):
        looks["personaEnabled"] = document["personaEnabled"]
    return looks


def facts_of(agent: Agent) -> dict[str, object]:
    """What is registered of an agent and may change, by the names of the manifest's fields."""
    return {
        "name": agent.name,
        "description": agent.description or "",
        "runtime": agent.runtime.value,
        "capabilities": list(agent.capabilities),
        **_behavior_facts(agent.behavior),
        **_budget_facts(agent.budget),
        "entrypoint": None if agent.entrypoint is None else list(agent.entrypoint),
        "version": agent.version,
        "persona": agent.looks.persona or "",
        "personaEnabled": agent.looks.persona_enabled,
        "color": agent.looks.color or "",
        "icon": agent.looks.icon or "",
    }


def facts_stated(manifest: Manifest) -> dict[str, object]:
    """The facts that the manifest states. That it names no entrypoint is a statement too: a person who
    takes the program out of the file wants it run no more."""
    document = manifest.document
    nested = {
        **_behavior_facts(behavior_of(document.get("behavior"))),
        **_budget_facts(budget_of(document.get("budget"))),
    }
    return {
        "name": manifest.name,
        "runtime": manifest.runtime.value,
        "description": manifest.description,
        "capabilities": list(manifest.capabilities),
        "entrypoint": None if manifest.entrypoint is None else list(manifest.entrypoint),
        **({} if manifest.version is None else {"version": manifest.version}),
        **{key: value for key, value in nested.items() if value is not None},
        **stated_looks(manifest),
    }


def changes(before: Agent, after: Agent) -> dict[str, object]:
    """The facts that differ, with their new values."""
    old, new = facts_of(before), facts_of(after)
    return {key: value for key, value in new.items() if old[key] != value}


def _behavior_facts(behavior: Behavior) -> dict[str, object]:
    mode = behavior.response_mode
    return {
        "behavior.responseMode": None if mode is None else mode.value,
        "behavior.escalationThreshold": behavior.escalation_threshold,
    }


def _budget_facts(budget: Budget) -> dict[str, object]:
    return {
        "budget.maxHopsPerMessage": budget.max_hops_per_message,
        "budget.maxCallsPerHour": budget.max_calls_per_hour,
    }


def _nested(facts: Mapping[str, object]) -> dict[str, object] | None:
    return {key.split(".")[1]: value for key, value in facts.items() if value is not None} or None


def _limit(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None
