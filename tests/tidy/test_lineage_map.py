"""`docs/lineage.md` maps every name of the Node system to what is here, and tells the truth about it."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import typer.main

from dorkos.cli.main import app
from dorkos.db.ledger import MIGRATIONS
from dorkos.db.replay import replay
from dorkos.db.schema.tables import metadata
from dorkos.operation import McpTool
from dorkos.server.operations import OPERATIONS
from tests.tidy.rules import ROOT

_ROW = re.compile(r"\| `([^`]+)` \| (?:(not yet: )?`([^`]+)`|(left out)) \| (.*) \|")

# What people who knew that system look for.
_NAMES = {
    *("packages/db", "createDb", "runMigrations", "src/schema/pulse.ts", "src/schema/relay.ts"),
    *("src/schema/mesh.ts", "0000_magenta_gladiator", "0001_messy_vin_gonzales", "0002_cloudy_trish_tilby"),
    *("PulseStore", "SchedulerService", "SqliteIndex", "TraceStore", "RelayCore", "AgentRegistry"),
    *("computeHealthStatus", "DenialList", "BudgetMapper", "MeshCore", "createTestDb", "db:generate"),
    *("db:check", "lefthook.yml", "packages/cli/scripts/build.ts", "mcp-tool-server.ts"),
}
_TOOLS = {
    "ping",
    "get_server_info",
    "get_session_count",
    "list_schedules",
    "create_schedule",
    "update_schedule",
    "delete_schedule",
    "get_run_history",
    "relay_send",
    "relay_inbox",
    "relay_list_endpoints",
    "relay_register_endpoint",
    "relay_list_adapters",
    "relay_enable_adapter",
    "relay_disable_adapter",
    "relay_reload_adapters",
    "relay_get_trace",
    "relay_get_metrics",
    "mesh_discover",
    "mesh_register",
    "mesh_list",
    "mesh_deny",
    "mesh_unregister",
    "mesh_status",
    "mesh_inspect",
    "mesh_query_topology",
    "agent_get_current",
}
_LINEAGE = 3


def _lines() -> list[str]:
    text = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.startswith("| `")]


def _parsed(line: str) -> tuple[str, bool, str, bool, str]:
    """Name there, whether it is yet to come, target, whether it is left out, remark."""
    found = _ROW.fullmatch(line)
    assert found, f"not a row of the map: {line}"
    return found[1], bool(found[2]), found[3] or "", bool(found[4]), found[5]


_ROWS = [_parsed(line) for line in _lines()]


def _exists(target: str) -> bool:
    """A command, a tool, a file or folder, an import path, or a table or column."""
    if target.startswith("dorkos "):
        return _is_command(target.split()[1:])
    if target.startswith("tool "):
        return target.removeprefix("tool ") in {
            operation.mcp.name for operation in OPERATIONS if isinstance(operation.mcp, McpTool)
        }
    if "/" in target or target.endswith((".yml", ".toml")):
        return (ROOT / target).exists()
    if target.startswith("dorkos."):
        return _can_be_imported(target)
    table, _, column = target.partition(".")
    return table in metadata.tables and (not column or column in metadata.tables[table].columns)


def _is_command(path: list[str]) -> bool:
    command: Any = typer.main.get_command(app)
    for word in path:
        command = getattr(command, "commands", {}).get(word)
    return command is not None


def _can_be_imported(path: str) -> bool:
    try:
        importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        try:
            return hasattr(importlib.import_module(module), name)
        except ModuleNotFoundError:
            return False
    return True


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row[0])
def test_the_map_tells_the_truth(row: tuple[str, bool, str, bool, str]) -> None:
    """What is named exists. What is yet to come does not: whoever lands it says so here."""
    name, to_come, target, left_out, remark = row
    if left_out:
        assert remark, f"{name} is left out without a reason"
    else:
        assert _exists(target) is not to_come, f"{name}: {target}"


def test_the_remarks_name_what_exists() -> None:
    """Also the modules and commands that a remark names beside the target."""
    text = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
    to_come = {target for _, later, target, *_ in _ROWS if later}
    there = {name for name, *_ in _ROWS}
    named = {name for name in re.findall(r"`(dorkos[. ][^`]+)`", text) if name not in to_come | there}
    assert len(named) > 30
    assert {name for name in named if not _exists(name)} == set()


def test_every_name_is_in_the_map() -> None:
    """What people look for, each tool that agents had, each table and column."""
    columns = {
        f"{table}.{fact.removeprefix('column ')}"
        for table, facts in replay(MIGRATIONS)[_LINEAGE].items()
        for fact in facts
        if fact.startswith("column ") and table != "schema_ledger"
    }
    wanted = _NAMES | _TOOLS | columns | {column.partition(".")[0] for column in columns}
    assert wanted - {name for name, *_ in _ROWS} == set()


def test_no_name_is_in_the_map_twice() -> None:
    """One thing has one place."""
    names = [name for name, *_ in _ROWS]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("dorkos.db.migrate.migrate_sqlite", True),
        ("dorkos.db.migrate.migrate_mysql", False),
        ("dorkos.nothing.at.all", False),
        ("dorkos db check", True),
        ("dorkos db uncheck", False),
        ("tool ping", True),
        ("tool pong", False),
        ("src/dorkos/app.py", True),
        ("src/dorkos/apple.py", False),
        ("agents", True),
        ("agents.name", True),
        ("agents.nickname", False),
        ("patients", False),
    ],
)
def test_a_target_that_does_not_exist_is_seen(target: str, there: bool) -> None:
    """Of each kind; a check that finds everything would find nothing out."""
    assert _exists(target) is there
