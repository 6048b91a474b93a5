"""Registering, editing and removing agents, on both engines."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.system import events
from dorkos.errors import DorkError, ErrorCode
from dorkos.ids import is_ulid, new_id
from dorkos.mesh.editing import AgentEdit
from dorkos.mesh.manifest import hash_of
from dorkos.mesh.manifest_file import manifest_path
from dorkos.mesh.store import Wanted
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


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def refused(fleet: Fleet, project: Path, **overrides: object) -> DorkError:
    """The refusal to register a folder."""
    with pytest.raises(DorkError) as refusal:
        await fleet.register(project, **overrides)
    return refusal.value


async def test_registering_stores_row_mailbox_and_event_and_writes_the_manifest(fleet: Fleet) -> None:
    """What the answer says is what is stored, and the file says the same."""
    project = make_project(fleet.root / "Mein Team" / "Späher ü", claude="Looks around.")

    registered = await fleet.register(project)
    agent = registered.agent

    assert registered.manifest_problem is None
    assert is_ulid(agent.id)
    assert agent == await fleet.mesh.registry.get(agent.id)
    assert agent == await fleet.mesh.registry.get_by_path(f"{project}/")
    assert agent.project_path == project
    assert agent.namespace == "mein-team"
    assert agent.approver == "ada"
    assert await fleet.event_kinds() == ["mesh.agent.registered"]
    assert await fleet.open_mailboxes() == {f"relay.agent.mein-team.{agent.id}": EndpointConsumer.CLAIM}
    assert manifest_of(project)["id"] == agent.id
    assert agent.manifest_hash == hash_of(manifest_path(project).read_bytes())


async def test_the_manifests_id_is_used_and_a_complete_file_is_left_alone(fleet: Fleet) -> None:
    """A repository may ship its agents; messages start runs of one with an entrypoint."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = manifest_path(project).read_bytes()

    registered = await fleet.register(project)

    assert registered.agent.id == A_ULID
    assert manifest_path(project).read_bytes() == before
    assert await fleet.open_mailboxes() == {f"relay.agent.team.{A_ULID}": EndpointConsumer.RUN}


@pytest.mark.parametrize("claimed", ["scout-1", A_ULID.lower(), "x" * 26])
async def test_an_id_that_is_no_ulid_is_replaced(fleet: Fleet, claimed: str) -> None:
    """An id becomes part of a subject, so not any text will do; the file is told."""
    project = make_project(fleet.root / "scout", {**SCOUT, "id": claimed})

    registered = await fleet.register(project)

    assert is_ulid(registered.agent.id)
    assert manifest_of(project)["id"] == registered.agent.id


async def test_a_copied_checkout_cannot_take_over(fleet: Fleet) -> None:
    """The refusal names the original, and both are as they were."""
    original = make_project(fleet.root / "original", SCOUT)
    copy = make_project(fleet.root / "copy", {**SCOUT, "name": "Impostor"})
    before = (await fleet.register(original)).agent

    refusal = await refused(fleet, copy)

    assert refusal.code is ErrorCode.AGENT_EXISTS
    assert "looks like a copy of 'Scout'" in refusal.message
    assert refusal.details == {"agentId": A_ULID, "path": str(original)}
    assert manifest_of(copy)["name"] == "Impostor"
    assert await fleet.mesh.registry.get(A_ULID) == before
    assert await fleet.agent_ids() == [A_ULID]


async def test_a_registered_folder_cannot_take_anothers_manifest(fleet: Fleet) -> None:
    """Registering again with a file copied over is refused as well."""
    await fleet.register(make_project(fleet.root / "original", SCOUT))
    other = make_project(fleet.root / "other", claude="Words.")
    before = (await fleet.register(other)).agent
    make_project(other, SCOUT)

    assert (await refused(fleet, other)).code is ErrorCode.AGENT_EXISTS
    assert await fleet.mesh.registry.get(before.id) == before


async def test_registering_again_reads_the_manifest_again(fleet: Fleet, clock: ManualClock) -> None:
    """Name, runtime, capabilities, entrypoint and hash follow; id, namespace and date stay."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    clock.advance(timedelta(hours=1))
    make_project(
        project,
        {
            **SCOUT,
            "name": "Spy",
            "runtime": "codex",
            "capabilities": ["x"],
            "behavior": {"responseMode": "silent"},
        },
    )

    after = (await fleet.register(project)).agent

    assert after == await fleet.mesh.registry.get(before.id)
    assert (after.name, after.runtime, after.capabilities) == ("Spy", AgentRuntime.CODEX, ("x",))
    assert (after.id, after.namespace, after.registered_at) == (A_ULID, "team", before.registered_at)
    assert after.updated_at > before.updated_at
    assert after.manifest_hash == hash_of(manifest_path(project).read_bytes())
    assert await fleet.open_mailboxes() == {after.subject: EndpointConsumer.CLAIM}
    assert await fleet.event_kinds() == ["mesh.agent.registered", "mesh.agent.updated"]


async def test_a_change_that_only_the_file_shows_is_an_event_too(fleet: Fleet) -> None:
    """The hash that was approved is part of the record."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    make_project(project, {**SCOUT, "unknown": "teal"})

    await fleet.register(project)

    statement = sa.select(events.c.data).where(events.c.kind == "mesh.agent.updated")
    data = await fleet.db.read(lambda connection: connection.execute(statement).scalar_one())
    assert data == {"changed": ["manifestHash"]}


async def test_registering_again_without_a_change_says_nothing(fleet: Fleet, clock: ManualClock) -> None:
    """It is idempotent: no second row, mailbox, event or time."""
    project = make_project(fleet.root / "scout", SCOUT)

    first = await fleet.register(project)
    clock.advance(timedelta(hours=1))
    second = await fleet.register(project)

    assert first.agent == second.agent
    assert await fleet.event_kinds() == ["mesh.agent.registered"]
    assert await fleet.event_kinds("relay") == ["relay.endpoint.opened", *["relay.rule.added"] * 2]


async def test_a_link_to_a_registered_folder_is_the_same_agent(fleet: Fleet) -> None:
    """The real path counts."""
    project = make_project(fleet.root / "scout", SCOUT)
    (fleet.root / "alias").symlink_to(project)

    first = await fleet.register(project)
    second = await fleet.register(fleet.root / "alias")

    assert first.agent.id == second.agent.id
    assert second.agent.project_path == project


async def test_concurrent_registrations_of_one_folder_make_one_agent(fleet: Fleet) -> None:
    """And the file agrees with the row, whoever came last."""
    project = make_project(fleet.root / "scout", claude="Words.")

    done = await asyncio.gather(*(fleet.register(project, name=f"name {n}") for n in range(8)))

    (agent_id,) = await fleet.agent_ids()
    assert {one.agent.id for one in done} == {agent_id}
    agent = await fleet.mesh.registry.get(agent_id)
    assert manifest_of(project)["name"] == agent.name
    assert manifest_of(project)["id"] == agent_id
    assert agent.manifest_hash == hash_of(manifest_path(project).read_bytes())


async def test_two_servers_register_one_folder_at_once(fleet: Fleet, clock: ManualClock) -> None:
    """They share nothing but the database: one inserts, the others find the row; none fails."""
    project = make_project(fleet.root / "scout", SCOUT)
    servers = [make_fleet(fleet.db, clock, fleet.root) for _ in range(6)]

    done = await asyncio.gather(*(server.register(project) for server in servers))

    assert {one.agent.id for one in done} == {A_ULID}
    assert await fleet.agent_ids() == [A_ULID]
    assert await fleet.event_kinds() == ["mesh.agent.registered"]


async def test_two_copies_registered_at_once_make_one_agent(fleet: Fleet, clock: ManualClock) -> None:
    """The id goes to one; the others are told that they look like copies."""
    projects = [make_project(fleet.root / str(number), SCOUT) for number in range(6)]
    servers = [make_fleet(fleet.db, clock, fleet.root) for _ in projects]

    done = await asyncio.gather(
        *(server.register(project) for server, project in zip(servers, projects, strict=True)),
        return_exceptions=True,
    )

    refusals = [one for one in done if isinstance(one, DorkError)]
    assert len(refusals) == 5
    assert {refusal.code for refusal in refusals} == {ErrorCode.AGENT_EXISTS}
    assert await fleet.agent_ids() == [A_ULID]


async def test_an_invalid_manifest_is_refused_and_kept(fleet: Fleet) -> None:
    """The refusal has path and reason; nothing is stored and nothing is overwritten."""
    project = make_project(fleet.root / "scout", b'{"name": "Scout", "runtime": "clippy"}')

    refusal = await refused(fleet, project, name="x", runtime=AgentRuntime.CODEX)

    assert refusal.code is ErrorCode.INVALID_MANIFEST
    assert refusal.details is not None
    assert refusal.details["path"] == str(manifest_path(project))
    assert "'clippy'" in str(refusal.details["reason"])
    assert manifest_of(project)["runtime"] == "clippy"
    assert await fleet.agent_ids() == []


@pytest.mark.parametrize("denied", ["parent", "parent/scout"])
async def test_a_denied_folder_is_refused_however_good_its_manifest(fleet: Fleet, denied: str) -> None:
    """Also below a denied one; the refusal says who denied what and why."""
    project = make_project(fleet.root / "parent" / "scout", {**SCOUT, "namespace": "x"})
    before = manifest_path(project).read_bytes()
    await fleet.deny(fleet.root / denied, reason="not ours")

    refusal = await refused(fleet, project, name="Other")

    assert refusal.code is ErrorCode.PATH_DENIED
    assert "denied by ada (not ours)" in refusal.message
    assert refusal.details == {"path": str(fleet.root / denied)}
    assert manifest_path(project).read_bytes() == before
    assert await fleet.agent_ids() == []
    assert await fleet.open_mailboxes() == {}


async def test_a_folder_beside_a_denied_one_is_free(fleet: Fleet) -> None:
    """A common beginning of the name is no common folder."""
    await fleet.deny(fleet.root / "scout")

    await fleet.register(make_project(fleet.root / "scouting", SCOUT))

    assert await fleet.agent_ids() == [A_ULID]


async def test_paths_out_of_bounds_are_refused(fleet: Fleet) -> None:
    """Outside the boundary, by a link, in the data directory, or with the manifest in it."""
    make_project(fleet.root / "data" / "scout", SCOUT)
    (fleet.root / "leak").symlink_to("/")
    home = make_project(fleet.root / "home")
    (home / ".dork").symlink_to(fleet.root / "data")

    for path in (Path("/"), fleet.root / "leak", fleet.root / "data" / "scout", home):
        assert (await refused(fleet, path, runtime=AgentRuntime.CODEX)).code is ErrorCode.OUTSIDE_BOUNDARY
    assert not (fleet.root / "data" / "agent.json").exists()


async def test_what_is_no_directory_is_refused_and_not_made(fleet: Fleet) -> None:
    """Registering never creates a project."""
    (fleet.root / "file").touch()

    for path in (fleet.root / "file", fleet.root / "gone" / "deeper"):
        refusal = await refused(fleet, path, runtime=AgentRuntime.CODEX)
        assert refusal.code is ErrorCode.VALIDATION_FAILED
    assert not (fleet.root / "gone").exists()


async def test_a_folder_whose_real_name_cannot_be_stored_is_refused(fleet: Fleet) -> None:
    """A good name can be a link to one that is not UTF-8."""
    odd = fleet.root / "caf\udce9"
    odd.mkdir()
    (fleet.root / "link").symlink_to(odd)

    refusal = await refused(fleet, fleet.root / "link", runtime=AgentRuntime.CODEX)

    assert refusal.code is ErrorCode.INVALID_TEXT


async def test_a_registration_stands_when_the_manifest_cannot_be_written(fleet: Fleet) -> None:
    """The answer says so and why; a later registration writes it."""
    project = make_project(fleet.root / "scout", claude="Words.")
    (project / ".dork").touch()

    registered = await fleet.register(project)

    assert registered.manifest_problem is not None
    assert str(manifest_path(project)) in registered.manifest_problem
    assert await fleet.agent_ids() == [registered.agent.id]

    (project / ".dork").unlink()
    assert (await fleet.register(project)).manifest_problem is None
    assert manifest_of(project)["id"] == registered.agent.id


async def test_a_refused_mailbox_undoes_the_registration_and_leaves_the_disk_alone(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row, mailbox and event are one commit, and the file comes after it."""
    project = make_project(fleet.root / "scout", claude="Words.")

    def refuse(*_: object, **__: object) -> None:
        raise DorkError(ErrorCode.CONFLICT, "no mailbox today")

    monkeypatch.setattr("dorkos.relay.service.RelayService.open_mailbox", refuse)

    assert (await refused(fleet, project)).message == "no mailbox today"
    assert await fleet.agent_ids() == []
    assert await fleet.event_kinds() == []
    assert not (project / ".dork").exists()


async def test_an_edit_changes_row_and_manifest(fleet: Fleet, clock: ManualClock) -> None:
    """Unknown fields stay, the new hash is known, and the event names what changed."""
    project = make_project(fleet.root / "scout", {**SCOUT, "color": "teal"})
    before = (await fleet.register(project)).agent
    clock.advance(timedelta(minutes=1))

    edit = AgentEdit(name="Spy", description="Looks.", capabilities=("look",))
    edited = await fleet.mesh.registry.update(A_ULID, edit, actor=ACTOR)

    assert edited.manifest_problem is None
    assert edited.agent == await fleet.mesh.registry.get(A_ULID)
    assert (edited.agent.name, edited.agent.description) == ("Spy", "Looks.")
    assert edited.agent.updated_at > before.updated_at
    assert edited.agent.manifest_hash == hash_of(manifest_path(project).read_bytes())
    document = manifest_of(project)
    assert {key: value for key, value in document.items() if SCOUT.get(key) != value} == {
        "color": "teal",
        "name": "Spy",
        "description": "Looks.",
        "capabilities": ["look"],
    }
    statement = sa.select(events.c.data).where(events.c.kind == "mesh.agent.updated")
    data = await fleet.db.read(lambda connection: connection.execute(statement).scalar_one())
    assert data == {"changed": ["capabilities", "description", "name"]}


async def test_an_empty_edit_changes_nothing(fleet: Fleet, clock: ManualClock) -> None:
    """And one to the values that are there already is as empty."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    clock.advance(timedelta(minutes=1))

    for edit in (AgentEdit(), AgentEdit(name="Scout", description="", capabilities=())):
        assert (await fleet.mesh.registry.update(A_ULID, edit, actor=ACTOR)).agent == before
    assert await fleet.event_kinds() == ["mesh.agent.registered"]


async def test_an_edit_does_not_approve_what_somebody_put_in_the_file(fleet: Fleet) -> None:
    """The file's other changes stay in the file; the row keeps the hash and program that were approved."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    make_project(project, {**SCOUT, "entrypoint": ["./evil"]})

    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Spy"), actor=ACTOR)

    assert edited.manifest_problem is None
    assert edited.agent.entrypoint == ("./scout",)
    assert edited.agent.manifest_hash == before.manifest_hash
    assert manifest_of(project)["entrypoint"] == ["./evil"]
    assert manifest_of(project)["name"] == "Spy"


async def test_an_edit_stands_when_the_manifest_is_broken_or_out_of_reach(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Neither a broken file nor another agent's nor one behind a new link is touched."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    make_project(project, b"{")

    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="One"), actor=ACTOR)
    assert "is not JSON" in (edited.manifest_problem or "")
    assert manifest_path(project).read_bytes() == b"{"

    foreign = {**SCOUT, "id": new_id()}
    make_project(project, foreign)
    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Other"), actor=ACTOR)
    assert "another agent" in (edited.manifest_problem or "")
    assert manifest_of(project) == foreign

    project.rename(fleet.root / "moved")
    other = make_project(fleet.root / "other", {**SCOUT, "id": new_id()})
    project.symlink_to(other)
    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Two"), actor=ACTOR)
    assert "out of reach" in (edited.manifest_problem or "")
    assert manifest_of(other)["name"] == "Scout"

    project.unlink()
    project.symlink_to("/")
    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Three"), actor=ACTOR)
    assert "out of reach" in (edited.manifest_problem or "")
    assert (await fleet.mesh.registry.get(A_ULID)).name == "Three"


async def test_an_edit_writes_a_missing_manifest_but_no_missing_project(fleet: Fleet) -> None:
    """A removed file is written again; a removed folder stays removed."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    manifest_path(project).unlink()

    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="One"), actor=ACTOR)
    assert edited.manifest_problem is None
    assert manifest_of(project)["entrypoint"] == ["./scout"]

    project.rename(fleet.root / "moved")
    edited = await fleet.mesh.registry.update(A_ULID, AgentEdit(name="Two"), actor=ACTOR)
    assert edited.manifest_problem is not None
    assert not project.exists()


async def test_unregistering_takes_mailbox_and_schedules_along_and_leaves_the_file(fleet: Fleet) -> None:
    """One commit; the folder is a candidate again and nothing registers it by itself."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)

    await fleet.mesh.registry.unregister(A_ULID, actor=ACTOR)

    assert await fleet.agent_ids() == []
    assert await fleet.open_mailboxes() == {}
    assert fleet.schedules.hidden == [A_ULID]
    assert await fleet.event_kinds() == ["mesh.agent.registered", "mesh.agent.unregistered"]
    assert manifest_of(project) == SCOUT
    found = await fleet.mesh.discover()
    assert [candidate.path for candidate in found.candidates] == [str(project)]
    assert await fleet.agent_ids() == []


async def test_registering_after_unregistering_brings_the_same_agent_back(fleet: Fleet) -> None:
    """With its id, its subject and its mailbox."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    await fleet.mesh.registry.unregister(A_ULID, actor=ACTOR)

    after = (await fleet.register(project)).agent

    assert after.subject == before.subject
    assert list(await fleet.open_mailboxes()) == [before.subject]


async def test_unknown_agents_are_refused_by_name(fleet: Fleet) -> None:
    """Whatever the id looks like."""
    registry = fleet.mesh.registry
    for agent_id in (A_ULID, "", "*", "x" * 10_000):
        for ask in (
            registry.get(agent_id),
            registry.update(agent_id, AgentEdit(name="x"), actor=ACTOR),
            registry.unregister(agent_id, actor=ACTOR),
        ):
            with pytest.raises(DorkError) as refusal:
                await ask
            assert refusal.value.code is ErrorCode.AGENT_NOT_FOUND


async def test_of_two_removals_one_succeeds(fleet: Fleet) -> None:
    """The other is told that the agent is gone, and leaves no second event."""
    await fleet.register(make_project(fleet.root / "scout", SCOUT))
    done = await asyncio.gather(
        *(fleet.mesh.registry.unregister(A_ULID, actor=ACTOR) for _ in range(2)), return_exceptions=True
    )

    (refusal,) = (one for one in done if isinstance(one, DorkError))
    assert refusal.code is ErrorCode.AGENT_NOT_FOUND
    assert (await fleet.event_kinds()).count("mesh.agent.unregistered") == 1


async def test_an_agent_is_found_in_the_callers_transaction(fleet: Fleet) -> None:
    """Pulse's port: from a snapshot and from a change alike, None for a stranger."""
    agent = (await fleet.register(make_project(fleet.root / "scout", SCOUT))).agent
    registry = fleet.mesh.registry

    assert await fleet.db.read(lambda connection: registry.find_agent(connection, A_ULID)) == agent
    assert await fleet.db.write(lambda tx: registry.find_agent(tx, A_ULID)) == agent
    assert await fleet.db.read(lambda connection: registry.find_agent(connection, "x")) is None
    assert (agent.name, agent.subject) == ("Scout", f"relay.agent.team.{A_ULID}")
    assert (agent.project_path, agent.entrypoint) == (fleet.root / "scout", ("./scout",))


async def test_agents_are_listed_newest_first_in_pages(fleet: Fleet, clock: ManualClock) -> None:
    """Equal times are ordered by id, and the pages together hold each agent once."""
    ids = []
    for number in range(5):
        if number in {2, 4}:
            clock.advance(timedelta(seconds=1))
        project = make_project(fleet.root / str(number), {"name": f"n{number}", "runtime": "codex"})
        ids.append((await fleet.register(project)).agent.id)
    newest_first = ids[::-1]

    assert await fleet.agent_ids() == newest_first
    seen, cursor = [], None
    for expected in (2, 2, 1):
        page, cursor = await fleet.mesh.registry.list(after=cursor, limit=2)
        assert len(page) == expected
        seen += [agent.id for agent in page]
    assert seen == newest_first
    assert cursor is None


async def test_filters_hold_together(fleet: Fleet) -> None:
    """Runtime, capability (exactly, whatever is in it) and namespace."""
    capabilities = {"a": ["code"], "b": ["Code", 'x"code"'], "c": ["code", "100%_sure", "ü"], "d": []}
    for name, words in capabilities.items():
        manifest = {
            "name": name,
            "runtime": "codex" if name in "ab" else "cursor",
            "capabilities": words,
            "namespace": "left" if name in "ac" else "right",
        }
        await fleet.register(make_project(fleet.root / name, manifest))

    async def found(**filters: object) -> str:
        wanted = Wanted(**filters)  # type: ignore[arg-type]  # Named by the test.
        page, _ = await fleet.mesh.registry.list(wanted)
        return "".join(sorted(agent.name for agent in page))

    assert await found(runtime=AgentRuntime.CODEX) == "ab"
    assert await found(namespaces=frozenset({"left"})) == "ac"
    assert await found(capability="code") == "ac"
    assert await found(capability="Code") == "b"
    assert await found(capability="100%_sure") == "c"
    assert await found(capability="100") == ""
    assert await found(capability="ü") == "c"
    left = frozenset({"left"})
    assert await found(capability="code", runtime=AgentRuntime.CODEX, namespaces=left) == "a"
    assert await found(namespaces=frozenset()) == ""
    assert await found(status=AgentStatus.ACTIVE) == "abcd"
    assert await found(status=AgentStatus.ARCHIVED) == ""
    assert await found(text="SURE") == "c"
    assert await found(text="Ü") == "c"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "~",
        "2026-03-01T09:00:00Z~",
        "2026-03-01~x",
        f"~{A_ULID}",
        f"0001-01-01T00:00:00+23:00~{A_ULID}",
    ],
)
async def test_a_cursor_from_elsewhere_is_refused(fleet: Fleet, cursor: str) -> None:
    """It never means "from the top"."""
    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.registry.list(after=cursor)
    assert refusal.value.code is ErrorCode.INVALID_CURSOR


async def test_an_odd_row_does_not_break_the_list(fleet: Fleet) -> None:
    """A row from before the rules may hold any JSON as capabilities."""
    await fleet.register(make_project(fleet.root / "scout", SCOUT))
    statement = sa.update(agents).values(capabilities_json={"not": "a list"})
    await fleet.db.write(lambda tx: tx.execute(statement).rowcount)

    page, _ = await fleet.mesh.registry.list()

    assert [agent.capabilities for agent in page] == [()]
    json.dumps([agent.name for agent in page])
