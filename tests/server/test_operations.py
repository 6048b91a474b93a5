"""The joined list of operations."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest

from dorkos.operation import Operation
from dorkos.server.operations import OPERATIONS
from dorkos.server.paths import OTHER_PATHS
from dorkos.server.rest import path_names, takes_query

each = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def test_names_are_unique() -> None:
    """A name means one operation on every surface."""
    assert not [name for name, count in Counter(o.name for o in OPERATIONS).items() if count > 1]


def test_addresses_are_unique() -> None:
    """Of two operations at one address only the first would ever be called."""
    anonymous = Counter((o.method, re.sub(r"\{\w+\}", "{}", o.path)) for o in OPERATIONS)
    anonymous.update(("GET", re.sub(r"\{\w+\}", "{}", path)) for path in OTHER_PATHS)

    assert not [address for address, count in anonymous.items() if count > 1]


@each
def test_it_belongs_to_a_part_and_is_served_under_api(operation: Operation[Any, Any, Any]) -> None:
    """Its name and its address begin with the part; the fleet's stand with those of the system, and what
    waits on a person has one place, whatever part asks."""
    assert operation.part in (
        "system",
        "config",
        "db",
        "tokens",
        "fleet",
        "sessions",
        "pulse",
        "relay",
        "adapters",
        "mesh",
        "workspace",
    )
    assert operation.path.startswith("/api/")
    assert operation.summary
    # Adapters are a part of their own inside of Relay.
    part = "relay" if operation.part == "adapters" else operation.part
    if part != "system":
        assert operation.name.startswith(f"{part}.")
        places = {"fleet": "system/fleet", "sessions": "logins", "workspace": ""}
        place = places.get(part, part)
        # Agents by their folders have a place of their own, too, as in the lineage.
        others = ("/api/approvals", "/api/agents") if part == "mesh" else ("/api/approvals",)
        assert operation.path.startswith((f"/api/{place}", *others))


@each
def test_its_path_parameters_are_texts_of_its_input(operation: Operation[Any, Any, Any]) -> None:
    """With a body the input is read strictly as JSON, in which a path parameter is a string."""
    fields = {field.alias or name: field for name, field in operation.input.model_fields.items()}
    for name in path_names(operation.path):
        assert name in fields
        assert takes_query(operation) or fields[name].annotation is str
