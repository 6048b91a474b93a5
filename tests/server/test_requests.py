"""The ids of requests: in answers, in refusals and in the log."""

from __future__ import annotations

import logging

import httpx
import pytest

from dorkos.ids import is_ulid
from dorkos.server.requests import Traffic
from tests.server.kit import Served


async def test_every_answer_has_the_id_of_its_request(served: Served) -> None:
    """Also one that is refused, and one without a token; no two have the same."""
    answers = [
        await served.client.get("/api/health"),
        await served.client.post("/api/shelf/refuse"),
        await served.client.get("/api/nothing"),
    ]
    async with served.stranger() as stranger:
        answers.append(await stranger.get("/api/status"))
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(is_ulid(each) for each in ids)
    assert len(set(ids)) == len(ids)
    assert [answer.json().get("requestId") for answer in answers] == [None, *ids[1:]]


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("trace-2f6a.91_b", True),
        ("short", False),
        ("a" * 65, False),
        ("with space", False),
        ("q\u00e9quels", False),
    ],
)
async def test_an_id_that_a_proxy_gave_is_kept_if_it_is_one(served: Served, given: str, taken: bool) -> None:
    """What is anything else is no id, and cannot bring a line of its own into the log."""
    headers = httpx.Headers([(b"x-request-id", given.encode("latin-1"))])
    answer = await served.client.get("/api/health", headers=headers)
    assert (answer.headers["x-request-id"] == given) is taken


async def test_a_fault_is_found_in_the_log_by_the_id_of_its_request(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer, its header and the log name the same."""
    answer = await served.client.post("/api/shelf/break")
    request_id = answer.headers["x-request-id"]
    assert (answer.json()["requestId"], answer.json()["details"]["id"]) == (request_id, request_id)
    assert [record for record in caplog.records if request_id in record.getMessage()]


async def test_each_request_is_told_with_its_end_and_without_its_query(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, path, status and time; a query may hold what is nobody's business."""
    with caplog.at_level(logging.DEBUG, "dorkos.requests"):
        await served.client.get("/api/shelf/items/7", params={"note": "secret"})
    [told] = [vars(record) for record in caplog.records if record.name == "dorkos.requests"]
    assert (told["method"], told["path"], told["status"]) == ("GET", "/api/shelf/items/7", 200)
    assert told["ms"] >= 0
    assert "secret" not in str(told)


def test_traffic_begins_at_nothing() -> None:
    """The counts are of this server since its start."""
    traffic = Traffic()
    assert (traffic.answered.total(), traffic.seconds, traffic.timed) == (0, 0.0, 0)
