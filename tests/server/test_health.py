"""Alive is not the same as ready."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.server import health
from dorkos.server.health import ReadinessCheck
from tests.server.kit import Served, serving


async def works() -> None:
    """A part that has nothing to say."""


async def tells() -> str:
    """A part that adds a detail."""
    return "3 schedules"


async def refuses() -> None:
    """A part that says why not."""
    raise DorkError(ErrorCode.DATABASE_BUSY, "Another program holds the database.")


async def breaks() -> None:
    """A part with a fault."""
    raise RuntimeError("the password is swordfish")


async def hangs() -> None:
    """A part that never answers."""
    await asyncio.Event().wait()


async def test_health_says_that_the_process_is_alive(served: Served) -> None:
    """And nothing that costs anything."""
    answer = await served.client.get("/api/health")

    assert answer.json() == {"status": "ok", "version": "1.2.3", "uptime": 0.0}


async def test_ready_when_every_part_works() -> None:
    """Each is named."""
    checks = [ReadinessCheck("database", works), ReadinessCheck("pulse", tells)]
    async with serving(readiness=checks) as served:
        answer = await served.client.get("/api/ready")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": [{"name": "database", "ok": True}, {"name": "pulse", "ok": True, "detail": "3 schedules"}],
    }


async def test_not_ready_when_one_part_does_not_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are told all the same; a fault of ours says little outside and the rest in the log."""
    monkeypatch.setattr(health, "_CHECK_WITHIN_S", 0.01)
    checks = [
        ReadinessCheck("bus", works),
        ReadinessCheck("database", refuses),
        ReadinessCheck("pulse", breaks),
        ReadinessCheck("mesh", hangs),
    ]
    async with serving(readiness=checks) as served:
        answer = await served.client.get("/api/ready")
    body = answer.json()

    assert (answer.status_code, body["status"], body["code"]) == (503, "not_ready", "not_ready")
    assert [check["ok"] for check in body["checks"]] == [True, False, False, False]
    assert body["checks"][1]["detail"] == "Another program holds the database."
    assert "database: Another program holds the database." in body["error"]
    assert "no answer" in body["checks"][3]["detail"]
    assert "swordfish" not in answer.text
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.ERROR)
