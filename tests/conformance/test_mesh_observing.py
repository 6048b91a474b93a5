"""What is seen of agents, by whom, and whether they answer; on both engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import agents
from dorkos.db.schema.pulse import pulse_runs, pulse_schedules
from dorkos.db.schema.relay import relay_adapters, relay_endpoints
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import Event
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.mesh.model import Agent
from dorkos.mesh.sightings import sighting_of
from dorkos.mesh.topology import EdgeKind
from dorkos.relay.model import Envelope
from dorkos.vocabulary import HealthState, RuleAction, RunState, RunTrigger, Scope
from tests.mesh.fleet import ACTOR, Fleet, make_fleet, make_project

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def fleet(db: Database, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Mesh and Relay on one database, with the events followed."""
    fleet = make_fleet(db, clock, tmp_path)
    await fleet.feed.start()
    yield fleet
    await fleet.mesh.stop()
    await fleet.feed.stop()


async def join(fleet: Fleet, name: str, namespace: str = "team", **manifest: object) -> Agent:
    """A registered agent."""
    document = {"name": name, "runtime": "codex", "namespace": namespace, **manifest}
    return (await fleet.register(make_project(fleet.root / namespace / name, document))).agent


def speaking(agent: Agent) -> Caller:
    """Whoever holds the agent's token."""
    return Caller(agent.subject, frozenset({Scope.SEND, Scope.RECEIVE}), agent_id=agent.id)


async def send(fleet: Fleet, caller: Caller, to: Agent, payload: str = '"hello"') -> None:
    """A message to an agent."""
    await fleet.relay.publish(caller, Envelope(new_id(), to.subject, payload=payload))


async def state_of(fleet: Fleet, agent: Agent) -> HealthState:
    """How an agent is."""
    observed = await fleet.mesh.observatory.agent(agent.id, fleet.mesh.observatory.viewer(OPERATOR))
    return observed.health.state


# Who was seen.


async def seen(fleet: Fleet, agent: Agent) -> tuple[datetime | None, str | None]:
    """When the agent was last seen, and at what."""
    stored = await fleet.mesh.registry.get(agent.id)
    return stored.last_seen_at, stored.last_seen_event


async def test_what_an_agent_does_is_seen_without_anybody_calling_for_it(
    fleet: Fleet, clock: ManualClock
) -> None:
    """Sending, claiming and acknowledging; being sent something is no sign of life."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    sightings = fleet.mesh.sightings
    sightings.worked.enable()
    await sightings.start()
    await sightings.worked.wait()

    await send(fleet, speaking(ada), bob)
    while (await seen(fleet, ada))[0] is None:
        await sightings.worked.wait()

    assert await seen(fleet, ada) == (clock.now(), "relay.message.published")
    assert await seen(fleet, bob) == (None, None)
    assert await state_of(fleet, ada) is HealthState.ACTIVE
    assert await state_of(fleet, bob) is HealthState.STALE

    await fleet.relay.claim(speaking(bob), bob.subject, limit=1)
    while (await seen(fleet, bob))[0] is None:
        await sightings.worked.wait()
    assert (await seen(fleet, bob))[1] == "relay.delivery.claimed"


async def test_further_signs_are_stored_a_minute_apart_and_at_the_stop(
    fleet: Fleet, clock: ManualClock
) -> None:
    """Many messages are one write; the last of them is not lost."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    sightings = fleet.mesh.sightings

    async def event(position: int) -> None:
        sightings.take(
            Event(
                position,
                "relay.message.published",
                new_id(),
                ada.subject,
                clock.now(),
                json.dumps({"to": bob.id}),
            )
        )
        await sightings.work()

    await event(1)
    first = clock.now()
    assert await seen(fleet, ada) == (first, "relay.message.published")
    clock.advance(30 * timedelta(seconds=1))
    await event(2)
    assert (await seen(fleet, ada))[0] == first
    clock.advance(30 * timedelta(seconds=1))
    await event(3)
    assert (await seen(fleet, ada))[0] == clock.now()


async def test_a_restart_sees_what_happened_in_between(
    fleet: Fleet, clock: ManualClock, db: Database
) -> None:
    """The place in the events is stored with what was seen, from the first start on."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    await fleet.mesh.sightings.start()
    await fleet.mesh.sightings.stop()
    await send(fleet, speaking(bob), ada)

    again = make_fleet(db, clock, fleet.root)
    await again.feed.start()
    again.mesh.sightings.worked.enable()
    await again.mesh.sightings.start()
    while (await seen(again, bob))[0] is None:
        await again.mesh.sightings.worked.wait()
    await again.mesh.stop()
    await again.feed.stop()

    assert (await seen(fleet, bob))[1] == "relay.message.published"


@pytest.mark.parametrize(
    ("kind", "actor", "data", "is_sign"),
    [
        ("pulse.run.started", None, {"agentId": "A"}, True),
        ("pulse.run.finished", "relay.human.ada", {"agentId": "A"}, True),
        ("pulse.run.started", None, {"agentId": None}, False),
        ("pulse.run.queued", None, {"agentId": "A"}, False),
        ("relay.message.published", "relay.agent.team.A", {}, True),
        ("relay.delivery.acked", "relay.agent.team.A", {}, True),
        ("relay.message.published", "relay.human.ada", {"to": "A"}, False),
        ("relay.message.published", "relay.agent.team.not-an-id", {}, False),
        ("relay.message.published", "relay.agent.team.x.A", {}, False),
        ("mesh.agent.updated", "relay.agent.team.A", {"agentId": "A"}, False),
    ],
)
def test_which_events_are_signs_of_life(
    kind: str, actor: str | None, data: dict[str, str | None], *, is_sign: bool
) -> None:
    """A run of the agent, or something that it did itself."""
    agent_id = new_id()
    named = {key: agent_id if value == "A" else value for key, value in data.items()}
    who = actor and actor.replace(".A", f".{agent_id}")
    event = Event(1, kind, "x", who, datetime(2026, 3, 1, tzinfo=UTC), json.dumps(named))

    assert (sighting_of(event) is not None) is is_sign


async def test_an_agent_speaks_for_itself_only(fleet: Fleet, clock: ManualClock) -> None:
    """A heartbeat counts from it and from a person; an older one never moves time back."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")

    await fleet.mesh.heartbeat(speaking(ada), ada.id, event="here")
    assert await seen(fleet, ada) == (clock.now(), "here")
    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.heartbeat(speaking(ada), bob.id, event="there")
    assert refusal.value.code is ErrorCode.FORBIDDEN

    clock.advance(-MINUTE)
    await fleet.mesh.heartbeat(OPERATOR, ada.id, event="late")
    assert await seen(fleet, ada) == (clock.now() + MINUTE, "here")
    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.heartbeat(OPERATOR, new_id(), event="x")
    assert refusal.value.code is ErrorCode.AGENT_NOT_FOUND


async def test_a_row_with_garbage_for_a_time_is_stale_and_breaks_no_list(fleet: Fleet, db: Database) -> None:
    """Only SQLite can hold such a row; it was never seen."""
    ada = await join(fleet, "ada")
    if db.dialect == "sqlite":
        garbage = sa.text("UPDATE agents SET last_seen_at = 'yesterday', unreachable_since = ''")
        await db.write(lambda tx: tx.execute(garbage).rowcount)

    assert await state_of(fleet, ada) is HealthState.STALE
    assert await fleet.agent_ids() == [ada.id]


# How they are.


async def test_health_knows_what_pulse_and_relay_know(fleet: Fleet, clock: ManualClock) -> None:
    """A run at work, a turn ahead, a message that nobody takes; a silent agent has nothing to take."""
    working, weekly = await join(fleet, "working"), await join(fleet, "weekly")
    stuck = await join(fleet, "stuck")
    silent = await join(fleet, "silent", behavior={"responseMode": "silent"})

    def change(tx: Transaction) -> None:
        now = tx.now()
        run = {
            "id": new_id(),
            "status": RunState.RUNNING,
            "trigger": RunTrigger.MANUAL,
            "prompt": "work",
            "chain_id": new_id(),
            "agent_id": working.id,
            "created_at": now,
            "started_at": now,
            "lease_owner": new_id(),
            "lease_token": new_id(),
            "lease_expires_at": now,
        }
        tx.execute(pulse_runs.insert(), run)
        schedule = {
            "id": new_id(),
            "name": "weekly",
            "prompt": "work",
            "cron": "0 9 * * 1",
            "agent_id": weekly.id,
            "decided_until": now,
            "next_due_at": now + timedelta(days=6),
            "created_at": now,
            "updated_at": now,
        }
        tx.execute(pulse_schedules.insert(), schedule)

    await fleet.db.write(change)
    await send(fleet, OPERATOR, stuck)
    await send(fleet, OPERATOR, silent)
    clock.advance(30 * MINUTE)

    assert await state_of(fleet, working) is HealthState.ACTIVE
    assert await state_of(fleet, weekly) is HealthState.INACTIVE
    assert await state_of(fleet, stuck) is HealthState.STUCK
    assert await state_of(fleet, silent) is HealthState.STALE
    await fleet.relay.claim(speaking(stuck), stuck.subject, limit=1)
    assert await state_of(fleet, stuck) is HealthState.STALE


async def test_a_run_that_waits_for_a_silent_agent_is_work_that_waits(
    fleet: Fleet, clock: ManualClock
) -> None:
    """It has no message to take, but its own schedules all the same."""
    silent = await join(fleet, "silent", behavior={"responseMode": "silent"})
    queued = {
        "id": new_id(),
        "status": RunState.QUEUED,
        "trigger": RunTrigger.MANUAL,
        "prompt": "work",
        "chain_id": new_id(),
        "agent_id": silent.id,
        "created_at": clock.now(),
    }
    await fleet.db.write(lambda tx: tx.execute(pulse_runs.insert(), queued).rowcount)
    clock.advance(30 * MINUTE)
    assert await state_of(fleet, silent) is HealthState.STUCK


async def test_each_agent_is_counted_once(fleet: Fleet) -> None:
    """By state, runtime and project."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    await fleet.mesh.heartbeat(OPERATOR, ada.id, event="here")
    bob.project_path.rename(fleet.root / "elsewhere")
    await fleet.mesh.reconciler.reconcile()

    status = await fleet.mesh.observatory.status(fleet.mesh.observatory.viewer(OPERATOR))

    assert (status.total, dict(status.by_runtime)) == (2, {"codex": 2})
    assert dict(status.by_state) == {HealthState.ACTIVE: 1, HealthState.UNREACHABLE: 1}
    assert dict(status.by_project) == {str(ada.project_path): 1, str(bob.project_path): 1}


# Who sees whom.


async def test_an_agent_sees_its_namespace_and_whom_it_may_send_to(fleet: Fleet) -> None:
    """In lists, one by one, and in the topology; what it may not see does not exist for it."""
    ada, bob, eve = (
        await join(fleet, "ada", "a"),
        await join(fleet, "bob", "b"),
        await join(fleet, "eve", "c"),
    )
    await fleet.mesh.access.set("a", "b", RuleAction.ALLOW, actor=ACTOR)
    observatory = fleet.mesh.observatory
    eyes = observatory.viewer(speaking(ada))

    page, _ = await fleet.mesh.registry.list(
        also=lambda source, some: observatory.filter(source, eyes, None, some)
    )
    assert {agent.name for agent in page} == {"ada", "bob"}
    assert (await observatory.agent(bob.id, eyes)).agent == bob
    with pytest.raises(DorkError) as refusal:
        await observatory.agent(eve.id, eyes)
    assert refusal.value.code is ErrorCode.AGENT_NOT_FOUND
    view = (await observatory.topology(eyes)).topology
    assert {namespace.name for namespace in view.namespaces} == {"a", "b"}
    assert [each.agent.name for each in await observatory.reach(ada.id, observatory.viewer(OPERATOR))] == [
        "bob"
    ]
    assert await observatory.reach(bob.id, observatory.viewer(OPERATOR)) == []
    assert (await observatory.status(eyes)).by_project == {}


async def test_an_agent_is_held_against_the_rules_of_its_own_sending_only(fleet: Fleet) -> None:
    """However many namespaces have rules: else a list of ten thousand agents would take a minute."""
    for number in range(12):
        await join(fleet, f"other{number}", f"other{number}")
    ada = await join(fleet, "ada", "a")

    mine = await fleet.db.read(lambda connection: fleet.rules.rules_of(connection, ada.subject))

    assert len(await fleet.db.read(fleet.rules.rules)) == 26
    assert {rule.managed_by for rule in mine} == {"namespace:a"}
    assert await fleet.mesh.observatory.within(fleet.mesh.observatory.viewer(speaking(ada))) == frozenset(
        {"a"}
    )


async def test_an_agent_cannot_borrow_the_eyes_of_others(fleet: Fleet) -> None:
    """It sees as itself, whatever it asks for; a person may look through anybody's."""
    ada = await join(fleet, "ada", "a")
    await join(fleet, "bob", "b")
    observatory = fleet.mesh.observatory

    assert observatory.viewer(speaking(ada), "a") == observatory.viewer(speaking(ada))
    for namespace in ("b", "*x"):
        with pytest.raises(DorkError) as refusal:
            observatory.viewer(speaking(ada), namespace)
        assert refusal.value.code is ErrorCode.FORBIDDEN
    through = await observatory.topology(observatory.viewer(OPERATOR, "b"))
    assert [namespace.name for namespace in through.topology.namespaces] == ["b"]


async def test_the_topology_shows_what_was_sent(fleet: Fleet) -> None:
    """And what of it stopped."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    for _ in range(2):
        await send(fleet, speaking(ada), bob)
    await fleet.relay.publish(speaking(ada), Envelope(new_id(), "relay.agent.team.nobody"))

    view = await fleet.mesh.observatory.topology(fleet.mesh.observatory.viewer(OPERATOR))

    traffic = {
        edge.target: (edge.source, edge.messages, edge.stopped)
        for edge in view.topology.edges
        if edge.kind is EdgeKind.TRAFFIC
    }
    assert traffic == {
        bob.subject: (ada.subject, 2, 0),
        "relay.agent.team.nobody": (ada.subject, 1, 1),
    }


async def test_the_topology_names_the_adapters_that_connect_an_agent(fleet: Fleet) -> None:
    """Those that bring it messages or take along what is sent to it, while they are switched on; and only
    people are told."""
    ada, bob = await join(fleet, "ada"), await join(fleet, "bob")
    secret = "of at least sixteen characters"
    webhook_in: dict[str, object] = {"inbound": {"subject": ada.subject, "secret": secret}}
    outbound = {"url": "https://example.org/", "secret": secret, "subjects": ["relay.agent.team.*"]}
    stored: list[tuple[str, str, bool, dict[str, object]]] = [
        ("hook", "webhook", True, webhook_in),
        ("off", "webhook", False, webhook_in),
        ("chat", "telegram", True, {"token": "1:x", "subject": bob.subject}),
        ("out", "webhook", True, {"outbound": outbound}),
        ("odd", "pigeon", True, {"subject": ada.subject}),
        ("broken", "webhook", True, {"inbound": {"subject": ada.subject}}),
        ("drop", "maildir", True, {}),
    ]

    def change(tx: Transaction) -> None:
        for name, kind, enabled, config in stored:
            times = {"created_at": tx.now(), "updated_at": tx.now()}
            row = {"id": name, "type": kind, "enabled": enabled, "config": config, **times}
            tx.execute(relay_adapters.insert(), row)

    await fleet.db.write(change)
    view = await fleet.mesh.observatory.topology(fleet.mesh.observatory.viewer(OPERATOR))
    assert view.adapters == {ada.subject: ["hook", "out"], bob.subject: ["chat", "out"]}
    through = await fleet.mesh.observatory.topology(fleet.mesh.observatory.viewer(speaking(ada)))
    assert [each.count for each in through.topology.namespaces] == [2]
    assert through.adapters == {}


# Whether they answer.


async def test_a_ping_is_answered_by_the_agent_itself(fleet: Fleet) -> None:
    """What somebody else sends to the place of the answer is no answer."""
    ada, eve = await join(fleet, "ada"), await join(fleet, "eve")

    async def answer() -> None:
        claim = await fleet.relay.claim(speaking(ada), ada.subject, limit=1, wait_ms=30_000)
        (delivery,) = claim.deliveries
        place = delivery.message.reply_to
        assert place is not None
        await fleet.relay.publish(speaking(eve), Envelope(new_id(), place, payload='"it is me"'))
        await fleet.relay.publish(speaking(ada), Envelope(new_id(), place, payload='"pong"'))

    ping, _ = await asyncio.gather(fleet.mesh.ping(OPERATOR, ada.id, within_s=30), answer())

    assert (ping.answered, ping.payload, ping.detail) == (True, '"pong"', None)
    mailboxes = await fleet.open_mailboxes()
    assert set(mailboxes) == {ada.subject, eve.subject}


async def test_a_ping_that_is_not_answered_says_how_far_it_got(fleet: Fleet, clock: ManualClock) -> None:
    """Not taken, or taken without a word."""
    ada = await join(fleet, "ada")

    unheard = await fleet.mesh.ping(OPERATOR, ada.id, within_s=0.01)
    assert (unheard.answered, unheard.detail) == (
        False,
        "The message waits in its mailbox: nobody has taken it.",
    )

    async def take() -> None:
        claim = await fleet.relay.claim(speaking(ada), ada.subject, limit=10, wait_ms=10_000)
        for delivery in claim.deliveries:
            token = delivery.lease_token or ""
            await fleet.relay.ack(speaking(ada), ada.subject, delivery.message.id, token)

    await take()
    silent, _ = await asyncio.gather(fleet.mesh.ping(OPERATOR, ada.id, within_s=5), take())
    assert (silent.answered, silent.detail) == (False, "It took the message and did not reply.")


async def test_a_ping_leaves_nothing_behind(fleet: Fleet, clock: ManualClock) -> None:
    """Its mailbox closes by itself, should the server be killed while it waits; and retention takes it."""
    ada = await join(fleet, "ada")
    ping = asyncio.create_task(fleet.mesh.ping(OPERATOR, ada.id, within_s=30))
    await fleet.relay.claim(speaking(ada), ada.subject, limit=1, wait_ms=30_000)
    ping.cancel()
    await asyncio.gather(ping, return_exceptions=True)

    # As a kill leaves it.
    about = sa.update(relay_endpoints).where(relay_endpoints.c.subject.startswith("relay.system.mesh.ping."))
    await fleet.db.write(lambda tx: tx.execute(about.values(closed_at=None)).rowcount)
    clock.advance(2 * MINUTE)
    await fleet.relay.expiry.work()
    assert set(await fleet.open_mailboxes()) == {ada.subject}

    clock.advance(timedelta(days=400))
    await fleet.relay.retention.work()
    assert [each.subject for each in await fleet.relay.endpoints(include_closed=True)] == [ada.subject]


async def test_an_agent_that_is_not_in_use_is_not_pinged(fleet: Fleet) -> None:
    """The refusal says so at once."""
    ada = await join(fleet, "ada")
    await fleet.deny(fleet.root)

    with pytest.raises(DorkError) as refusal:
        await fleet.mesh.ping(OPERATOR, ada.id, within_s=30)
    assert refusal.value.code is ErrorCode.CONFLICT
    statement = sa.select(agents.c.status)
    assert await fleet.db.read(lambda c: c.execute(statement).scalar_one()) == "inactive"
