"""From request to operation and back: what is taken, what is refused, and how."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.operation import Nothing, Operation, Success
from dorkos.server import inputs
from dorkos.server.rest import endpoint_of
from dorkos.vocabulary import Scope
from tests.server.kit import BODY_LIMIT, TOKEN, Served, connected, raw

ITEMS = "/api/shelf/items"
HEAD = f"Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of a refusal, once it is known to be the one that was expected."""
    body: dict[str, Any] = answer.json()
    assert (status, code) == (answer.status_code, body["code"]), answer.text
    assert set(body) <= {"error", "code", "details", "hint", "requestId"}
    assert body.pop("requestId", None) == answer.headers.get("x-request-id")
    assert body["error"]
    return body


async def test_an_answer_has_camel_case_keys_and_keeps_null(served: Served) -> None:
    """Absent and null are different things to a client."""
    answer = await served.client.get(f"{ITEMS}/7", params={"note": "n"})

    assert answer.json() == {"itemId": "7", "displayName": None, "note": "n", "payload": None}
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_operation_chooses_its_status(served: Served) -> None:
    """201 where the operation says so."""
    assert (await served.client.post(ITEMS, json={"displayName": "a"})).status_code == 201


async def test_a_list_is_answered_bare(served: Served) -> None:
    """As the lineage did."""
    answer = await served.client.get(f"{ITEMS}/all")

    assert [item["note"] for item in answer.json()] == ["one", "two"]


@pytest.mark.parametrize(
    "item", ["a b", "Grüße/ß", "100%", "%2F", "/srv/bot", "a+b", "...", "?q#f", "\u2028", "é" * 300]
)
async def test_a_path_parameter_may_be_any_text(served: Served, item: str) -> None:
    """Spaces, slashes and percent signs stay within their segment and arrive as they were."""
    answer = await served.client.get(f"{ITEMS}/{quote(item, safe='')}")

    assert item == answer.json()["itemId"]


async def test_a_query_value_may_be_any_text_and_is_read_as_the_field_says(served: Served) -> None:
    """In an address everything is text; the model says what it means."""
    await served.client.get(
        f"{ITEMS}/7", params={"pageSize": "5", "isOpen": "true", "note": "ä +%&=", "x": "1"}
    )

    asked = served.shelf.asked[0]
    assert (asked.page_size, asked.is_open, asked.note) == (5, True, "ä +%&=")


async def test_a_body_is_read_as_json_whatever_the_content_type_says(served: Served) -> None:
    """Old clients and plain curl send others."""
    body = b'{"displayName": "a", "dueAt": "2026-03-01T09:00:00Z"}'
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"):
        answer = await served.client.post(ITEMS, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 201
    assert datetime(2026, 3, 1, 9, tzinfo=UTC) == served.shelf.asked[0].due_at


async def test_an_empty_body_is_an_empty_object(served: Served) -> None:
    """An operation without input needs no body, and blanks are none."""
    body = refused(await served.client.post(ITEMS, content=b" \n"), 400, "validation_failed")

    assert body["details"]["fieldErrors"] == {"displayName": ["Field required"]}


async def test_the_address_decides_and_a_body_cannot_change_what_it_is_about(served: Served) -> None:
    """Under neither spelling of the key."""
    body = {"itemId": "other", "item_id": "another", "displayName": "n"}
    answer = await served.client.patch(f"{ITEMS}/mine", json=body)

    assert answer.json()["itemId"] == "mine"


async def test_a_fixed_segment_is_not_read_as_a_parameter(served: Served) -> None:
    """`/items/all` is declared after `/items/{itemId}` and is found all the same."""
    await served.client.get(f"{ITEMS}/all")

    assert not served.shelf.asked


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "displayName", "Field required"),
        ({"displayName": ""}, "displayName", "String should have at least 1 character"),
        ({"displayName": 7}, "displayName", "Input should be a valid string"),
        ({"displayName": "a", "copies": "5"}, "copies", "Input should be a valid integer"),
        ({"displayName": "a", "copies": True}, "copies", "Input should be a valid integer"),
        ({"displayName": "a", "dueAt": "soon"}, "dueAt", "Input should be a valid datetime"),
        ({"displayName": "a", "place": {"room": 1}}, "place", "room: Input should be a valid string"),
    ],
)
async def test_a_wrong_field_is_named(served: Served, body: object, field: str, message: str) -> None:
    """In the lineage's shape, under the top-level key, with a hint that names the first."""
    found = refused(await served.client.post(ITEMS, json=body), 400, "validation_failed")

    assert found["details"]["formErrors"] == []
    assert [field] == list(found["details"]["fieldErrors"])
    assert found["details"]["fieldErrors"][field][0].startswith(message)
    assert found["hint"].startswith(f"`{field}`: {message}")
    assert not served.shelf.asked


@pytest.mark.parametrize("query", ["pageSize=x", "pageSize=0", "isOpen=perhaps", "pageSize="])
async def test_a_wrong_query_value_is_refused(served: Served, query: str) -> None:
    """Rather than taken for absent."""
    refused(await served.client.get(f"{ITEMS}/7?{query}"), 400, "validation_failed")


@pytest.mark.parametrize("query", ["note=a&note=b", "note=a&note=a", "unknown=1&unknown=2"])
async def test_a_repeated_query_key_is_refused(served: Served, query: str) -> None:
    """Which of the two was meant cannot be known."""
    body = refused(await served.client.get(f"{ITEMS}/7?{query}"), 400, "validation_failed")

    assert list(body["details"]["fieldErrors"]) == [query.split("=", 1)[0]]


async def test_a_query_with_too_many_fields_is_refused(served: Served) -> None:
    """Before time is spent on it."""
    query = "&".join(f"k{n}=" for n in range(200))
    refused(await served.client.get(f"{ITEMS}/7?{query}"), 400, "validation_failed")


@pytest.mark.parametrize(
    "target",
    [
        f"{ITEMS}/%FF",
        f"{ITEMS}/%",
        f"{ITEMS}/%4",
        f"{ITEMS}/%zz",
        f"{ITEMS}/%ED%A0%80",
        f"{ITEMS}/%00",
        f"{ITEMS}/7?note=%FF",
        f"{ITEMS}/7?note=%00",
        f"{ITEMS}/7?note=%",
        f"{ITEMS}/7?%ED%B0%80=1",
    ],
)
async def test_an_address_that_is_no_text_is_refused(served: Served, target: str) -> None:
    """Bytes that are not UTF-8, half escapes, U+0000 and surrogates are not replaced in silence."""
    request = f"GET {target} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    answer = await raw(served.http.url, request.encode("ascii"))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "invalid_text"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b"not json", "invalid_json"),
        (b"\xff\xfe\xfd", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"7", "invalid_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "invalid_text"),
        (b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"displayName": "a", "payload": ' + b"[" * 500 + b"]" * 500 + b"}", "invalid_json"),
        (b'{"a":' * 800 + b"1" + b"}" * 800, "invalid_json"),
        (b'{"a": NaN}', "invalid_text"),
        (b'{"a": -Infinity}', "invalid_text"),
        (b'{"a": 1e999}', "invalid_text"),
        (b'{"a": 9223372036854775808}', "invalid_text"),
        (b'{"a": "\\u0000"}', "invalid_text"),
        (b'{"\\u0000": 1}', "invalid_text"),
        (b'{"a": "\\ud800"}', "invalid_text"),
        (b'{"a": "\xed\xa0\x80"}', "invalid_text"),
    ],
)
async def test_a_body_that_cannot_be_kept_is_refused(served: Served, body: bytes, code: str) -> None:
    """Whatever a client sends, it gets an answer that says what is wrong, and nothing is done."""
    refused(await served.client.post(ITEMS, content=body), 400, code)

    assert not served.shelf.asked


def test_nesting_beyond_the_encoder_is_refused_too() -> None:
    """How deep each of the readers in a row goes depends on the Python; none may end in a fault of ours."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DorkError) as refusal:
        inputs._as_json({"payload": deep})

    assert refusal.value.code is ErrorCode.INVALID_JSON


async def test_a_key_given_twice_is_refused(served: Served) -> None:
    """Which of the two was meant cannot be known, and readers of JSON differ in it."""
    answer = await served.client.post(ITEMS, content=b'{"displayName": "a", "displayName": "b"}')

    assert "displayName" in refused(answer, 400, "invalid_json")["error"]
    assert not served.shelf.asked


async def test_a_payload_comes_through_unchanged(served: Served) -> None:
    """Text in any script, nesting, and numbers at the edge of what is kept."""
    payload = {"ü\u2028": ["😀", None, True, 0.1, -(2**63), 2**63 - 1], "deep": [[[[[{}]]]]], "": "\x7f"}
    answer = await served.client.post(ITEMS, json={"displayName": "a", "payload": payload})

    assert payload == answer.json()["payload"]


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read(served: Served) -> None:
    """Three megabytes of a declared length: nobody waits for them."""
    content = b'{"displayName": "' + b"a" * 3 * 1024 * 1024 + b'"}'
    body = refused(await served.client.post(ITEMS, content=content), 413, "body_too_large")

    assert body["details"] == {"limit": BODY_LIMIT}


async def test_a_body_that_says_it_is_too_large_is_not_waited_for(served: Served) -> None:
    """The answer comes before the first byte of it."""
    async with connected(served.http.url) as (reader, writer):
        writer.write(f"POST {ITEMS} HTTP/1.1\r\n{HEAD}Content-Length: 99999999999999\r\n\r\n".encode("ascii"))
        await writer.drain()
        assert await reader.read(13) == b"HTTP/1.1 413 "


async def test_a_body_without_a_length_is_refused_while_it_arrives(served: Served) -> None:
    """The sender stops when it has the answer, so a server that read on would never end this test."""

    async with connected(served.http.url) as (reader, writer):
        writer.write(f"POST {ITEMS} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode("ascii"))
        answer = asyncio.ensure_future(reader.read(13))
        while not answer.done():
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            await writer.drain()
            await asyncio.wait([answer], timeout=0)

    assert await answer == b"HTTP/1.1 413 "


async def test_a_body_of_exactly_the_limit_is_read(served: Served) -> None:
    """The limit is what is still taken."""
    frame = b'{"displayName": "a", "x": ""}'
    content = frame.replace(b'""', b'"' + b"a" * (BODY_LIMIT - len(frame)) + b'"')
    assert len(content) == BODY_LIMIT

    assert (await served.client.post(ITEMS, content=content)).status_code == 201
    refused(await served.client.post(ITEMS, content=content + b" "), 413, "body_too_large")


async def test_a_refusal_carries_its_details_and_hint(served: Served) -> None:
    """As it was raised."""
    body = refused(await served.client.post("/api/shelf/refuse"), 409, "conflict")

    assert body == {"error": "Taken.", "code": "conflict", "details": {"by": "kim"}, "hint": "Take another."}


async def test_a_fault_of_ours_tells_an_id_outside_and_the_rest_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the inside leaves the process."""
    answer = await served.client.post("/api/shelf/break")
    body = refused(answer, 500, "internal_error")

    assert "swordfish" not in answer.text
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert body["details"]["id"] in record.getMessage()
    assert record.exc_info
    assert "swordfish" in str(record.exc_info[1])


async def test_an_unknown_address_is_not_found(served: Served) -> None:
    """In our shape, and no longer than it needs to be."""
    body = refused(await served.client.get("/api/nothing"), 404, "not_found")
    assert "/api/nothing" in body["error"]
    for path in ("/api/shelf/items/", "/api/shelf/items/7/", "/", "/api", "//api/status", "/API/status"):
        refused(await served.client.get(path), 404, "not_found")
    long = refused(await served.client.get("/" + "x" * 30_000), 404, "not_found")
    assert len(long["error"]) < 300


async def test_another_method_is_refused_with_those_there_are(served: Served) -> None:
    """All of them, though each has a route of its own."""
    answer = await served.client.put(f"{ITEMS}/7")
    body = refused(answer, 405, "method_not_allowed")

    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH"
    assert "DELETE, GET, HEAD, PATCH" in body["hint"]


async def test_head_answers_as_get_without_the_body(served: Served) -> None:
    """Including its length."""
    get, head = await served.client.get(f"{ITEMS}/7"), await served.client.head(f"{ITEMS}/7")

    assert (head.status_code, head.content) == (200, b"")
    assert get.headers["content-length"] == head.headers["content-length"]
    missing = await served.client.head("/api/nothing")
    assert (missing.status_code, missing.content) == (404, b"")


async def test_options_is_no_method_and_no_origin_is_let_in(served: Served) -> None:
    """There are no CORS headers on anything."""
    answer = await served.client.options(f"{ITEMS}/7")

    refused(answer, 405, "method_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_an_address_beyond_any_measure_is_refused_in_our_shape(served: Served) -> None:
    """Even what is too long to be understood at all."""
    request = b"GET /" + b"x" * 4_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = await raw(served.http.url, request)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "headers_too_large"


async def test_bytes_that_are_no_http_are_refused_in_our_shape(served: Served) -> None:
    """Then the connection ends, since nobody knows where the next request begins."""
    answer = await raw(served.http.url, b"\x16\x03\x01 hello\r\n\r\n")

    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "validation_failed"


async def test_a_client_that_leaves_while_it_sends_leaves_nothing_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no fault of ours, and the server goes on."""
    async with connected(served.http.url) as (_, writer):
        writer.write(f"POST {ITEMS} HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n{{".encode("ascii"))
        await writer.drain()

    assert (await served.client.get(f"{ITEMS}/7")).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_path_parameter_that_the_input_lacks_fails_at_the_start() -> None:
    """Not when somebody first calls it."""

    async def nothing(part: object, caller: object, asked: Nothing) -> Success:
        return Success()

    operation = Operation("a", "a", "shelf", "GET", "/api/{id}", Scope.OBSERVE, Nothing, Success, nothing)
    with pytest.raises(ValueError, match="no field for"):
        endpoint_of(operation, None, max_body_bytes=1)
