"""Looking at folders on disks that may not answer."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from dorkos.mesh.folders import Folders, Presence
from dorkos.mesh.manifest import NoManifest
from dorkos.mesh.model import Agent
from dorkos.mesh.projects import Projects
from dorkos.vocabulary import AgentRuntime, AgentStatus
from tests.mesh.fleet import A_ULID

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


@dataclass
class Disk:
    """Answers when it is let, and counts how often it was asked."""

    may_answer: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def manifest_of(self, project: Path) -> NoManifest:
        self.asked += 1
        assert self.may_answer.wait(60)
        return NoManifest(project)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent whose folder is there."""
    return Agent(
        id=A_ULID,
        name="scout",
        runtime=AgentRuntime.CODEX,
        project_path=tmp_path,
        namespace="team",
        capabilities=(),
        entrypoint=None,
        version=None,
        description=None,
        approver=None,
        status=AgentStatus.ACTIVE,
        last_seen_at=None,
        last_seen_event=None,
        registered_at=NOW,
        updated_at=NOW,
        manifest_hash=None,
    )


async def test_whoever_looks_at_once_gets_what_one_look_sees(agent: Agent) -> None:
    """Two passes, or a pass and a person: neither is told that the disk does not answer."""
    disk = Disk()
    folders = Folders(cast(Projects, disk))
    disk.may_answer.set()

    looks = await asyncio.gather(*(folders.look(agent) for _ in range(3)))

    assert {each.presence for each in looks} == {Presence.THERE}
    assert disk.asked == 1
    assert (await folders.look(agent)).presence is Presence.THERE
    assert disk.asked == 2


async def test_a_disk_that_does_not_answer_is_not_asked_again_until_it_does(agent: Agent) -> None:
    """So threads do not pile up, and only the first to ask waits."""
    disk = Disk()
    folders = Folders(cast(Projects, disk), patience_s=0.01)

    first = await folders.look(agent)
    assert (first.presence, first.detail) == (
        Presence.UNREADABLE,
        "the disk did not answer within 0.01 s",
    )
    work = folders._patience._at_work[agent.id]
    again = await folders.look(agent)
    assert (again.presence, again.detail) == (
        Presence.UNREADABLE,
        "an earlier look has not come back from the disk",
    )
    assert disk.asked == 1

    disk.may_answer.set()
    await work
    folders._patience.seconds = 60
    assert (await folders.look(agent)).presence is Presence.THERE
