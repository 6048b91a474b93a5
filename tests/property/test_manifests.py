"""Manifests are claims of strangers: whatever bytes lie there, reading them ends in one of two ways."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dorkos.mesh.drift import drift, taken_over
from dorkos.mesh.manifest import InvalidManifest, Manifest, ResponseMode, encode_manifest, parse_manifest
from dorkos.mesh.registration import Enrolment, settle
from dorkos.mesh.rewriting import full_manifest
from dorkos.mesh.statement import Statement
from dorkos.vocabulary import AgentRuntime
from tests.mesh.fleet import A_ULID

PATH = Path("/srv/agents/scout/.dork/agent.json")
NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
# What both engines store: of a manifest with anything else nothing is taken.
STORABLE: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), inner, max_size=3
        )
    ),
    max_leaves=8,
)
PLAIN = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20)
LINES = PLAIN.filter(str.strip)
# A field as it should be, or anything at all.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "id": st.just(A_ULID) | LINES,
    "name": LINES,
    "description": PLAIN,
    "runtime": st.sampled_from([runtime.value for runtime in AgentRuntime]),
    "capabilities": st.lists(LINES, max_size=3),
    "behavior": st.fixed_dictionaries(
        {},
        optional={"responseMode": st.sampled_from([mode.value for mode in ResponseMode]), "note": STORABLE},
    ),
    "budget": st.fixed_dictionaries({}, optional={"maxCallsPerHour": st.integers(1, 9), "note": st.none()}),
    "namespace": st.sampled_from(["team", "Team A", ""]),
    "registeredAt": st.just("2026-02-26T10:00:00Z"),
    "registeredBy": LINES,
    "entrypoint": st.lists(LINES, min_size=1, max_size=3),
    "version": LINES,
    "persona": PLAIN | st.just(""),
    "personaEnabled": st.booleans(),
    "color": PLAIN | st.just(""),
    "schemaVersion": st.integers(1, 2),
}
MANIFESTS = st.fixed_dictionaries(
    {"name": FIELDS["name"], "runtime": FIELDS["runtime"]},
    optional={key: values for key, values in FIELDS.items() if key not in ("name", "runtime")},
)
ODD = st.fixed_dictionaries({}, optional={key: values | JSON for key, values in FIELDS.items()})


def read(document: object) -> Manifest | InvalidManifest:
    """What becomes of a document in a file."""
    return parse_manifest(json.dumps(document).encode(), PATH)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_manifest_or_invalid_with_a_reason(data: bytes) -> None:
    """Nothing else comes out of reading them, and a reason is one that can be shown."""
    found = parse_manifest(data, PATH)

    if isinstance(found, InvalidManifest):
        assert found.reason
        found.reason.encode()


@given(ODD)
def test_what_is_read_can_be_written_and_reads_the_same(document: dict[str, Any]) -> None:
    """Unknown fields included, so that nobody loses what we do not know."""
    found = read(document)
    if isinstance(found, InvalidManifest):
        return

    again = parse_manifest(encode_manifest(found.document), PATH)

    assert isinstance(again, Manifest)
    assert again.document == found.document


@given(MANIFESTS)
def test_after_a_registration_file_and_row_say_the_same(document: dict[str, Any]) -> None:
    """The file that is written says all of it, is not written a second time, and differs in nothing."""
    found = read(document)
    assert isinstance(found, Manifest), found
    if found.runtime is AgentRuntime.COMMAND and found.entrypoint is None:
        return
    enrolment = Enrolment(PATH.parent.parent, Statement(), found, None, "scout", "ada")

    settled = settle(enrolment, None, agent_id=A_ULID, host="here", now=NOW)
    data = settled.manifest_data or encode_manifest(found.document)
    written = parse_manifest(data, PATH)

    assert isinstance(written, Manifest)
    assert full_manifest(settled.agent, written) is None
    if not written.is_newer:
        seen = drift(settled.agent, written)
        assert (seen.taken, seen.waiting) == ({}, {})
    unknown = {key: value for key, value in document.items() if key not in FIELDS}
    assert unknown.items() <= dict(written.document).items()


@given(MANIFESTS, MANIFESTS)
def test_an_edit_by_hand_gives_an_agent_nothing_that_a_person_did_not(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Whatever the file says by now: program, runtime, behaviour, budget, id and namespace stay."""
    found, edited = read({**before, "id": A_ULID}), read({**after, "id": A_ULID})
    assert isinstance(found, Manifest)
    assert isinstance(edited, Manifest)
    if found.runtime is AgentRuntime.COMMAND and found.entrypoint is None:
        return
    enrolment = Enrolment(PATH.parent.parent, Statement(), found, None, "scout", "ada")
    agent = settle(enrolment, None, agent_id=A_ULID, host="here", now=NOW).agent

    new = taken_over(agent, edited, drift(agent, edited), NOW)

    for kept in ("id", "namespace", "runtime", "entrypoint", "behavior", "budget", "host", "project_path"):
        assert getattr(new, kept) == getattr(agent, kept)
