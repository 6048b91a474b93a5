"""The OpenAPI 3.1 document, made from the operations and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter

from dorkos.errors import ErrorCode
from dorkos.operation import Operation
from dorkos.server.rest import path_names, takes_query

Schema = dict[str, Any]
# By the operation's name, and by "validation" for its input or "serialization" for its answer.
Schemas = dict[tuple[str, str], Schema]

_REFERENCE = "#/components/schemas/{model}"
_REFERENCED = re.compile(r"#/components/schemas/([^\"/]+)")

_ERROR: Schema = {
    "type": "object",
    "description": "Every refusal has this shape. `error` is for people, `code` for programs.",
    "properties": {
        "error": {"type": "string"},
        "code": {"type": "string", "enum": [code.value for code in ErrorCode]},
        "details": {},
        "hint": {"type": "string"},
        "requestId": {"type": "string"},
    },
    "required": ["error", "code"],
}
REFUSED: Schema = {
    "description": "Refused; `code` says why.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def document(operations: Sequence[Operation[Any, Any, Any]], more: Schema, *, version: str) -> Schema:
    """The whole document. `more` is what is served besides operations, as an OpenAPI `paths` object."""
    schemas, models = _schemas(operations)
    paths: Schema = {}
    for operation in operations:
        entry = _entry(operation, schemas, models)
        paths.setdefault(operation.path, {})[operation.method.lower()] = entry
    for path, entries in more.items():
        paths.setdefault(path, {}).update(entries)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DorkOS API",
            "version": version,
            "description": "Schedules, messages and a registry for AI agents, over one database.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, **_used(models, paths)},
        },
    }


def _schemas(operations: Sequence[Operation[Any, Any, Any]]) -> tuple[Schemas, Schema]:
    # All at once: two models of one name from two subsystems then get two names.
    inputs = [(operation.name, "validation", TypeAdapter(operation.input)) for operation in operations]
    answers = [(operation.name, "serialization", TypeAdapter(operation.answer)) for operation in operations]
    found, definitions = TypeAdapter.json_schemas([*inputs, *answers], ref_template=_REFERENCE)  # type: ignore[list-item]  # The modes are literals.
    models: Schema = definitions.get("$defs", {})
    return found, models  # type: ignore[return-value]  # Keyed by name and mode.


def _entry(operation: Operation[Any, Any, Any], schemas: Schemas, models: Schema) -> Schema:
    given = _resolved(schemas[operation.name, "validation"], models)
    fields = operation.input.model_fields
    path_keys = {
        (fields[name].alias or name) if name in fields else name: name for name in path_names(operation.path)
    }
    properties: Schema = given.get("properties", {})
    required = [name for name in given.get("required", []) if name not in path_keys]
    parameters = [
        _parameter(name, "path", properties.get(key, {"type": "string"}), required=True)
        for key, name in path_keys.items()
    ]
    rest = {name: schema for name, schema in properties.items() if name not in path_keys}
    entry: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": list(operation.tags or (operation.part,)),
        **({} if operation.scope is None else {"x-scope": operation.scope.value}),
        "parameters": parameters,
        "responses": {
            str(operation.status): {
                "description": "Done.",
                "content": {"application/json": {"schema": schemas[operation.name, "serialization"]}},
            },
            "default": REFUSED,
        },
    }
    if takes_query(operation):
        parameters += [
            _parameter(name, "query", schema, required=name in required) for name, schema in rest.items()
        ]
    else:
        parameters += [
            _parameter(name, "query", schema, required=name in required)
            for name, schema in rest.items()
            if name in operation.in_query
        ]
        entry["requestBody"] = _body(
            {name: schema for name, schema in rest.items() if name not in operation.in_query},
            [name for name in required if name not in operation.in_query],
        )
    return entry


def _body(properties: Schema, required: list[str]) -> Schema:
    body: Schema = {"type": "object", "properties": properties}
    if required:
        body["required"] = required
    return {"required": bool(required), "content": {"application/json": {"schema": body}}}


def _parameter(name: str, place: str, schema: Schema, *, required: bool) -> Schema:
    parameter: Schema = {"name": name, "in": place, "required": required, "schema": schema}
    if "description" in schema:
        parameter["description"] = schema["description"]
    return parameter


def _resolved(schema: Schema, models: Schema) -> Schema:
    reference = schema.get("$ref")
    found: Schema = models[reference.rsplit("/", 1)[1]] if isinstance(reference, str) else schema
    return found


def _used(models: Schema, paths: Schema) -> Schema:
    """The models that the paths speak of, directly or through one another."""
    used: dict[str, Any] = {}
    waiting = list(_names(paths))
    while waiting:
        name = waiting.pop()
        if name in models and name not in used:
            used[name] = models[name]
            waiting.extend(_names(models[name]))
    return dict(sorted(used.items()))


def _names(schema: object) -> Iterable[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield from _REFERENCED.findall(value)
            else:
                yield from _names(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _names(value)
