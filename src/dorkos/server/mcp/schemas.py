"""JSON Schemas as tools show them: small, since a model reads every one of them before it does anything."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

Schema = dict[str, Any]

_REFERENCE = "#/$defs/"
# What a key below these is called is a name that somebody chose, not a keyword.
_NAMED = ("properties", "$defs")


def input_schema(model: type[BaseModel]) -> Schema:
    """What a tool takes. References are written out: not every client follows them."""
    schema = model.model_json_schema()
    definitions: Schema = schema.pop("$defs", {})
    slim: Schema = _slim(_written_out(schema, definitions))
    slim.pop("description", None)  # The tool has one.
    return {"type": "object", "properties": {}, **slim}


def output_schema(answer: Any) -> Schema:
    """What a tool answers: for programs that check it, so nothing in it is described."""
    slim: Schema = _slim(TypeAdapter(answer).json_schema(mode="serialization"), without=("description",))
    return slim


def _written_out(node: Any, definitions: Schema) -> Any:
    if isinstance(node, list):
        return [_written_out(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    written = {key: _written_out(value, definitions) for key, value in node.items()}
    reference = written.pop("$ref", None)
    if reference is None:
        return written
    # What stands beside a reference is about this use of it, and wins.
    return _written_out(definitions[reference.removeprefix(_REFERENCE)], definitions) | written


def _slim(node: Any, without: tuple[str, ...] = ()) -> Any:
    """Without titles, which repeat the names, and without saying that what may be left out is null then."""
    if isinstance(node, list):
        return [_slim(item, without) for item in node]
    if not isinstance(node, dict):
        return node
    slim: Schema = {}
    for key, value in node.items():
        if key in ("title", *without) or (key == "default" and value is None):
            continue
        if key in _NAMED and isinstance(value, dict):
            slim[key] = {name: _slim(each, without) for name, each in value.items()}
        else:
            slim[key] = _slim(value, without)
    return slim
