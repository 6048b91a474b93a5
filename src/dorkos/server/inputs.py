"""From what a caller sent to the input of an operation, or to a refusal that names each field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from dorkos.errors import DorkError, ErrorCode
from dorkos.operation import Wire

In = TypeVar("In", bound=Wire)


def from_query(model: type[In], given: Mapping[str, object]) -> In:
    """The input from an address, where everything is text: "5" means 5 there."""
    try:
        return model.model_validate(given)
    except ValidationError as fault:
        raise validation_failed(fault) from fault


def from_json(model: type[In], given: Mapping[str, object]) -> In:
    """The input from JSON: "5" is no number there, while an ISO text is an instant."""
    try:
        return model.model_validate_json(_as_json(given), strict=True)
    except ValidationError as fault:
        raise validation_failed(fault) from fault


def _as_json(given: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(given).encode("ascii")
    except RecursionError as fault:
        raise DorkError(
            ErrorCode.INVALID_JSON, "The body is nested too deeply.", hint="Send a flatter object."
        ) from fault


def validation_failed(fault: ValidationError) -> DorkError:
    """The refusal in the lineage's shape: `details` is `{formErrors, fieldErrors}` by top-level field."""
    form: list[str] = []
    fields: dict[str, list[str]] = {}
    errors = fault.errors(include_url=False, include_context=False, include_input=False)
    if errors[0]["type"] == "json_invalid":
        # The parser of the models gives up on deep nesting before ours does.
        return DorkError(
            ErrorCode.INVALID_JSON,
            f"The body cannot be read: {errors[0]['msg']}.",
            hint="Send a flatter object.",
        )
    for error in errors:
        where, message = [str(step) for step in error["loc"]], error["msg"].removeprefix("Value error, ")
        if not where:
            form.append(message)
            continue
        inside = f"{'.'.join(where[1:])}: " if len(where) > 1 else ""
        fields.setdefault(where[0], []).append(f"{inside}{message}")
    first = [f"`{name}`: {messages[0]}" for name, messages in fields.items()] + form
    return DorkError(
        ErrorCode.VALIDATION_FAILED,
        "Validation failed",
        hint=f"{first[0]}.",
        details={"formErrors": form, "fieldErrors": fields},
    )
