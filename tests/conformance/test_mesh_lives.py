"""Moving an agent, its token, its copies, and the rules of its namespace; on both engines."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_rules
from dorkos.db.schema.system import tokens
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.identity.tokens import caller_of
from dorkos.ids import new_id
from dorkos.mesh.copies import Copies
from dorkos.mesh.editing import AgentEdit
from dorkos.mesh.hosts import Hosts
from dorkos.mesh.manifest import ResponseMode
from dorkos.mesh.topology import EVERYBODY, Viewer
from dorkos.node import this_node
from dorkos.vocabulary import AgentStatus, EndpointConsumer, RuleAction, Scope
from tests.mesh.fleet import A_ULID, ACTOR, Fleet, make_fleet, make_project, manifest_of

SCOUT: dict[str, object] = {
    "id": A_ULID,
    "name": "Scout",
    "runtime": "command",
    "entrypoint": ["./scout"],
    "namespace": "team",
}
ALL = Viewer(EVERYBODY, "relay.human.operator")


@pytest.fixture
def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> Fleet:
    """Mesh and Relay on one database."""
    return make_fleet(db, clock, tmp_path)


async def rules_of(fleet: Fleet) -> list[tuple[str, str, str, int, str | None]]:
    """The stored rules, in the order in which they decide."""
    rules = await fleet.db.read(fleet.rules.rules)
    return [
        (rule.from_pattern, rule.to_pattern, rule.action, rule.priority, rule.managed_by) for rule in rules
    ]


def those_of(namespace: str) -> list[tuple[str, str, str, int, str | None]]:
    """The two rules of a namespace."""
    own, made_for = f"relay.agent.{namespace}.*", f"namespace:{namespace}"
    return [(own, own, "allow", 100, made_for), (own, "relay.agent.>", "deny", 10, made_for)]


async def in_namespace(fleet: Fleet, namespace: str, name: str) -> str:
    """The id of an agent registered in a namespace."""
    manifest = {"name": name, "runtime": "codex", "namespace": namespace}
    return (await fleet.register(make_project(fleet.root / name, manifest))).agent.id


# Moving.


async def test_a_moved_agent_keeps_everything_but_its_path(fleet: Fleet, clock: ManualClock) -> None:
    """Id, namespace, mailbox and date; it is active again where it was missing."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    moved_to = project.rename(fleet.root / "moved")
    await fleet.mesh.reconciler.reconcile()
    clock.advance(timedelta(hours=1))

    agent = await fleet.mesh.registry.move(A_ULID, str(moved_to), actor=ACTOR)

    assert agent == await fleet.mesh.registry.get(A_ULID)
    assert (agent.project_path, agent.status, agent.unreachable_since) == (
        moved_to,
        AgentStatus.ACTIVE,
        None,
    )
    assert (agent.subject, agent.registered_at) == (before.subject, before.registered_at)
    assert await fleet.open_mailboxes() == {before.subject: EndpointConsumer.RUN}
    assert (await fleet.event_kinds())[-1] == "mesh.agent.moved"
    assert (await fleet.mesh.reconciler.reconcile()).problems == []


async def test_what_is_still_there_has_not_moved(fleet: Fleet) -> None:
    """A copy cannot take over by being called a move, not even while an agent is thought to be away."""
    await fleet.register(make_project(fleet.root / "scout", SCOUT))
    copy = make_project(fleet.root / "copy", SCOUT)

    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.registry.move(A_ULID, str(copy), actor=ACTOR)

    assert refusal.value.code is ErrorCode.CONFLICT
    assert "still there" in refusal.value.message
    assert (await fleet.mesh.registry.get(A_ULID)).project_path == fleet.root / "scout"


async def test_a_folder_behind_a_link_is_moved_to_where_it_really_is(fleet: Fleet) -> None:
    """As agents of DorkOS for Node may lie, which took paths as they came. Only a person follows."""
    real = make_project(fleet.root / "disk" / "scout", SCOUT)
    await fleet.register(real)
    real.parent.rename(fleet.root / "elsewhere")
    real.parent.symlink_to(fleet.root / "elsewhere")
    (problem,) = (await fleet.mesh.reconciler.reconcile()).problems
    assert "dorkos mesh move" in problem.reason
    with pytest.raises(DorkError, match="looks like a copy"):
        await fleet.register(fleet.root / "elsewhere" / "scout")
    copy = make_project(fleet.root / "copy", SCOUT)
    with pytest.raises(DorkError, match="still there"):
        await fleet.mesh.registry.move(A_ULID, str(copy), actor=ACTOR)

    moved = await fleet.mesh.registry.move(A_ULID, str(real), actor=ACTOR)
    assert moved.project_path == fleet.root / "elsewhere" / "scout"
    assert (await fleet.mesh.reconciler.reconcile()).problems == []


async def test_another_project_in_the_old_place_does_not_stand_in_the_way(fleet: Fleet) -> None:
    """If the moved folder says whose it is, and the one in its old place does not."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    moved_to = project.rename(fleet.root / "moved")
    make_project(project, claude="Something else.")

    agent = await fleet.mesh.registry.move(A_ULID, str(moved_to), actor=ACTOR)

    assert agent.project_path == moved_to


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("nowhere", ErrorCode.VALIDATION_FAILED),
        ("../beyond", ErrorCode.OUTSIDE_BOUNDARY),
        ("denied", ErrorCode.PATH_DENIED),
        ("taken", ErrorCode.AGENT_EXISTS),
        ("foreign", ErrorCode.AGENT_EXISTS),
        ("broken", ErrorCode.INVALID_MANIFEST),
    ],
)
async def test_a_move_to_a_place_that_will_not_do_is_refused(
    fleet: Fleet, where: str, code: ErrorCode
) -> None:
    """And the agent stays where it was registered."""
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    project.rename(fleet.root / "moved")
    make_project(fleet.root / "denied")
    make_project(fleet.root / "foreign", {**SCOUT, "id": new_id()})
    make_project(fleet.root / "broken", b"{")
    await fleet.deny(fleet.root / "denied")
    await fleet.register(make_project(fleet.root / "taken", claude="Words."))
    (fleet.root / "taken" / ".dork" / "agent.json").unlink()

    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.registry.move(A_ULID, str(fleet.root / where), actor=ACTOR)

    assert refusal.value.code is code
    assert (await fleet.mesh.registry.get(A_ULID)).project_path == project


async def test_moving_to_where_it_is_changes_nothing(fleet: Fleet) -> None:
    """And is no error; nobody unknown can move."""
    project = make_project(fleet.root / "scout", SCOUT)
    before = (await fleet.register(project)).agent
    kinds = await fleet.event_kinds()

    assert await fleet.mesh.registry.move(A_ULID, str(project), actor=ACTOR) == before
    assert await fleet.event_kinds() == kinds
    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.registry.move(new_id(), str(project), actor=ACTOR)
    assert refusal.value.code is ErrorCode.AGENT_NOT_FOUND


# Tokens.


async def caller(fleet: Fleet, secret: str | None, clock: ManualClock) -> Caller | None:
    """Who a secret is of."""
    assert secret is not None
    return await fleet.db.read(lambda c: caller_of(c, secret, clock.now()))


async def test_a_token_is_told_once_and_speaks_as_the_agent(fleet: Fleet, clock: ManualClock) -> None:
    """It may send and receive; it is not in the manifest, not told again, and ends with its time."""
    project = make_project(fleet.root / "scout", SCOUT)
    first = await fleet.register(project)
    again = await fleet.register(project)

    assert again.token is None
    told = await caller(fleet, first.token, clock)
    assert told is not None
    assert replace(told, token_id=None) == Caller(
        first.agent.subject, frozenset({Scope.SEND, Scope.RECEIVE}), agent_id=A_ULID
    )
    assert str(first.token) not in str(manifest_of(project))
    clock.advance(timedelta(days=365))
    assert await caller(fleet, first.token, clock) is None


async def test_a_new_token_ends_the_one_before(fleet: Fleet, clock: ManualClock) -> None:
    """But not those of the agent's runs."""
    first = await fleet.register(make_project(fleet.root / "scout", SCOUT))

    agent, secret = await fleet.mesh.registry.issue_token(A_ULID, actor=ACTOR)

    assert agent == first.agent
    assert await caller(fleet, first.token, clock) is None
    assert await caller(fleet, secret, clock) is not None
    assert (await fleet.event_kinds())[-1] == "mesh.agent.token_issued"


async def test_a_token_goes_with_its_agent(fleet: Fleet, clock: ManualClock) -> None:
    """Registered again, the agent gets another."""
    project = make_project(fleet.root / "scout", SCOUT)
    first = await fleet.register(project)
    await fleet.mesh.registry.unregister(A_ULID, actor=ACTOR)

    assert await caller(fleet, first.token, clock) is None
    count = sa.select(sa.func.count()).select_from(tokens)
    assert await fleet.db.read(lambda c: c.execute(count).scalar_one()) == 0
    assert (await fleet.register(project)).token not in (None, first.token)


# Rules.


async def test_a_namespace_has_its_rules_as_long_as_it_has_agents(fleet: Fleet) -> None:
    """They come with the first agent and go with the last, and a person's rules are left alone."""
    one, two = await in_namespace(fleet, "a", "one"), await in_namespace(fleet, "a", "two")
    other = await in_namespace(fleet, "b", "three")
    by_hand = {
        "id": new_id(),
        "from_pattern": "relay.agent.a.*",
        "to_pattern": "relay.human.>",
        "action": RuleAction.DENY,
        "priority": 500,
    }

    def store(tx: object) -> None:
        tx.execute(relay_rules.insert(), {**by_hand, "created_at": tx.now()})  # type: ignore[attr-defined]  # A transaction.

    await fleet.db.write(store)
    mine = ("relay.agent.a.*", "relay.human.>", "deny", 500, None)
    allow_a, deny_a = those_of("a")
    allow_b, deny_b = those_of("b")
    assert await rules_of(fleet) == [mine, allow_a, allow_b, deny_a, deny_b]

    await fleet.mesh.registry.unregister(one, actor=ACTOR)
    assert await rules_of(fleet) == [mine, allow_a, allow_b, deny_a, deny_b]
    await fleet.mesh.registry.unregister(two, actor=ACTOR)
    assert await rules_of(fleet) == [mine, allow_b, deny_b]
    await fleet.mesh.registry.unregister(other, actor=ACTOR)
    assert await rules_of(fleet) == [mine]


async def test_what_was_opened_goes_with_the_namespace(fleet: Fleet) -> None:
    """A later one of that name inherits nothing."""
    one = await in_namespace(fleet, "a", "one")
    await in_namespace(fleet, "b", "two")
    await in_namespace(fleet, "c", "three")
    for source, target in (("a", "b"), ("b", "a"), ("b", "c")):
        await fleet.mesh.access.set(source, target, RuleAction.ALLOW, actor=ACTOR)

    await fleet.mesh.registry.unregister(one, actor=ACTOR)

    assert [rule[-1] for rule in await rules_of(fleet) if str(rule[-1]).startswith("access:")] == [
        "access:b:c"
    ]


async def test_opening_is_harmless_to_repeat_and_closing_takes_nothing_else(fleet: Fleet) -> None:
    """In one direction."""
    await in_namespace(fleet, "a", "one")
    await in_namespace(fleet, "b", "two")
    before = await rules_of(fleet)
    for _ in range(2):
        await fleet.mesh.access.set("a", "b", RuleAction.ALLOW, actor=ACTOR)
    opened = ("relay.agent.a.*", "relay.agent.b.*", "allow", 50, "access:a:b")
    assert [rule for rule in await rules_of(fleet) if rule not in before] == [opened]

    await fleet.mesh.access.set("b", "a", RuleAction.DENY, actor=ACTOR)
    assert opened in await rules_of(fleet)
    for _ in range(2):
        await fleet.mesh.access.set("a", "b", RuleAction.DENY, actor=ACTOR)
    assert await rules_of(fleet) == before


@pytest.mark.parametrize(
    ("source", "target"), [("*", "b"), ("a", ">"), ("a", "a"), ("A", "b"), ("a.b", "c"), ("a", "b")]
)
async def test_what_is_no_namespace_opens_nothing(fleet: Fleet, source: str, target: str) -> None:
    """A wildcard would open everything; one without agents would be found open by whoever takes it."""
    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.access.set(source, target, RuleAction.ALLOW, actor=ACTOR)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED
    assert await rules_of(fleet) == []


async def test_coming_and_going_at_once_leaves_the_rules_of_whoever_is_there(fleet: Fleet) -> None:
    """Whichever is first: an agent that is there has its namespace protected."""
    for turn in range(5):
        gone = await in_namespace(fleet, "a", f"gone{turn}")
        came, _ = await asyncio.gather(
            in_namespace(fleet, "a", f"came{turn}"), fleet.mesh.registry.unregister(gone, actor=ACTOR)
        )

        assert set(await rules_of(fleet)) == set(those_of("a"))
        await fleet.mesh.registry.unregister(came, actor=ACTOR)
        assert await rules_of(fleet) == []


# Copies.


async def test_copies_are_shown_where_a_discovery_saw_them_and_never_adopted(fleet: Fleet) -> None:
    """As long as they claim to be the agent; inspecting looks again."""
    await fleet.register(make_project(fleet.root / "scout", SCOUT))
    copy = make_project(fleet.root / "copy", SCOUT)
    assert (await fleet.mesh.observatory.inspect(A_ULID, ALL)).copies == ()

    found = await fleet.mesh.discover([str(fleet.root)])
    assert [(each.path, each.duplicate_of) for each in found.candidates] == [(str(copy), A_ULID)]
    assert (await fleet.mesh.observatory.inspect(A_ULID, ALL)).copies == (str(copy),)
    assert await fleet.agent_ids() == [A_ULID]

    make_project(copy, {**SCOUT, "id": new_id()})
    assert (await fleet.mesh.observatory.inspect(A_ULID, ALL)).copies == ()


async def test_a_copy_on_a_disk_that_does_not_answer_keeps_nobody_waiting(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither shown nor forgotten."""
    await fleet.register(make_project(fleet.root / "scout", SCOUT))
    copy = make_project(fleet.root / "copy", SCOUT)
    await fleet.mesh.discover([str(fleet.root)])
    may_answer = threading.Event()
    with monkeypatch.context() as hung:
        hung.setattr("dorkos.mesh.copies._claims", lambda _copy: may_answer.wait(60))
        copies = Copies(fleet.db, Hosts(this_node().host, shared=False), patience_s=0.01)
        assert await copies.of(A_ULID, fleet.root / "scout") == ()
        may_answer.set()

    assert (await fleet.mesh.observatory.inspect(A_ULID, ALL)).copies == (str(copy),)


# Disks.


async def test_what_is_asked_for_on_a_disk_that_does_not_answer_is_refused(
    db: Database, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, and with nothing changed; what needs no disk is done."""
    monkeypatch.setattr("dorkos.mesh.patience.DISK_S", 0.01)
    fleet = make_fleet(db, clock, tmp_path)
    for patience in (registry := fleet.mesh.registry)._disk, fleet.mesh.denials._disk:
        patience.seconds = 60
    project = make_project(fleet.root / "scout", SCOUT)
    await fleet.register(project)
    await fleet.deny(fleet.root / "other")
    registry._disk.seconds = fleet.mesh.denials._disk.seconds = 0.01
    may_answer = threading.Event()
    with monkeypatch.context() as hung:
        hung.setattr("dorkos.boundary.Boundary.confine", lambda _self, _path: may_answer.wait(60))
        for asked in (
            fleet.register(project),
            registry.move(A_ULID, str(project), actor=ACTOR),
            registry.get_by_path(str(project)),
            fleet.deny(project),
            fleet.mesh.discover([str(project)]),
        ):
            with pytest.raises(DorkError, match="the disk") as refusal:
                await asked
            assert refusal.value.code is ErrorCode.NOT_READY
        edited = await registry.update(A_ULID, AgentEdit(name="Other"), actor=ACTOR)
        assert "the disk did not answer" in (edited.manifest_problem or "")
        await fleet.mesh.denials.clear(str(fleet.root / "other"), actor=ACTOR)
        may_answer.set()

    assert (await registry.get(A_ULID)).name == "Other"
    assert await fleet.mesh.denials.list() == ()


# Edits.


async def test_an_edit_of_behaviour_budget_and_looks_reaches_row_file_and_mailbox(fleet: Fleet) -> None:
    """Silence closes the mailbox to runs at once; an empty text takes away."""
    project = make_project(fleet.root / "scout", {**SCOUT, "color": "teal", "budget": {"note": 1}})
    await fleet.register(project)
    edit = AgentEdit(
        response_mode=ResponseMode.SILENT,
        escalation_threshold=0.5,
        max_calls_per_hour=7,
        persona="Quiet.",
        persona_enabled=False,
        color="",
    )

    edited = await fleet.mesh.registry.update(A_ULID, edit, actor=OPERATOR.subject)

    assert edited.manifest_problem is None
    assert edited.agent == await fleet.mesh.registry.get(A_ULID)
    document = manifest_of(project)
    assert document["behavior"] == {"responseMode": "silent", "escalationThreshold": 0.5}
    assert document["budget"] == {"note": 1, "maxCallsPerHour": 7}
    assert (document["persona"], document["personaEnabled"], document["color"]) == ("Quiet.", False, "")
    assert await fleet.open_mailboxes() == {edited.agent.subject: EndpointConsumer.CLAIM}
    assert (await fleet.register(project)).agent == edited.agent
