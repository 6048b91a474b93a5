"""The tools that the operations become."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from dorkos.operation import McpTool, NoTool, Operation
from dorkos.server.inputs import from_json
from dorkos.server.mcp.schemas import input_schema, output_schema
from dorkos.server.mcp.tools import Tool, tools_of
from dorkos.server.operations import OPERATIONS

TOOLS = tools_of(OPERATIONS)
_NULL = {"type": "null"}
each = pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)

# The lineage's tools, as far as what they are about exists.
LINEAGE = {
    "ping": set[str](),
    "get_server_info": {"include_uptime"},
    "list_schedules": {"enabled_only"},
    "create_schedule": {"name", "prompt", "cron", "cwd", "timezone", "maxRuntime", "permissionMode"},
    "update_schedule": {
        "id", "name", "prompt", "cron", "timezone", "permissionMode", "enabled", "maxRuntime",
    },
    "delete_schedule": {"id"},
    "get_run_history": {"schedule_id", "limit"},
    "relay_get_trace": {"messageId"},
    "relay_get_metrics": set(),
    "relay_send": {"subject", "payload", "from", "replyTo", "budget"},
    "relay_inbox": {"endpoint_subject", "limit", "status"},
    "relay_list_endpoints": set[str](),
    "relay_register_endpoint": {"subject", "description"},
    "mesh_discover": {"roots", "maxDepth"},
    "mesh_register": {"path", "name", "description", "runtime", "capabilities"},
    "mesh_list": {"runtime", "capability", "callerNamespace"},
    "mesh_deny": {"path", "reason"},
    "mesh_unregister": {"agentId"},
    "mesh_inspect": {"agentId"},
}  # fmt: skip


def _keywords(schema: Any) -> set[str]:
    """The keywords of a schema; names of properties are none."""
    if isinstance(schema, list):
        return set().union(*map(_keywords, schema))
    if not isinstance(schema, dict):
        return set()
    found = set(schema)
    for key, value in schema.items():
        named = key in ("properties", "$defs") and isinstance(value, dict)
        found |= set().union(*map(_keywords, value.values())) if named else _keywords(value)
    return found


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_operation_has_a_tool_or_a_reason(operation: Operation[Any, Any, Any]) -> None:
    """Nobody forgets the agents: an operation they cannot call says why."""
    if isinstance(operation.mcp, NoTool):
        assert operation.mcp.reason.endswith(".")
    else:
        assert isinstance(operation.mcp, McpTool)


def test_names_are_unique() -> None:
    """Of two tools of one name only one could ever be called."""
    names = Counter(operation.mcp.name for operation in OPERATIONS if isinstance(operation.mcp, McpTool))
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("name", LINEAGE)
def test_the_tools_of_the_lineage_are_there_with_their_parameters(name: str) -> None:
    """An agent's instructions written for it go on to work."""
    assert LINEAGE[name] <= set(TOOLS[name].takes["properties"])


@each
def test_it_is_small_and_plain(tool: Tool) -> None:
    """A model reads every tool before it does anything, and not every client follows references."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", tool.name)
    assert tool.spec.description.endswith(".")
    assert len(tool.spec.description) <= 100
    assert tool.takes["type"] == tool.answers["type"] == "object"
    assert not _keywords(tool.takes) & {"$ref", "$defs", "title"}
    assert not _keywords(tool.answers) & {"title", "description"}


def test_all_of_them_together_are_small() -> None:
    """What a model has to read grows only on purpose: about 5,000 words at most."""
    shown = [[tool.name, tool.spec.description, tool.takes] for tool in TOOLS.values()]
    assert len(json.dumps(shown)) < 32_000


@each
def test_its_marks_agree(tool: Tool) -> None:
    """What only reads neither destroys nor reaches outside; what is read by GET changes nothing."""
    spec = tool.spec
    assert not (spec.read_only and (spec.destructive or spec.open_world))
    assert spec.read_only or tool.operation.method != "GET"
    assert spec.destructive or tool.operation.method != "DELETE" or tool.name == "mesh_allow"


@each
def test_what_differs_is_whole(tool: Tool) -> None:
    """A tool with parameters or an answer of its own says how they become the operation's."""
    spec = tool.spec
    assert (spec.input is None) == (spec.ask is None)
    assert (spec.answer is None) == (spec.present is None)


def test_null_is_shown_where_it_says_something() -> None:
    """Where it takes a value away, and where a description speaks of it; elsewhere it means nothing."""
    named = {
        f"{tool.name}.{name}"
        for tool in TOOLS.values()
        for name, field in tool.takes["properties"].items()
        if _NULL in field.get("anyOf", ())
    }
    assert {"update_schedule.description", "update_schedule.cwd", "create_schedule.timezone"} <= named
    assert not {"create_schedule.agentId", "relay_send.from", "relay_list_messages.cursor"} & named
    for tool in TOOLS.values():
        for name, field in tool.takes["properties"].items():
            may_say = tool.operation.method == "PATCH" or "null" in field.get("description", "")
            assert may_say or f"{tool.name}.{name}" not in named
            assert not any(
                "description" in option for option in field.get("anyOf", ()) if "description" in field
            )


def test_what_is_not_shown_is_accepted() -> None:
    """Models that were taught to send null for nothing go on to work."""
    for tool in TOOLS.values():
        fields = (tool.spec.input or tool.operation.input).model_fields
        nothing = {field.alias or name: None for name, field in fields.items() if field.default is None}
        needed = {field.alias or name for name, field in fields.items() if field.is_required()}
        if needed <= {"id", "subject"}:
            given = {**nothing, **{name: f"relay.human.{name}" for name in needed - {"id"}}}
            from_json(tool.spec.input or tool.operation.input, given | dict.fromkeys(needed & {"id"}, "x1"))


def test_an_input_is_written_out() -> None:
    """What stands beside a reference stays, and so do properties that are called like keywords."""
    schema = input_schema(TOOLS["relay_send"].operation.input, null_clears=False)
    assert schema["required"] == ["subject"]
    assert schema["properties"]["budget"]["properties"]["maxHops"]["maximum"] == 1000
    assert "default" not in schema["properties"]["budget"]
    assert "description" in TOOLS["create_schedule"].takes["properties"]
    assert (
        "description"
        in output_schema(TOOLS["create_schedule"].spec.answer)["$defs"]["ScheduleDetail"]["properties"]
    )
