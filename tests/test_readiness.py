"""Readiness of the whole system: a part that is broken is named, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dorkos.app import System, build
from dorkos.clock import SystemClock
from dorkos.db.schema.system import nodes, system_state
from dorkos.home import Home
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.testing import create_test_db


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Everything at work, on a database of its own."""
    home, clock = Home(tmp_path / "home"), SystemClock()
    home.prepare()
    settings = Settings(server=ServerSettings(port=0, boundary=tmp_path))
    async with create_test_db("sqlite", clock=clock) as database:
        system = build(home, given(settings), database, clock)
        await system.start()
        try:
            yield system
        finally:
            await system.stop()


async def broken(system: System, home: Path) -> dict[str, str]:
    """The parts that are said to be broken, with why; the status agrees."""
    token = (home / "token").read_text(encoding="ascii").strip()
    async with httpx.AsyncClient(base_url=system.http.url, trust_env=False, verify=False) as client:
        answer = await client.get("/api/ready", headers={"Authorization": f"Bearer {token}"})
    body: dict[str, Any] = answer.json()
    found = {check["name"]: check["detail"] for check in body["checks"] if not check["ok"]}
    assert answer.status_code == (503 if found else 200)
    assert all(f"{name}: {why}" in body["error"] for name, why in found.items())
    return found


async def test_a_loop_that_ended_or_fails_is_named(system: System, tmp_path: Path) -> None:
    """A loop whose task is gone does nothing any more; one that fails says so, without what is stored."""
    assert await broken(system, tmp_path / "home") == {}
    [alarms] = [loop for loop in system.pulse.loops if loop.name == "pulse.alarms"]
    alarms.worked.enable()
    await system.database.write(lambda tx: tx.execute(sa.text("ALTER TABLE pulse_slots RENAME TO away")))
    while alarms.failure is None:
        alarms.wake()
        await alarms.worked.wait()
    found = await broken(system, tmp_path / "home")
    assert found["pulse.alarms"] == "OperationalError; the log has the details"
    assert set(found) <= {loop.name for loop in system.pulse.loops}
    await system.database.write(lambda tx: tx.execute(sa.text("ALTER TABLE away RENAME TO pulse_slots")))
    for loop in system.pulse.loops:
        loop.worked.enable()
        while loop.failure is not None:
            loop.wake()
            await loop.worked.wait()
    assert await broken(system, tmp_path / "home") == {}

    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "dorkos.clock"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await broken(system, tmp_path / "home") == {"clock": "it is not running"}


async def test_a_database_that_lost_what_a_server_needs_is_named(system: System, tmp_path: Path) -> None:
    """The epoch, without which no cursor means anything, and the row of this server."""
    epoch = system_state.c.key == "epoch"
    await system.database.write(lambda tx: tx.execute(nodes.delete()))
    assert "does not know this server" in (await broken(system, tmp_path / "home"))["database"]
    await system.database.write(lambda tx: tx.execute(system_state.delete().where(epoch)))
    assert "no epoch" in (await broken(system, tmp_path / "home"))["database"]
