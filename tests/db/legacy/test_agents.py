"""Agents, denials and counted calls of every fixture home, value by value, as stored after an import."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dorkos.db.legacy.ids import derived_id
from dorkos.db.legacy.values import read_instant
from tests.db.legacy.adopt_kit import brought
from tests.db.legacy.relay_kit import HOMES, expected_rows

# What one generation of the lineage knew of an agent and another did not.
_DEFAULTS: dict[str, Any] = {
    "entrypoint": None,
    "version": None,
    "status": "active",
    "scan_root": "",
    "behavior_json": None,
    "budget_json": None,
    "persona": None,
    "persona_enabled": 1,
    "color": None,
    "icon": None,
}
_JSON = ("capabilities_json", "behavior_json", "budget_json")


def _in_our_columns(place: str, row: dict[str, Any]) -> dict[str, Any]:
    if place != "mesh/mesh.db agents":
        return {**_DEFAULTS, **row}
    manifest = json.loads(row["manifest_json"])
    columns = {name: value for name, value in row.items() if name not in ("manifest_json", "registered_by")}
    return {
        **_DEFAULTS,
        **columns,
        "approver": row["registered_by"],
        "updated_at": row["registered_at"],
        "behavior_json": json.dumps(manifest["behavior"]),
        "budget_json": json.dumps(manifest["budget"]),
    }


@pytest.mark.parametrize("home", HOMES)
def test_every_agent_is_there_with_every_value(home: str) -> None:
    """An empty namespace became what stood for it in the agent's address; a text is no program to run."""
    target = brought(home)
    stored = target.by_id("agents")
    agents = [_in_our_columns(*found) for found in expected_rows(home, "agents")]
    assert len(stored) == len(agents)
    for agent in agents:
        row = stored[agent["id"]]
        if agent["namespace"] == "":
            agent["namespace"] = agent["project_path"].rpartition("/")[2]
            assert target.kept(f"agents:{agent['id']}:namespace") == ""
        if agent["entrypoint"] is not None:
            assert target.kept(f"agents:{agent['id']}:entrypoint") == agent["entrypoint"]
            agent["entrypoint"] = None
        for column in _JSON:
            assert _parsed(row[column]) == _parsed(agent[column])
        plain = agent.keys() - set(_JSON)
        assert {column: row[column] for column in plain} == {column: agent[column] for column in plain}
        away = agent["updated_at"] if agent["status"] == "unreachable" else None
        assert (row["unreachable_since"], row["manifest_hash"]) == (away, None)


@pytest.mark.parametrize("home", HOMES)
def test_every_denial_is_there_with_every_value(home: str) -> None:
    """Those of the older store had no id and get one that stays the same."""
    stored = {row["path"]: row for row in brought(home).rows("SELECT * FROM agent_denials")}
    denials = expected_rows(home, "agent_denials", "denials")
    assert len(stored) == len(denials)
    for place, denial in denials:
        row = stored[denial["path"]]
        if place == "mesh/mesh.db denials":
            at = read_instant(denial["denied_at"])
            assert row == {
                "id": derived_id(f"agent_denials:{denial['path']}", at),
                "path": denial["path"],
                "reason": denial["reason"],
                "denier": denial["denied_by"],
                "strategy": denial["strategy"],
                "created_at": denial["denied_at"],
            }
        else:
            assert row == {**denial, "strategy": None}


@pytest.mark.parametrize("home", HOMES)
def test_every_counted_minute_is_there(home: str) -> None:
    """Also that of an agent which does not exist."""
    stored = brought(home).rows("SELECT kind, agent_id, bucket_minute, count FROM rate_limit_buckets")
    found = [
        (
            "agent",
            row["agent_id"],
            row["bucket_minute"],
            row["call_count" if "call_count" in row else "count"],
        )
        for _, row in expected_rows(home, "rate_limit_buckets", "budget_counters")
    ]
    assert len(found) >= 10
    assert sorted(tuple(row.values()) for row in stored) == sorted(found)


@pytest.mark.parametrize("home", HOMES)
def test_the_ledger_of_the_lineage_is_kept(home: str) -> None:
    """Every row of every ledger, as JSON."""
    target = brought(home)
    for place, row in expected_rows(home, "__drizzle_migrations"):
        database, _, table = place.partition(" ")
        key = table if database == "dork.db" else f"{database}:{table}"
        assert row in json.loads(target.kept(key) or "[]")


def _parsed(text: str | None) -> object:
    return None if text is None else json.loads(text)
