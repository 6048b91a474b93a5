"""The numbers for Prometheus."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.tokens import NewToken, mint, new_secret
from dorkos.ids import new_id
from dorkos.server.health import ReadinessCheck
from dorkos.vocabulary import Scope
from tests.server.kit import Served, serving


async def numbers(served: Served) -> dict[tuple[str, ...], float]:
    """Every number by its name and labels."""
    answer = await served.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_committed_events_are_counted_once(served: Served) -> None:
    """By kind, those of runs, slots and dead letters by how they ended too; whoever asks, however often."""
    before = await numbers(served)
    assert ("dorkos_events_total", "system.node.started") not in before
    await served.emit("one", "two")
    await served.db.write(lambda tx: tx.emit("pulse.run.finished", "r", {"state": "timeout"}))
    for _ in range(2):
        found = await numbers(served)
        assert found["dorkos_events_total", "system.node.started"] == 2
        assert found["dorkos_runs_finished_total", "timeout"] == 1


async def test_requests_and_streams_are_counted(served: Served) -> None:
    """A stream counts when it ends; while it is open it is told as open."""
    await served.client.get("/api/health")
    await served.client.get("/api/nothing")
    async with served.client.stream("GET", "/api/events") as stream:
        pieces = stream.aiter_bytes()
        await anext(pieces)
        found = await numbers(served)
        assert found["dorkos_streams",] == 1
    assert found["dorkos_http_requests_total", "GET", "404"] == 1
    assert found["dorkos_http_seconds_count",] >= 2
    assert found["dorkos_uptime_seconds",] >= 0
    assert found["dorkos_schedules",] == 0


async def test_a_part_that_does_not_work_is_told() -> None:
    """By its name, like in the answer of `/api/ready`."""

    async def broken() -> None:
        raise DorkError(ErrorCode.NOT_READY, "It stands still.")

    async def fine() -> None:
        return None

    checks = (ReadinessCheck("scheduler", broken), ReadinessCheck("database", fine))
    async with serving(readiness=checks) as served:
        found = await numbers(served)
    assert (found["dorkos_ready", "scheduler"], found["dorkos_ready", "database"]) == (0, 1)


@pytest.mark.parametrize(("scope", "status"), [(Scope.OBSERVE, 200), (Scope.SEND, 403)])
async def test_they_are_for_who_may_observe(served: Served, scope: Scope, status: int) -> None:
    """A token that only reads is enough; one of an agent is not, and without one there is nothing."""
    token = NewToken(new_id(), new_secret(), "relay.human.prometheus", frozenset({scope}))
    await served.db.write(lambda tx: mint(tx, token, expires_at=tx.now() + timedelta(days=1)))
    async with served.stranger(Authorization=f"Bearer {token.secret}") as stranger:
        assert (await stranger.get("/metrics")).status_code == status
    async with served.stranger() as stranger:
        assert (await stranger.get("/metrics")).status_code == 401
