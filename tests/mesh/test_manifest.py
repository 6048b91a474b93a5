"""What a manifest may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dorkos.mesh.manifest import (
    MAX_BYTES,
    InvalidManifest,
    Manifest,
    ResponseMode,
    encode_manifest,
    parse_manifest,
)
from dorkos.vocabulary import AgentRuntime

PATH = Path("/srv/project/.dork/agent.json")
LEAST = {"name": "Scout", "runtime": "command"}


def parsed(document: object) -> Manifest:
    """The manifest in a document that is valid."""
    found = parse_manifest(json.dumps(document).encode(), PATH)
    assert isinstance(found, Manifest), found
    return found


def reason_of(data: bytes) -> str:
    """Why the bytes are no manifest."""
    found = parse_manifest(data, PATH)
    assert isinstance(found, InvalidManifest)
    assert found.path == PATH
    return found.reason


def test_a_name_and_a_runtime_are_enough() -> None:
    """A person can write a manifest by hand; the rest has defaults."""
    found = parsed(LEAST)

    assert (found.name, found.runtime) == ("Scout", AgentRuntime.COMMAND)
    assert (found.id, found.description, found.capabilities, found.entrypoint) == (None, "", (), None)
    assert found.response_mode is None


def test_every_field_is_read() -> None:
    """The lineage's fields with those that came right after, the entrypoint and the versions."""
    found = parsed(
        {
            "id": "abc",
            "name": "Späher",
            "description": "Looks around.",
            "runtime": "claude-code",
            "capabilities": ["code", "review"],
            "behavior": {"responseMode": "silent", "escalationThreshold": 0.5},
            "budget": {"maxHopsPerMessage": 3, "maxCallsPerHour": 9},
            "persona": "You look.\nYou tell.",
            "personaEnabled": False,
            "color": "teal",
            "icon": "\U0001f50e",
            "schemaVersion": 1,
            "namespace": "My Team",
            "registeredAt": "2026-02-26T10:00:00Z",
            "registeredBy": "ada",
            "entrypoint": ["python3", "agent.py"],
            "version": "1.2.0",
        }
    )

    assert found.id == "abc"
    assert found.name == "Späher"
    assert found.description == "Looks around."
    assert found.runtime is AgentRuntime.CLAUDE_CODE
    assert found.capabilities == ("code", "review")
    assert found.response_mode is ResponseMode.SILENT
    assert found.namespace == "My Team"
    assert found.registered_at == "2026-02-26T10:00:00Z"
    assert found.registered_by == "ada"
    assert found.entrypoint == ("python3", "agent.py")
    assert found.version == "1.2.0"
    assert (found.schema_version, found.is_newer) == (1, False)


def test_unknown_fields_are_kept_through_reading_and_writing() -> None:
    """A newer version's fields, or another tool's, survive."""
    document = {
        **LEAST,
        "mood": "calm",
        "behavior": {"patience": 3},
        "nested": {"deep": [1, 2.5, None, True]},
    }

    again = parse_manifest(encode_manifest(parsed(document).document), PATH)

    assert isinstance(again, Manifest)
    assert again.document == document


def test_a_byte_order_mark_is_no_fault() -> None:
    """Editors on Windows write one."""
    assert isinstance(parse_manifest(b"\xef\xbb\xbf" + json.dumps(LEAST).encode(), PATH), Manifest)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"   ", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"\xff\xfe{}", "is not UTF-8"),
        (b"[" * 100_000, "is nested deeper"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "is nested deeper"),
        (b'{"name": "x", "runtime": "codex", "n": NaN}', "NaN"),
        (b'{"name": "x", "runtime": "codex", "n": 1e999}', "infinite"),
        (b'{"name": "x\\u0000", "runtime": "codex"}', "U+0000"),
        (b'{"name": "x", "runtime": "codex", "\\ud800": 1}', "lone surrogate"),
        (b'{"name": "x", "runtime": "codex", "n": ' + b"9" * 30 + b"}", "64 bits"),
        (b'{"name": "x", "runtime": "codex", "n": ' + b"9" * 9000 + b"}", "64 bits"),
        (b'{"name": "x", "runtime": "codex", "name": "y"}', "says `name` twice"),
        (b'{"name": "x", "runtime": "codex", "n": [{"a": 1, "a": 1}]}', "says `a` twice"),
        (b"{}" + b" " * MAX_BYTES, "is larger than 256 KiB"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_json_object_is_invalid_with_a_reason(data: bytes, reason: str) -> None:
    """Nothing in a file makes reading it fail in another way."""
    assert reason in reason_of(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "`name`"),
        ({"name": ""}, "`name`"),
        ({"name": "  "}, "must not be blank"),
        ({"name": "a\u001b[31mred"}, "control characters"),
        ({"name": "n" * 201}, "`name`"),
        ({"name": 5}, "`name`"),
        ({"id": ""}, "`id`"),
        ({"id": 5}, "`id`"),
        ({"description": 5}, "`description`"),
        ({"capabilities": "code"}, "`capabilities`"),
        ({"capabilities": [""]}, "`capabilities.0`"),
        ({"capabilities": [1]}, "`capabilities.0`"),
        ({"behavior": {"responseMode": "loud"}}, "silent"),
        ({"behavior": {"escalationThreshold": "high"}}, "`behavior.escalationThreshold`"),
        ({"behavior": None}, "`behavior`"),
        ({"budget": {"maxCallsPerHour": 0}}, "`budget.maxCallsPerHour`"),
        ({"budget": {"maxCallsPerHour": "9"}}, "`budget.maxCallsPerHour`"),
        ({"budget": {"maxHopsPerMessage": 2.5}}, "`budget.maxHopsPerMessage`"),
        ({"budget": {"maxHopsPerMessage": 2**53}}, "`budget.maxHopsPerMessage`"),
        ({"budget": {"maxHopsPerMessage": True}}, "`budget.maxHopsPerMessage`"),
        ({"persona": "p" * 4001}, "`persona`"),
        ({"personaEnabled": "yes"}, "`personaEnabled`"),
        ({"color": "c" * 101}, "`color`"),
        ({"icon": "a\u001b[31m"}, "control characters"),
        ({"schemaVersion": 0}, "`schemaVersion`"),
        ({"schemaVersion": "1"}, "`schemaVersion`"),
        ({"schemaVersion": None}, "`schemaVersion`"),
        ({"namespace": "n" * 65}, "`namespace`"),
        ({"registeredAt": "yesterday"}, "`registeredAt`"),
        ({"registeredAt": "2026-02-26T10:00:00"}, "time zone"),
        ({"registeredAt": "0001-01-01T00:00:00+23:00"}, "not an instant"),
        ({"registeredBy": ""}, "`registeredBy`"),
        ({"entrypoint": "python3 agent.py"}, "`entrypoint`"),
        ({"entrypoint": []}, "`entrypoint`"),
        ({"entrypoint": ["python3", ""]}, "`entrypoint.1`"),
        ({"entrypoint": ["x"] * 101}, "`entrypoint`"),
        ({"entrypoint": ["x" * 4096, "y" * 4097]}, "8192 characters"),
        ({"capabilities": ["x"] * 101}, "`capabilities`"),
        ({"version": 2}, "`version`"),
    ],
    ids=str,
)
def test_a_field_with_a_wrong_value_is_named(change: dict[str, object], reason: str) -> None:
    """One wrong field makes the manifest invalid, and the reason says which."""
    assert reason in reason_of(json.dumps({**LEAST, **change}).encode())


def test_an_unknown_runtime_is_answered_with_the_known_ones() -> None:
    """The word itself is cut short, so that a reason stays readable."""
    reason = reason_of(json.dumps({"name": "x", "runtime": "z" * 10_000}).encode())

    assert len(reason) < 300
    for runtime in AgentRuntime:
        assert repr(runtime.value) in reason


def test_a_newer_version_is_read_as_far_as_it_is_understood() -> None:
    """It says that it is newer; and if it is not understood, that is the likely reason."""
    newer = parsed({**LEAST, "schemaVersion": 7, "name": "Scout", "budget": {"maxTokens": 5}})

    assert (newer.schema_version, newer.is_newer, newer.name) == (7, True, "Scout")
    assert reason_of(json.dumps({"schemaVersion": 7, "title": "Scout"}).encode()) == (
        "is of version 7, newer than the 1 that this DorkOS knows, and has no `name`"
    )


def test_a_missing_field_is_named() -> None:
    """Name and runtime are required."""
    assert reason_of(b'{"runtime": "codex"}') == "has no `name`"
    assert reason_of(b'{"name": "x"}') == "has no `runtime`"


def test_the_file_is_written_for_people() -> None:
    """Two spaces, non-ASCII as it is, one newline at the end."""
    assert encode_manifest({"name": "Späher"}) == '{\n  "name": "Späher"\n}\n'.encode()
