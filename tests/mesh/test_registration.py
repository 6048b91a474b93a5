"""What a registration decides, without database or disk."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.mesh.manifest import InvalidManifest, Manifest, ResponseMode, encode_manifest, parse_manifest
from dorkos.mesh.model import Agent, Hints
from dorkos.mesh.registration import Enrolment, Settled, settle
from dorkos.mesh.statement import Statement
from dorkos.vocabulary import AgentRuntime
from tests.mesh.fleet import A_ULID

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
PATH = Path("/srv/team/scout")
HINTS = Hints("hinted", AgentRuntime.CLAUDE_CODE, ("code",), "From CLAUDE.md.")
COMPLETE: dict[str, object] = {
    "color": "teal",
    "name": "Scout",
    "id": A_ULID,
    "runtime": "command",
    "entrypoint": ["./scout"],
    "behavior": {"escalationThreshold": 1, "responseMode": "always"},
    "namespace": "Team",
    "registeredAt": "2025-01-01T00:00:00Z",
    "registeredBy": "grace",
}


def manifest(document: dict[str, object]) -> Manifest:
    """A manifest as it was read."""
    found = parse_manifest(encode_manifest(document), PATH / ".dork" / "agent.json")
    assert isinstance(found, Manifest), found
    return found


def settled(
    document: dict[str, object] | None = None,
    *,
    hints: Hints | None = None,
    existing: Agent | None = None,
    **overrides: object,
) -> Settled:
    """The decision about a folder."""
    enrolment = Enrolment(
        path=PATH,
        overrides=Statement(**overrides),  # type: ignore[arg-type]  # Named by the test.
        manifest=None if document is None else manifest(document),
        hints=hints,
        default_name="scout",
        approver="ada",
    )
    return settle(enrolment, existing, agent_id=A_ULID, host="here", now=NOW)


def written(decision: Settled) -> dict[str, object]:
    """The manifest that is to be written."""
    assert decision.manifest_data is not None
    document: dict[str, object] = json.loads(decision.manifest_data)
    return document


def test_a_folder_without_manifest_is_taken_by_its_hints() -> None:
    """And gets a manifest with the version of the format and the lineage's fields in the lineage's order."""
    decision = settled(hints=HINTS)

    assert decision.agent.name == "hinted"
    assert decision.agent.runtime is AgentRuntime.CLAUDE_CODE
    assert decision.agent.subject == f"relay.agent.team.{A_ULID}"
    assert list(written(decision).items()) == [
        ("schemaVersion", 1),
        ("id", A_ULID),
        ("name", "hinted"),
        ("description", "From CLAUDE.md."),
        ("runtime", "claude-code"),
        ("capabilities", ["code"]),
        ("behavior", {"responseMode": "always"}),
        ("namespace", "team"),
        ("registeredAt", "2026-03-01T09:00:00.000Z"),
        ("registeredBy", "ada"),
    ]


def test_the_persons_word_goes_before_the_manifest_and_the_manifest_before_the_row() -> None:
    """An empty text or list is a word, too."""
    before = settled({**COMPLETE, "description": "old", "capabilities": ["old"], "version": "1"}).agent
    stated = settled(
        {"name": "file", "runtime": "codex", "description": "file", "capabilities": ["file"]},
        existing=before,
        name="mine",
        description="",
    ).agent

    assert stated.name == "mine"
    assert stated.description is None
    assert stated.capabilities == ("file",)
    assert stated.runtime is AgentRuntime.CODEX
    assert stated.version == "1"


def test_an_entrypoint_that_a_person_took_out_of_the_file_is_gone() -> None:
    """It does not come back from the registry into a file that is there; from one that is gone it does."""
    before = settled(COMPLETE).agent
    taken_out = settled({"name": "scout", "runtime": "codex"}, existing=before)

    assert before.entrypoint == ("./scout",)
    assert (taken_out.agent.entrypoint, taken_out.agent.starts_runs) == (None, False)
    assert "entrypoint" not in written(taken_out)
    assert settled(existing=before).agent.entrypoint == ("./scout",)


def test_an_agent_that_was_told_to_be_silent_is_not_woken_by_absence() -> None:
    """With no word about it any more it stays silent, and a file that is written again says so."""
    before = settled(COMPLETE, response_mode=ResponseMode.SILENT).agent
    without_file = settled(existing=before)
    without_key = settled({key: COMPLETE[key] for key in COMPLETE if key != "behavior"}, existing=before)

    assert (without_file.agent.starts_runs, without_key.agent.starts_runs) == (False, False)
    assert written(without_file)["behavior"] == {"responseMode": "silent", "escalationThreshold": 1.0}


def test_an_agent_that_gets_an_entrypoint_later_starts_runs() -> None:
    """The mode was left to its default, and there was nothing to start before."""
    before = settled({"name": "scout", "runtime": "codex"}).agent

    assert settled(
        {"name": "scout", "runtime": "codex", "entrypoint": ["./run"]}, existing=before
    ).agent.starts_runs


def test_a_complete_manifest_is_not_rewritten() -> None:
    """Registering what a repository ships leaves the checkout clean; unknown fields do not disturb."""
    decision = settled(COMPLETE)

    assert decision.manifest_data is None
    assert decision.agent.manifest_hash == manifest(COMPLETE).hash
    assert decision.agent.namespace == "team"


def test_what_is_missing_or_overruled_is_written_and_the_rest_stays() -> None:
    """Unknown fields, their order and the history of the first registration are kept."""
    without_id = {key: value for key, value in COMPLETE.items() if key != "id"}

    decision = settled(without_id, name="Spy", response_mode=ResponseMode.SILENT)

    assert list(written(decision).items()) == [
        ("color", "teal"),
        ("name", "Spy"),
        ("runtime", "command"),
        ("entrypoint", ["./scout"]),
        ("behavior", {"escalationThreshold": 1, "responseMode": "silent"}),
        ("namespace", "Team"),
        ("registeredAt", "2025-01-01T00:00:00Z"),
        ("registeredBy", "grace"),
        ("id", A_ULID),
    ]
    again = parse_manifest(decision.manifest_data or b"", PATH)
    assert not isinstance(again, InvalidManifest)
    # Stored when the new file is there.
    assert decision.agent.manifest_hash == manifest(without_id).hash


def test_a_second_registration_keeps_id_namespace_and_approval() -> None:
    """Whatever the file says by now."""
    before = replace(settled(COMPLETE).agent, id="01JNA0000000000000000000ZZ", approver="grace")

    decision = settled({**COMPLETE, "namespace": "elsewhere"}, existing=before)

    assert decision.agent.id == before.id
    assert decision.agent.namespace == "team"
    assert decision.agent.approver == "grace"
    assert decision.agent.registered_at == before.registered_at
    assert written(decision)["id"] == before.id
    assert written(decision)["namespace"] == "team"


def test_a_manifest_that_is_gone_unsays_nothing() -> None:
    """Absence is not a wish: the row stays, and the file is written again."""
    before = settled({**COMPLETE, "description": "Looks.", "capabilities": ["look"]}).agent

    decision = settled(existing=before, hints=HINTS)

    assert replace(decision.agent, manifest_hash=None) == replace(before, manifest_hash=None)
    assert written(decision)["entrypoint"] == ["./scout"]


def test_moving_to_another_namespace_is_refused() -> None:
    """Naming the same one again is not moving."""
    before = settled(COMPLETE).agent
    settled(COMPLETE, existing=before, namespace="TEAM")

    with pytest.raises(DorkError) as refusal:
        settled(COMPLETE, existing=before, namespace="other")
    assert refusal.value.code is ErrorCode.AGENT_EXISTS
    assert "never changes" in refusal.value.message


def test_a_runtime_has_to_come_from_somewhere() -> None:
    """The refusal lists the words."""
    with pytest.raises(DorkError) as refusal:
        settled()
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert "claude-code" in (refusal.value.hint or "")


def test_the_runtime_command_needs_a_program() -> None:
    """Otherwise every run of it would fail."""
    with pytest.raises(DorkError) as refusal:
        settled(runtime=AgentRuntime.COMMAND)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert "entrypoint" in (refusal.value.hint or "")
    assert settled(runtime=AgentRuntime.COMMAND, entrypoint=("./run",)).agent.entrypoint == ("./run",)


@pytest.mark.parametrize(
    ("entrypoint", "mode", "starts_runs"),
    [
        (("./run",), None, True),
        (("./run",), ResponseMode.MENTION_ONLY, True),
        (("./run",), ResponseMode.SILENT, False),
        (None, ResponseMode.ALWAYS, False),
    ],
)
def test_messages_start_runs_of_an_agent_that_can_and_wants_to(
    entrypoint: tuple[str, ...] | None, mode: ResponseMode | None, starts_runs: bool
) -> None:
    """It takes a program, and a response mode other than `silent`."""
    decision = settled(runtime=AgentRuntime.CODEX, entrypoint=entrypoint, response_mode=mode)

    assert decision.agent.starts_runs is starts_runs
