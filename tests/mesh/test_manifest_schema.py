"""The published schema says what the reader does."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from dorkos.mesh.manifest import InvalidManifest, parse_manifest
from dorkos.mesh.manifest_schema import manifest_schema
from dorkos.vocabulary import AgentRuntime

LEAST: dict[str, object] = {"name": "Scout", "runtime": "command"}

WRONG: list[dict[str, object]] = [
    {"name": ""}, {"name": " "}, {"name": "\u3000"}, {"name": "n" * 201}, {"name": "a\nb"},
    {"name": None}, {"id": ""}, {"id": 5}, {"description": None}, {"description": "d" * 10_001},
    {"capabilities": "code"}, {"capabilities": [""]}, {"capabilities": ["a\u001bb"]},
    {"capabilities": ["x"] * 101}, {"behavior": []}, {"behavior": {"responseMode": "loud"}},
    {"behavior": {"escalationThreshold": "1"}}, {"budget": {"maxHopsPerMessage": 0}},
    {"budget": {"maxHopsPerMessage": "3"}}, {"budget": {"maxCallsPerHour": 2**53}},
    {"budget": {"maxCallsPerHour": 1.5}}, {"budget": {"maxCallsPerHour": True}},
    {"namespace": "n" * 65}, {"persona": "p" * 4001}, {"personaEnabled": 1},
    {"color": "c" * 101}, {"icon": "\u009b"}, {"entrypoint": []}, {"entrypoint": [""]},
    {"entrypoint": "./agent"}, {"entrypoint": ["x"] * 101}, {"version": 2}, {"version": ""},
    {"name": "\u202egnp"}, {"name": "a\u2028b"}, {"capabilities": ["\u2066x"]}, {"color": "\u2069"},
    {"registeredBy": ""}, {"registeredAt": 5}, {"schemaVersion": 0}, {"schemaVersion": "1"},
]  # fmt: skip

# It comes with the MCP SDK, and without types.
jsonschema: Any = importlib.import_module("jsonschema")


def is_valid(document: object) -> bool:
    """Whether a validator that knows nothing of us takes the document."""
    schema = manifest_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return bool(jsonschema.Draft202012Validator(schema).is_valid(document))


def is_read(document: object) -> bool:
    """Whether we take it."""
    data = json.dumps(document).encode()
    return not isinstance(parse_manifest(data, Path("/srv/agent.json")), InvalidManifest)


def test_every_field_is_described() -> None:
    """The schema is what a person sees while writing a manifest."""
    schema = manifest_schema()
    parts = [schema, *(part for part in schema["$defs"].values() if "properties" in part)]
    silent = [
        name for part in parts for name, field in part["properties"].items() if "description" not in field
    ]
    assert silent == []


@pytest.mark.parametrize("runtime", AgentRuntime)
def test_each_runtime_may_stand_in_a_manifest(runtime: AgentRuntime) -> None:
    """And no other word."""
    assert is_valid({"name": "x", "runtime": runtime.value})
    assert is_read({"name": "x", "runtime": runtime.value})


@pytest.mark.parametrize(
    "change",
    [
        {}, {"id": None}, {"id": "abc"}, {"description": ""}, {"capabilities": []}, {"capabilities": ["a b"]},
        {"behavior": {}}, {"behavior": {"responseMode": "silent", "escalationThreshold": 1}},
        {"budget": {"maxHopsPerMessage": 1, "maxCallsPerHour": 2**53 - 1}}, {"namespace": ""},
        {"persona": "Two\nlines."}, {"personaEnabled": True}, {"color": ""}, {"icon": None},
        {"entrypoint": ["./agent", "--fast"]}, {"version": "1"}, {"registeredAt": "2026-02-26T10:00:00Z"},
        {"registeredBy": "ada"}, {"schemaVersion": 1}, {"schemaVersion": 2}, {"unknown": {"kept": True}},
        {"$schema": "urn:dorkos:agent-manifest:1"}, {"name": "\u00a0x"}, {"name": "n" * 200},
    ],
    ids=str,
)  # fmt: skip
def test_what_the_reader_takes_is_valid(change: dict[str, object]) -> None:
    """Unknown fields included."""
    document = {**LEAST, **change}
    assert (is_valid(document), is_read(document)) == (True, True)


@pytest.mark.parametrize(
    "document",
    [
        [], {}, {"name": "x"}, {"runtime": "codex"}, {"name": "x", "runtime": "cobol"},
        *({**LEAST, **change} for change in WRONG),
    ],
    ids=lambda document: str(document)[:60],
)  # fmt: skip
def test_what_the_reader_refuses_is_invalid(document: object) -> None:
    """A tool that checks its manifest by the schema is not surprised here."""
    assert (is_valid(document), is_read(document)) == (False, False)
