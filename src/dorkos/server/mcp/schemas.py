"""JSON Schemas as tools show them: small, since a model reads every one of them before it does anything."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

Schema = dict[str, Any]

_REFERENCE = "#/$defs/"
# What a key below these is called is a name that somebody chose, not a keyword.
_NAMED = ("properties", "$defs")
_NULL = {"type": "null"}


def input_schema(model: type[BaseModel], *, null_clears: bool) -> Schema:
    """What a tool takes. References are written out: not every client follows them.

    With `null_clears` null takes a value away. Without, it says as much as leaving the name out: it is
    accepted, and not worth a model's attention.
    """
    schema = model.model_json_schema()
    definitions: Schema = schema.pop("$defs", {})
    slim: Schema = _slim(_told_once(_written_out(schema, definitions), null_clears=null_clears))
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


def _told_once(node: Any, *, null_clears: bool) -> Any:
    """Each parameter with one description, and null only where it says something."""
    if isinstance(node, list):
        return [_told_once(item, null_clears=null_clears) for item in node]
    if not isinstance(node, dict):
        return node
    told = {key: _told_once(value, null_clears=null_clears) for key, value in node.items()}
    options = told.get("anyOf")
    if not isinstance(options, list) or _NULL not in options:
        return told
    others = [option for option in options if option != _NULL]
    speaks = null_clears or "null" in told.get("description", "")
    if len(others) == 1 and "default" in told and told["default"] is None and not speaks:
        del told["anyOf"]
        return {**others[0], **told}
    if "description" in told:
        # What the type says of itself is about all of its uses.
        plain = [{key: value for key, value in option.items() if key != "description"} for option in others]
        told["anyOf"] = [*plain, _NULL]
    return told


def _is_nothing(default: Any) -> bool:
    return default is None or (isinstance(default, dict) and set(default.values()) <= {None})


def _slim(node: Any, without: tuple[str, ...] = ()) -> Any:
    """Without titles, which repeat the names, and without saying that what may be left out is null then."""
    if isinstance(node, list):
        return [_slim(item, without) for item in node]
    if not isinstance(node, dict):
        return node
    slim: Schema = {}
    for key, value in node.items():
        if key in ("title", *without) or (key == "default" and _is_nothing(value)):
            continue
        if key in _NAMED and isinstance(value, dict):
            slim[key] = {name: _slim(each, without) for name, each in value.items()}
        else:
            slim[key] = _slim(value, without)
    return slim
