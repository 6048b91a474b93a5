"""The OpenAPI document and the page made from it."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import Field

from dorkos.operation import Operation, Wire
from dorkos.server import docs, openapi
from dorkos.server.operations import OPERATIONS
from dorkos.server.paths import OTHER_PATHS
from dorkos.vocabulary import Scope
from tests.server.kit import SHELF, Served

DOCUMENT = openapi.document(OPERATIONS, OTHER_PATHS, version="1.2.3")
SHELF_PATHS = openapi.document(SHELF, {}, version="1.2.3")["paths"]


def references(value: object) -> set[str]:
    """Every `$ref` inside."""
    return set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(value)))


def test_every_operation_is_in_the_document() -> None:
    """Under its method and path, with its name, an answer, and the shape of a refusal."""
    for operation in OPERATIONS:
        entry = DOCUMENT["paths"][operation.path][operation.method.lower()]
        assert operation.name == entry["operationId"]
        assert operation.summary == entry["summary"]
        schema = entry["responses"][str(operation.status)]["content"]["application/json"]["schema"]
        assert schema
        assert "#/components/schemas/Error" in references(entry["responses"]["default"])


def test_every_reference_leads_somewhere_and_every_shape_is_used() -> None:
    """Nothing dangles and nothing is left over."""
    shapes = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}

    assert shapes == references(DOCUMENT)


def test_a_query_is_documented_as_parameters() -> None:
    """Each with its place, its bounds and whether it must be given."""
    entry = SHELF_PATHS["/api/shelf/items/{itemId}"]["get"]
    given = {(p["name"], p["in"], p["required"]) for p in entry["parameters"]}

    assert {
        ("itemId", "path", True),
        ("pageSize", "query", False),
        ("isOpen", "query", False),
        ("note", "query", False),
    } == given
    assert "requestBody" not in entry


def test_a_body_is_documented_without_what_the_address_says() -> None:
    """So that nobody sends it twice."""
    entry = SHELF_PATHS["/api/shelf/items/{itemId}"]["patch"]
    body = entry["requestBody"]

    assert [parameter["name"] for parameter in entry["parameters"]] == ["itemId"]
    assert body["required"]
    assert {"displayName"} == set(body["content"]["application/json"]["schema"]["properties"])


class _Here:
    class Thing(Wire):
        """A thing of one subsystem."""

        one: str = Field(description="What it is.")


class _There:
    class Thing(Wire):
        """Another thing of the same name."""

        two: int


def test_two_shapes_of_one_name_are_told_apart() -> None:
    """In the lineage one of them won, and the other operation was documented wrongly."""

    async def nothing(part: object, caller: object, asked: object) -> object:
        return asked

    def operation(name: str, shape: type[Wire]) -> Operation[Any, Any, Any]:
        return Operation(name, name, "x", "POST", f"/api/{name}", Scope.OBSERVE, shape, shape, nothing)

    document = openapi.document([operation("a", _Here.Thing), operation("b", _There.Thing)], {}, version="1")
    shapes = document["components"]["schemas"]
    found = [set(shape["properties"]) for name, shape in shapes.items() if name != "Error"]

    assert sorted(map(sorted, found)) == [["one"], ["two"]]


async def test_the_document_is_served(served: Served) -> None:
    """As OpenAPI 3.1 with the version of the program."""
    answer = await served.client.get("/api/openapi.json")

    assert (answer.json()["openapi"], answer.json()["info"]["version"]) == ("3.1.0", "1.2.3")
    assert "/api/shelf/items" in answer.json()["paths"]
    assert "/api/events" in answer.json()["paths"]


async def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    """It works without a network, and no other host learns that it was read."""
    answer = await served.client.get("/api/docs")

    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|src=|https?://", answer.text)
    for path in ("/api/shelf/items/{itemId}", "/api/events", "/api/status"):
        assert path in answer.text


def test_the_page_shows_text_as_text() -> None:
    """A summary is not markup."""
    entry = {"summary": "<b>&", "tags": ["<i>"], "parameters": [], "responses": {}}
    document = {
        "info": {"title": "<t>", "version": "1", "description": "<d>"},
        "paths": {"/<p>": {"get": entry}},
        "components": {"schemas": {"<s>": {"description": "</pre>"}}},
    }
    page = docs.page(document)

    assert not re.search(r"<b>|<i>|<t>|<d>|<p>}|<s>|\"</pre>", page)
