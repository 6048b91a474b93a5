"""The JSON Schema of the manifest, for editors and for tools that write manifests.

It is made from the model that reads the file, and published as `agent.schema.json` beside this module, so
that it can be had without a server. A few rules of the reader cannot be said in it: an entrypoint's words
have at most 8192 characters together, nothing is nested deeper than 64 levels, and a whole number is
written without a point.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dorkos.mesh.manifest import SCHEMA_VERSION, ManifestDocument

PUBLISHED = Path(__file__).parent / "agent.schema.json"

_NO_CONTROLS = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]*$"
# The same, and not blank.
_ONE_LINE = f"^(?=.*\\S){_NO_CONTROLS[1:]}"


def manifest_schema() -> dict[str, Any]:
    """The schema as a document of JSON Schema 2020-12. Fields that it does not name are allowed."""
    made = ManifestDocument.model_json_schema()
    properties = made["properties"]
    properties["name"]["pattern"] = _ONE_LINE
    properties["capabilities"]["items"]["pattern"] = _ONE_LINE
    for mark in ("color", "icon"):
        properties[mark]["anyOf"][0]["pattern"] = _NO_CONTROLS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:dorkos:agent-manifest:{SCHEMA_VERSION}",
        "title": "DorkOS agent manifest",
        "description": "The file .dork/agent.json of a project that holds an agent.",
        **{key: value for key, value in made.items() if key != "description"},
    }


def schema_text() -> str:
    """The schema as the published file holds it."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"
