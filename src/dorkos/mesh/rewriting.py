"""New bytes for a manifest, so that it says what the registry says.

What is right in a file stays as it is written there, and so do fields that we do not know.
"""

from __future__ import annotations

from collections.abc import Mapping

from dorkos.clock import iso
from dorkos.mesh.claims import facts_of, facts_stated
from dorkos.mesh.manifest import SCHEMA_VERSION, Manifest, encode_manifest
from dorkos.mesh.model import Agent
from dorkos.mesh.namespace import normalise

_OURS = ("entrypoint", "version", "persona", "personaEnabled", "color", "icon")
# What a new file says only if it is not this.
_UNSAID: Mapping[str, object] = {"persona": "", "personaEnabled": True, "color": "", "icon": ""}


def full_manifest(agent: Agent, manifest: Manifest | None) -> bytes | None:
    """The bytes of a manifest that says all that the registry says; None if the one on disk does already.

    When it was registered, and by whom, is history: it is filled in, never changed.
    """
    document: dict[str, object] = (
        {"schemaVersion": SCHEMA_VERSION} if manifest is None else dict(manifest.document)
    )
    said = {} if manifest is None else _said(manifest)
    facts = facts_of(agent)
    ours = {key: facts.pop(key) for key in _OURS}
    # In the order in which the lineage wrote a new file; what it did not know comes last.
    wanted: dict[str, object] = {
        "id": agent.id,
        **facts,
        "namespace": agent.namespace,
        "registeredAt": document.get("registeredAt") or iso(agent.registered_at),
        "registeredBy": document.get("registeredBy") or agent.approver,
        **ours,
    }
    for key, value in wanted.items():
        is_said = said.get(key, _UNSAID.get(key)) == value
        if value is not None and not is_said:
            _put(document, key, value)
    if manifest is not None and document == manifest.document:
        return None
    return encode_manifest(document)


def edited_manifest(manifest: Manifest, changes: Mapping[str, object]) -> bytes:
    """The manifest's bytes with some of its fields replaced; None takes a field out."""
    document = dict(manifest.document)
    for key, value in changes.items():
        _put(document, key, value)
    return encode_manifest(document)


def _put(document: dict[str, object], key: str, value: object) -> None:
    outer, _, inner = key.partition(".")
    if inner:
        held = document.get(outer)
        part: dict[str, object] = dict(held) if isinstance(held, dict) else {}
        _put(part, inner, value)
        document[outer] = part
    elif value is None:
        document.pop(outer, None)
    else:
        document[outer] = value


def _said(manifest: Manifest) -> dict[str, object]:
    """What the manifest comes down to, in the terms of what the registry wants it to say."""
    return {
        **facts_stated(manifest),
        "id": manifest.id,
        "namespace": normalise(manifest.namespace or ""),
        "registeredAt": manifest.registered_at,
        "registeredBy": manifest.registered_by,
    }
