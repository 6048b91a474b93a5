"""Several machines on one database: each looks after its own agents. On both engines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.app import System, build
from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.system import nodes
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from dorkos.identity.model import OPERATOR
from dorkos.identity.tokens import new_secret
from dorkos.ids import new_id
from dorkos.mesh.drift import ManifestState
from dorkos.mesh.editing import AgentEdit
from dorkos.mesh.health import HealthReason
from dorkos.mesh.reconcile import Reconciled
from dorkos.mesh.statement import Statement
from dorkos.mesh.topology import EVERYBODY, Viewer
from dorkos.node import Heartbeat, Node, record_start, record_stop
from dorkos.pulse.model import Offer
from dorkos.relay.model import Envelope
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.setting_groups.server import ServerSettings
from dorkos.settings import Settings, given
from dorkos.vocabulary import AgentStatus
from tests.mesh.fleet import A_ULID, ACTOR, Fleet, make_fleet, make_project, manifest_of

SCOUT: dict[str, object] = {
    "id": A_ULID,
    "name": "Scout",
    "runtime": "command",
    "entrypoint": ["./scout"],
    "namespace": "team",
}
ALL = Viewer(EVERYBODY, "relay.human.operator")
AWAY = timedelta(minutes=5)


@pytest.fixture
def attic(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """A server on one machine."""
    return make_fleet(db, clock, tmp_path, host="attic", shared=True)


@pytest.fixture
def cellar(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """A server on another, with the same database. Both see the same disk, which the tests know of."""
    return make_fleet(db, clock, tmp_path, host="cellar", shared=True)


def server_at(host: str) -> Node:
    """A server as it registers itself."""
    return Node(new_id(), host, "boot", 1)


async def put(fleet: Fleet, **columns: object) -> None:
    """Change the stored row of the scout by hand."""
    statement = sa.update(agents).where(agents.c.id == A_ULID).values(**columns)
    await fleet.db.write(lambda tx: tx.execute(statement).rowcount)


async def test_an_agent_of_another_machine_is_left_alone(attic: Fleet, cellar: Fleet) -> None:
    """Whether its folder is gone, and what its file says, is for a server there to tell."""
    project = make_project(attic.root / "scout", SCOUT)
    assert (await attic.register(project)).agent.host == "attic"
    make_project(project, {**SCOUT, "name": "Spy"})
    moved = project.rename(attic.root / "moved")

    assert await cellar.mesh.reconciler.reconcile() == Reconciled(elsewhere=1)
    assert (await cellar.mesh.registry.get(A_ULID)).status is AgentStatus.ACTIVE
    assert (await attic.mesh.reconciler.reconcile()).unreachable == [A_ULID]

    moved.rename(project)
    assert await cellar.mesh.reconciler.reconcile() == Reconciled(elsewhere=1)
    assert (await attic.mesh.reconciler.reconcile()).returned == [A_ULID]
    assert (await cellar.mesh.registry.get(A_ULID)).name == "Spy"


async def test_a_database_of_one_machine_follows_whatever_the_machine_is_called(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Its host name may change any day; agents are looked at, and where they lie is written down anew."""
    old = make_fleet(db, clock, tmp_path, host="old")
    new = make_fleet(db, clock, tmp_path, host="new")
    project = make_project(tmp_path / "scout", SCOUT)
    await old.register(project)

    assert await new.mesh.reconciler.reconcile() == Reconciled(looked_at=1)
    assert (await new.mesh.registry.get(A_ULID)).host == "new"
    project.rename(tmp_path / "moved")
    assert (await old.mesh.reconciler.reconcile()).unreachable == [A_ULID]


async def test_where_it_is_unknown_the_machine_that_sees_it_is_taken_down(
    attic: Fleet, cellar: Fleet, clock: ManualClock
) -> None:
    """That it is not here is no evidence while servers elsewhere are known: of 30 days, not stopped."""
    project = make_project(attic.root / "scout", SCOUT)
    await attic.register(project)
    await put(attic, host="")
    other = server_at("cellar")
    await attic.db.write(lambda tx: record_start(tx, other))

    away = project.rename(attic.root / "away")
    assert await attic.mesh.reconciler.reconcile() == Reconciled(looked_at=1)
    assert (await attic.mesh.registry.get(A_ULID)).status is AgentStatus.ACTIVE

    away.rename(project)
    await cellar.mesh.reconciler.reconcile()
    assert (await attic.mesh.registry.get(A_ULID)).host == "cellar"

    await put(attic, host="")
    away = project.rename(attic.root / "away")
    await attic.db.write(lambda tx: record_stop(tx, other))
    assert (await attic.mesh.reconciler.reconcile()).unreachable == [A_ULID]


async def test_one_path_on_two_machines_is_two_agents(attic: Fleet, cellar: Fleet) -> None:
    """Each finds its own there. A checkout with the id of the other is a copy all the same."""
    project = make_project(attic.root / "scout", SCOUT)
    await attic.register(project)

    found = await cellar.mesh.discover([str(cellar.root)])
    assert [(each.path, each.duplicate_of) for each in found.candidates] == [(str(project), A_ULID)]
    with pytest.raises(DorkError, match=f"registered at {project} on attic") as refusal:
        await cellar.register(project)
    assert refusal.value.code is ErrorCode.AGENT_EXISTS
    assert (await attic.mesh.observatory.inspect(A_ULID, ALL)).copies == (f"cellar:{project}",)

    make_project(project, {key: value for key, value in SCOUT.items() if key != "id"})
    mine = (await cellar.register(project)).agent
    assert mine.id != A_ULID
    assert await cellar.mesh.registry.get_by_path(str(project)) == mine
    assert (await attic.mesh.registry.get_by_path(str(project)) or mine).id == A_ULID
    assert (await cellar.mesh.discover([str(cellar.root)])).candidates == ()
    assert (await attic.mesh.observatory.inspect(A_ULID, ALL)).manifest.state is ManifestState.FOREIGN


async def test_an_edit_from_another_machine_reaches_the_registry_and_no_disk(
    attic: Fleet, cellar: Fleet
) -> None:
    """The answer says so, and the server there does not take it back for the file's sake."""
    project = make_project(attic.root / "scout", SCOUT)
    await attic.register(project)

    edited = await cellar.mesh.registry.update(A_ULID, AgentEdit(name="Spy"), actor=ACTOR)

    assert "lies on the host 'attic'" in (edited.manifest_problem or "")
    assert manifest_of(project)["name"] == "Scout"
    assert await attic.mesh.reconciler.reconcile() == Reconciled(looked_at=1)
    assert (await attic.mesh.registry.get(A_ULID)).name == "Spy"
    seen = await cellar.mesh.observatory.inspect(A_ULID, ALL)
    assert seen.manifest.state is ManifestState.ELSEWHERE
    assert "attic" in (seen.manifest.detail or "")


async def test_an_agent_moves_to_another_machine_when_it_is_not_seen_on_its_own(
    attic: Fleet, cellar: Fleet, clock: ManualClock
) -> None:
    """Refused while a server there is at work and has not missed it; the same path is a move as well."""
    project = make_project(attic.root / "scout", SCOUT)
    await attic.register(project)
    node = server_at("attic")
    await attic.db.write(lambda tx: record_start(tx, node))

    with pytest.raises(DorkError) as refusal:
        await cellar.mesh.registry.move(A_ULID, str(project), actor=ACTOR)
    assert refusal.value.code is ErrorCode.CONFLICT
    assert (await cellar.mesh.registry.get(A_ULID)).host == "attic"

    since = await attic.db.write(lambda tx: tx.now())
    await put(attic, status=AgentStatus.UNREACHABLE, unreachable_since=since)
    moved = await cellar.mesh.registry.move(A_ULID, str(project), actor=ACTOR)
    assert (moved.host, moved.status, moved.unreachable_since) == ("cellar", AgentStatus.ACTIVE, None)
    assert await attic.mesh.reconciler.reconcile() == Reconciled(elsewhere=1)

    long_ago = (await attic.db.write(lambda tx: tx.now())) - AWAY - timedelta(seconds=1)
    silent = sa.update(nodes).values(heartbeat_at=long_ago)
    await put(attic, host="attic")
    await attic.db.write(lambda tx: tx.execute(silent).rowcount)
    assert (await cellar.mesh.registry.move(A_ULID, str(project), actor=ACTOR)).host == "cellar"


async def test_health_tells_when_nobody_works_where_an_agent_lies(
    attic: Fleet, cellar: Fleet, clock: ManualClock
) -> None:
    """A server there is at work as long as it says so."""
    await attic.register(make_project(attic.root / "scout", SCOUT))
    reasons = (await cellar.mesh.observatory.agent(A_ULID, ALL)).health.reasons
    assert [each.reason for each in reasons] == [HealthReason.NEVER_SEEN, HealthReason.HOST_AWAY]
    assert not [each for each in reasons if "attic" in each.detail]  # Agents are told this, too.

    node = server_at("attic")
    await attic.db.write(lambda tx: record_start(tx, node))
    assert len((await cellar.mesh.observatory.agent(A_ULID, ALL)).health.reasons) == 1


async def test_a_server_says_that_it_is_there(db: Database, clock: ManualClock) -> None:
    """By the time that the database goes by."""
    node = server_at("attic")
    await db.write(lambda tx: record_start(tx, node))
    started = sa.select(nodes.c.started_at, nodes.c.heartbeat_at).where(nodes.c.id == node.id)
    early = sa.update(nodes).values(heartbeat_at=clock.now() - timedelta(days=3))
    await db.write(lambda tx: tx.execute(early).rowcount)

    before = await db.read(lambda connection: connection.execute(started).one())
    await Heartbeat(db, node).work()
    after = await db.read(lambda connection: connection.execute(started).one())

    assert after.heartbeat_at > before.heartbeat_at
    assert after.heartbeat_at >= after.started_at


@pytest.fixture
def system(db: Database, clock: ManualClock, tmp_path: Path) -> System:
    """Everything wired as in a server, with no loop started: the test does what they would."""
    home = Home(tmp_path / "home")
    home.prepare()
    settings = Settings(server=ServerSettings(boundary=tmp_path), mesh=MeshSettings(host="cellar"))
    return build(home, given(settings), db, clock)


async def test_a_run_waits_for_a_server_of_its_agents_machine(system: System, tmp_path: Path) -> None:
    """On PostgreSQL, which several machines may share; what lies in an SQLite database lies here."""
    made = await system.mesh.registry.register(
        str(make_project(tmp_path / "scout", SCOUT)), Statement(), approver="ada", actor=ACTOR
    )
    assert made.agent.host == "cellar"
    statement = sa.update(agents).values(host="attic")
    await system.database.write(lambda tx: tx.execute(statement).rowcount)
    await system.relay.publish(OPERATOR, Envelope(new_id(), made.agent.subject, payload='"go"'))
    await system.relay.message_runs.work()
    offer = Offer(new_id(), new_id(), new_secret())
    lease = timedelta(minutes=1)

    claims = await system.pulse.store.claim_runs([offer], node=system.node, lease=lease)

    if system.database.dialect == "postgresql":
        assert claims == []
        here = sa.update(agents).values(host="cellar")
        await system.database.write(lambda tx: tx.execute(here).rowcount)
        claims = await system.pulse.store.claim_runs([offer], node=system.node, lease=lease)
    assert [claim.run.agent_id for claim in claims] == [A_ULID]


# At once.


async def test_of_two_moves_to_one_place_one_is_refused_by_name(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Also by two servers, which share nothing but the database."""
    servers = [make_fleet(db, clock, tmp_path) for _ in range(4)]
    for turn in range(6):
        goal = make_project(tmp_path / f"goal{turn}")
        made = []
        for number, server in enumerate(servers):
            project = make_project(tmp_path / f"scout{turn}-{number}", {**SCOUT, "id": new_id()})
            made.append((await server.register(project)).agent)
            project.rename(tmp_path / f"gone{turn}-{number}")

        done = await asyncio.gather(
            *(
                server.mesh.registry.move(agent.id, str(goal), actor=ACTOR)
                for server, agent in zip(servers, made, strict=True)
            ),
            return_exceptions=True,
        )

        refusals = [one for one in done if isinstance(one, BaseException)]
        codes = [one.code if isinstance(one, DorkError) else one for one in refusals]
        assert codes == [ErrorCode.AGENT_EXISTS] * 3


async def test_a_denial_and_a_registration_at_once_leave_no_agent_in_use(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Either the registration sees the denial and is refused, or the denial sees the agent."""
    one, other = (make_fleet(db, clock, tmp_path) for _ in range(2))
    for turn in range(8):
        project = make_project(tmp_path / f"scout{turn}", {**SCOUT, "id": new_id()})
        registered, _ = await asyncio.gather(
            one.register(project), other.deny(project), return_exceptions=True
        )
        if isinstance(registered, DorkError):
            assert registered.code is ErrorCode.PATH_DENIED
            continue
        assert not isinstance(registered, BaseException)
        stored = await one.mesh.registry.get(registered.agent.id)
        assert stored.status is AgentStatus.INACTIVE


async def test_an_edit_does_not_lift_a_denial_that_came_in_between(
    db: Database, clock: ManualClock, tmp_path: Path
) -> None:
    """Each edit stores the whole row as it stands, not as it stood when the edit began."""
    one, other = (make_fleet(db, clock, tmp_path) for _ in range(2))
    project = make_project(tmp_path / "scout", SCOUT)
    await one.register(project)
    for turn in range(8):
        await asyncio.gather(
            one.mesh.registry.update(A_ULID, AgentEdit(name=f"n{turn}"), actor=ACTOR),
            other.deny(project),
            one.mesh.registry.update(A_ULID, AgentEdit(description=f"d{turn}"), actor=ACTOR),
        )
        stored = await one.mesh.registry.get(A_ULID)
        assert stored.status is AgentStatus.INACTIVE
        assert (stored.name, stored.description) == (f"n{turn}", f"d{turn}")
        await other.mesh.denials.clear(str(project), actor=ACTOR)
