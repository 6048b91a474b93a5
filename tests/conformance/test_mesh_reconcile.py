"""The registry follows the disk, and never forgets because something is away; on both engines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.system import events
from dorkos.ids import new_id
from dorkos.mesh.drift import ManifestState
from dorkos.mesh.editing import AgentEdit
from dorkos.mesh.folders import Look, Presence
from dorkos.mesh.manifest import ResponseMode, hash_of
from dorkos.mesh.manifest_file import manifest_path
from dorkos.mesh.model import Agent
from dorkos.mesh.reconcile import Reconciled
from dorkos.mesh.topology import EVERYBODY, Viewer
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.vocabulary import AgentRuntime, AgentStatus, EndpointConsumer
from tests.mesh.fleet import A_ULID, ACTOR, Fleet, make_fleet, make_project, manifest_of

SCOUT: dict[str, object] = {
    "id": A_ULID,
    "name": "Scout",
    "runtime": "command",
    "entrypoint": ["./scout"],
    "namespace": "team",
    "registeredAt": "2026-02-26T10:00:00Z",
    "registeredBy": "grace",
}
DAY = timedelta(days=1)
ALL = Viewer(EVERYBODY, "relay.human.operator")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def registered(fleet: Fleet, name: str = "scout", **manifest: object) -> Path:
    """The folder of a registered agent that can be run."""
    project = make_project(fleet.root / name, {**SCOUT, **manifest})
    await fleet.register(project)
    return project


async def scout(fleet: Fleet) -> Agent:
    """The agent as it is stored."""
    return await fleet.mesh.registry.get(A_ULID)


async def look(fleet: Fleet) -> Reconciled:
    """One pass."""
    return await fleet.mesh.reconciler.reconcile()


async def data_of(fleet: Fleet, kind: str) -> list[dict[str, object]]:
    """What the events of a kind say, oldest first."""
    statement = sa.select(events.c.data).where(events.c.kind == kind).order_by(events.c.position)
    return await fleet.db.read(lambda c: list(c.execute(statement).scalars()))


async def test_a_folder_that_is_gone_and_comes_back(fleet: Fleet, clock: ManualClock) -> None:
    """Unreachable, archived after a month, active on sight; row, id and mailbox stay all the time, and
    messages start no runs while it is away."""
    project = await registered(fleet)
    subject = (await scout(fleet)).subject
    away = project.rename(fleet.root / "elsewhere")

    assert (await look(fleet)).unreachable == [A_ULID]
    gone = await scout(fleet)
    assert (gone.status, gone.unreachable_since) == (AgentStatus.UNREACHABLE, clock.now())
    assert await fleet.open_mailboxes() == {subject: EndpointConsumer.CLAIM}

    clock.advance(30 * DAY - timedelta(milliseconds=1))
    assert (await look(fleet)).archived == []
    clock.advance(timedelta(milliseconds=1))
    assert (await look(fleet)).archived == [A_ULID]
    assert (await scout(fleet)).status is AgentStatus.ARCHIVED
    assert await fleet.open_mailboxes() == {subject: EndpointConsumer.CLAIM}

    away.rename(project)
    assert (await look(fleet)).returned == [A_ULID]
    back = await scout(fleet)
    assert (back.status, back.unreachable_since) == (AgentStatus.ACTIVE, None)
    assert await fleet.open_mailboxes() == {subject: EndpointConsumer.RUN}
    assert [event["to"] for event in await data_of(fleet, "mesh.agent.status_changed")] == [
        "unreachable",
        "archived",
        "active",
    ]


async def test_a_pass_that_finds_nothing_new_writes_nothing(fleet: Fleet) -> None:
    """However often; here or away."""
    project = await registered(fleet)
    before = await fleet.event_kinds()
    assert await look(fleet) == Reconciled(looked_at=1)
    project.rename(fleet.root / "elsewhere")
    await look(fleet)
    after = await fleet.event_kinds()

    assert await look(fleet) == Reconciled(looked_at=1)
    assert await fleet.event_kinds() == after
    assert after == [*before, "mesh.agent.status_changed"]


@pytest.mark.parametrize("presence", [Presence.UNREADABLE, Presence.THERE])
async def test_unreadable_is_not_absent(
    fleet: Fleet, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not answer changes nothing, in either direction."""
    await registered(fleet)
    before = await scout(fleet)

    def refuse(*_: object) -> Look:
        return Look(presence, detail="the disk did not answer")

    monkeypatch.setattr("dorkos.mesh.folders.Folders._look", refuse)
    done = await look(fleet)

    assert await scout(fleet) == before
    assert [problem.reason for problem in done.problems] == (
        ["the disk did not answer"] if presence is Presence.UNREADABLE else []
    )


async def test_a_folder_that_cannot_be_reached_does_not_pass_for_one_without_a_manifest(fleet: Fleet) -> None:
    """Whoever inspects it is told what stands in the way."""
    project = await registered(fleet)
    project.rename(fleet.root / "moved")
    project.symlink_to(project)

    found = (await fleet.mesh.observatory.inspect(A_ULID, ALL)).manifest
    assert (found.state, found.detail) == (
        ManifestState.INVALID,
        f"{project}: Too many levels of symbolic links",
    )
    project.unlink()
    assert (await fleet.mesh.observatory.inspect(A_ULID, ALL)).manifest.state is ManifestState.MISSING


async def test_a_file_in_the_place_of_the_folder_is_absence(fleet: Fleet) -> None:
    """There is no project there, whatever there is."""
    project = await registered(fleet)
    project.rename(fleet.root / "elsewhere")
    project.write_text("not a folder", encoding="utf-8")

    assert (await look(fleet)).unreachable == [A_ULID]


async def test_one_agent_that_cannot_be_dealt_with_holds_up_no_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fault is in the report; the others are looked at."""
    first, second = await registered(fleet, "first"), await registered(fleet, "second", id=new_id())
    real = fleet.mesh.reconciler._folders._look  # The disk is all that is replaced.

    def break_for_the_first(agent: Agent) -> Look:
        if agent.project_path == first:
            raise RuntimeError("boom")
        return real(agent)

    monkeypatch.setattr(fleet.mesh.reconciler._folders, "_look", break_for_the_first)
    first.rename(fleet.root / "a")
    second.rename(fleet.root / "b")
    done = await look(fleet)

    assert len(done.unreachable) == 1
    assert [(problem.path, problem.reason) for problem in done.problems] == [(str(first), "failed: boom")]


async def test_how_an_agent_presents_itself_is_taken_over_from_its_file(
    fleet: Fleet, clock: ManualClock
) -> None:
    """Name, description, capabilities, version, persona and looks; the hash follows, and the file is left
    as the person wrote it."""
    project = await registered(fleet)
    edited = {
        **SCOUT,
        "name": "Spy",
        "description": "Looks.",
        "capabilities": ["look"],
        "version": "2",
        "persona": "Quiet.",
        "personaEnabled": False,
        "color": "teal",
        "icon": "eye",
    }
    make_project(project, edited)
    before = manifest_path(project).read_bytes()
    clock.advance(DAY)

    done = await look(fleet)

    agent = await scout(fleet)
    assert (done.updated, done.waiting) == ([A_ULID], [])
    assert (agent.name, agent.description, agent.capabilities, agent.version) == (
        "Spy",
        "Looks.",
        ("look",),
        "2",
    )
    assert (agent.looks.persona, agent.looks.persona_enabled) == ("Quiet.", False)
    assert (agent.looks.color, agent.looks.icon) == ("teal", "eye")
    assert agent.manifest_hash == hash_of(before)
    assert agent.updated_at == clock.now()
    assert manifest_path(project).read_bytes() == before
    assert (await data_of(fleet, "mesh.agent.updated"))[0]["by"] == "manifest"
    assert (await look(fleet)).updated == []


@pytest.mark.parametrize(
    "edit",
    [
        {"entrypoint": ["rm", "-rf", "/srv"]},
        {"entrypoint": None},
        {"runtime": "codex"},
        {"behavior": {"responseMode": "silent"}},
        {"budget": {"maxCallsPerHour": 1_000_000}},
        {"budget": {"maxHopsPerMessage": 99}},
    ],
    ids=str,
)
async def test_what_would_let_it_do_more_waits_for_a_person(fleet: Fleet, edit: dict[str, object]) -> None:
    """It is told once, and counts when the folder is registered again. The approved hash stays until then."""
    project = await registered(fleet)
    before = await scout(fleet)
    mailboxes = await fleet.open_mailboxes()
    document = {key: value for key, value in {**SCOUT, **edit}.items() if value is not None}
    make_project(project, document)

    done, again = await look(fleet), await look(fleet)

    assert (done.updated, done.waiting, again.waiting) == ([], [A_ULID], [A_ULID])
    assert await scout(fleet) == before
    assert await fleet.open_mailboxes() == mailboxes
    told = await data_of(fleet, "mesh.agent.manifest_changed")
    assert len(told) == 1
    assert str(told[0]["waiting"]).startswith("{'" + next(iter(edit)))

    if document["runtime"] != "command" or "entrypoint" in document:
        await fleet.register(project)
        assert await scout(fleet) != before
        assert (await look(fleet)).waiting == []


async def test_a_harmless_edit_beside_a_waiting_one_counts_and_does_not_approve_it(fleet: Fleet) -> None:
    """The name is taken over; the hash stays that of what a person registered."""
    project = await registered(fleet)
    approved = (await scout(fleet)).manifest_hash
    make_project(project, {**SCOUT, "name": "Spy", "entrypoint": ["./evil"]})

    done = await look(fleet)

    agent = await scout(fleet)
    assert (done.updated, done.waiting) == ([A_ULID], [A_ULID])
    assert (agent.name, agent.entrypoint, agent.manifest_hash) == ("Spy", ("./scout",), approved)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text("{", encoding="utf-8"), "is not JSON"),
        (lambda path: path.unlink(), "There is no"),
        (lambda path: path.write_text(json.dumps({**SCOUT, "id": new_id()})), "another agent"),
        (
            lambda path: path.write_text(json.dumps({**SCOUT, "name": "New", "schemaVersion": 99})),
            "newer version",
        ),
    ],
    ids=["broken", "missing", "foreign", "newer"],
)
async def test_a_manifest_that_says_nothing_that_counts_changes_nothing(
    fleet: Fleet, damage: Callable[[Path], None], reason: str
) -> None:
    """It is a problem in the report."""
    project = await registered(fleet)
    before = await scout(fleet)
    damage(manifest_path(project))

    done = await look(fleet)

    assert await scout(fleet) == before
    assert [reason in problem.reason for problem in done.problems] == [True]


async def test_an_edit_that_has_just_been_made_is_not_taken_back(fleet: Fleet) -> None:
    """The row and the file are read together, so the file before the edit is never taken for a new one."""
    project = await registered(fleet)

    await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Spy"), actor=ACTOR)
    done = await look(fleet)

    assert done == Reconciled(looked_at=1)
    assert (await scout(fleet)).name == "Spy"
    assert manifest_of(project)["name"] == "Spy"


async def test_a_change_whose_file_could_not_be_written_is_not_taken_back(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that the disk kept is the old one, not an edit by hand: registrations and edits stand."""
    project = await registered(fleet)

    def full_disk(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        again = await fleet.register(project, name="By hand", runtime=AgentRuntime.CODEX)
        assert "No space left" in (again.manifest_problem or "")
        assert [problem.reason for problem in (await look(fleet)).problems] == [again.manifest_problem]
        assert (await scout(fleet)).name == "By hand"
        edit = AgentEdit(name="Edited", max_calls_per_hour=3)
        edited = await fleet.mesh.registry.update(A_ULID, edit, actor=ACTOR)
        assert "No space left" in (edited.manifest_problem or "")

        assert len((await look(fleet)).problems) == 1
    stored = await scout(fleet)
    assert (stored.name, stored.runtime, stored.budget.max_calls_per_hour) == (
        "Edited",
        AgentRuntime.CODEX,
        3,
    )
    assert manifest_of(project)["name"] == "Scout"
    assert sorted(path.name for path in (project / ".dork").iterdir()) == ["agent.json"]

    # As soon as the disk lets it: the file follows the row.
    assert await look(fleet) == Reconciled(looked_at=1)
    assert (manifest_of(project)["name"], manifest_of(project)["budget"]) == (
        "Edited",
        {"maxCallsPerHour": 3},
    )
    assert await look(fleet) == Reconciled(looked_at=1)
    assert (await scout(fleet)).manifest_hash == hash_of(manifest_path(project).read_bytes())


async def test_the_folder_is_locked_from_the_look_at_the_row_to_the_end(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an edit between the two could be taken for an old file, and back. The look before it, which
    holds nothing, only tells whether there is anything to do."""
    project = make_project(await registered(fleet), {**SCOUT, "name": "Spy"})
    real, locked = fleet.mesh.reconciler._folders.look, []

    async def observe(agent: Agent) -> Look:
        locked.append(fleet.mesh.registry.lock(project).locked())
        return await real(agent)

    monkeypatch.setattr(fleet.mesh.reconciler._folders, "look", observe)
    await look(fleet)

    assert locked == [False, True]
    assert (await scout(fleet)).name == "Spy"
    await look(fleet)
    assert locked == [False, True, False]
    assert not fleet.mesh.registry.lock(project).locked()


async def test_an_edit_by_another_server_during_a_look_is_not_taken_back(
    fleet: Fleet, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is not ours: what the row says since then stands, and the next look sees its file."""
    project = await registered(fleet)
    make_project(project, {**SCOUT, "name": "Old"})
    other = make_fleet(fleet.db, clock, fleet.root)
    real, looks = fleet.mesh.reconciler._folders.look, []

    async def edit_meanwhile(agent: Agent) -> Look:
        seen = await real(agent)
        looks.append(seen)
        if len(looks) < 2:  # The first only tells that there is something to do.
            return seen
        clock.advance(DAY)
        await other.mesh.registry.update(A_ULID, AgentEdit(name="New"), actor=ACTOR)
        return seen

    monkeypatch.setattr(fleet.mesh.reconciler._folders, "look", edit_meanwhile)
    assert (await look(fleet)).updated == []
    assert (await scout(fleet)).name == "New"


async def test_a_denial_wins_over_what_the_disk_shows(fleet: Fleet) -> None:
    """A denied agent that is there stays inactive; one that went away meanwhile is so when it is allowed."""
    project = await registered(fleet)
    await fleet.deny(fleet.root)
    assert (await scout(fleet)).status is AgentStatus.INACTIVE
    assert await fleet.open_mailboxes() == {(await scout(fleet)).subject: EndpointConsumer.CLAIM}

    assert await look(fleet) == Reconciled(looked_at=1)
    away = project.rename(fleet.root / "elsewhere")
    await look(fleet)
    assert (await scout(fleet)).status is AgentStatus.INACTIVE

    await fleet.mesh.denials.clear(str(fleet.root), actor=ACTOR)
    assert (await scout(fleet)).status is AgentStatus.UNREACHABLE
    away.rename(project)
    await look(fleet)
    assert (await scout(fleet)).status is AgentStatus.ACTIVE
    assert await fleet.open_mailboxes() == {(await scout(fleet)).subject: EndpointConsumer.RUN}


async def test_an_agent_that_a_denial_has_missed_is_found(fleet: Fleet) -> None:
    """Two servers may deny and register at the same moment; the next pass sets it right."""
    await registered(fleet)
    await fleet.deny(fleet.root)
    statement = sa.update(agents).values(status=AgentStatus.ACTIVE)
    await fleet.db.write(lambda tx: tx.execute(statement).rowcount)

    await look(fleet)

    assert (await scout(fleet)).status is AgentStatus.INACTIVE


async def test_under_two_denials_an_agent_is_held_until_both_are_lifted(fleet: Fleet) -> None:
    """And one beside the denied folder is left alone, however alike its name."""
    project = await registered(fleet)
    beside = make_project(fleet.root / "scout-2", {"name": "beside", "runtime": "codex"})
    await fleet.register(beside)
    await fleet.deny(project)
    await fleet.deny(fleet.root / "SCOUT")
    held = {agent.name: agent.status for agent in (await fleet.mesh.registry.list())[0]}
    assert held == {"Scout": AgentStatus.INACTIVE, "beside": AgentStatus.ACTIVE}

    await fleet.deny(fleet.root)
    await fleet.mesh.denials.clear(str(project), actor=ACTOR)
    assert (await scout(fleet)).status is AgentStatus.INACTIVE
    await fleet.mesh.denials.clear(str(fleet.root), actor=ACTOR)
    assert (await scout(fleet)).status is AgentStatus.ACTIVE


async def test_a_silent_agent_comes_back_silent(fleet: Fleet) -> None:
    """Being away does not teach it to run."""
    project = await registered(fleet, behavior={"responseMode": "silent"})
    away = project.rename(fleet.root / "elsewhere")
    await look(fleet)
    away.rename(project)
    await look(fleet)

    assert (await scout(fleet)).behavior.response_mode is ResponseMode.SILENT
    assert await fleet.open_mailboxes() == {(await scout(fleet)).subject: EndpointConsumer.CLAIM}


async def test_the_loop_does_it_by_itself_unless_mesh_is_off(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """One piece of work of it is a pass."""
    fleet = make_fleet(db, clock, tmp_path)
    (await registered(fleet)).rename(fleet.root / "elsewhere")
    off = make_fleet(db, clock, tmp_path, settings=MeshSettings(enabled=False))

    await off.mesh.reconciler.work()
    assert (await scout(fleet)).status is AgentStatus.ACTIVE
    await fleet.mesh.reconciler.work()
    assert (await scout(fleet)).status is AgentStatus.UNREACHABLE
