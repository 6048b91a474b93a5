"""Access rules, on both engines: they bind the next publish, by whatever way they and it came."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.hold import hold_fleet
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.rules_revision import RULES_KEY
from dorkos.db.schema.relay import relay_rules
from dorkos.db.schema.system import events, system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.ports.rules import NamespaceRules
from dorkos.relay import endpoints
from dorkos.relay.model import Envelope, LetterFilter, Receipt
from dorkos.relay.rules import NewRule
from dorkos.relay.subjects import subject_hash
from dorkos.vocabulary import DeadLetterReason, EndpointConsumer, PublishOutcome, RuleAction, Scope
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, post_office, stored

ALLOW, DENY = RuleAction.ALLOW, RuleAction.DENY
A = Caller("relay.agent.a.one", frozenset({Scope.SEND, Scope.RECEIVE}))
B = Caller("relay.agent.b.one", frozenset({Scope.SEND, Scope.RECEIVE}))


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with a mailbox, its rules kept in memory as on a running server."""
    office = post_office(db, clock)
    await office.open()
    await office.relay.access.start()
    return office


async def add(office: PostOffice, source: str, target: str, action: RuleAction, priority: int = 200) -> str:
    """Add a rule by hand; its id."""
    new = NewRule(new_id(), source, target, action, priority)
    added, _ = await office.relay.access.add(OPERATOR, new)
    return added.rule.id


def outcome(receipt: Receipt) -> PublishOutcome:
    """The outcome at the one recipient."""
    (recipient,) = receipt.recipients
    return recipient.outcome


async def revision(db: Database) -> str | None:
    """What the rules are called at the moment."""
    statement = sa.select(system_state.c.value).where(system_state.c.key == RULES_KEY)
    return await db.read(lambda connection: connection.execute(statement).scalar_one_or_none())


async def open_for(db: Database, subject: str) -> None:
    """Open an agent's mailbox without an agent."""
    opened = partial(
        endpoints.open_mailbox,
        endpoint_id=new_id(),
        subject=subject,
        agent_id=None,
        consumer=EndpointConsumer.CLAIM,
    )
    await db.write(opened)


async def test_a_denied_message_is_a_dead_letter_that_names_the_rule(office: PostOffice) -> None:
    """The receipt says denied, nothing is delivered, and what is stored says the same."""
    rule_id = await add(office, "relay.human.bob", INBOX, DENY)
    receipt = await office.send()

    assert outcome(receipt) is PublishOutcome.DENIED
    assert receipt.delivered_to == 0
    rows = await stored(office.db, receipt.message_id)
    assert (rows.statuses, rows.reasons) == ([], ["denied"])
    assert rows.events == ["relay.message.dead_lettered"]
    (letter,) = await office.relay.letters.newest_first(
        LetterFilter(endpoint_hash=subject_hash(INBOX)), limit=10
    )
    assert letter.reason is DeadLetterReason.DENIED
    assert rule_id in letter.detail
    assert letter.detail == receipt.recipients[0].detail


async def test_what_is_denied_costs_the_agent_nothing(office: PostOffice) -> None:
    """Its budget counts calls that could have gone out."""
    agent = await office.open_for_agent("worker")
    await add(office, agent.subject, ">", DENY)
    assert outcome(await office.send(caller=agent)) is PublishOutcome.DENIED
    assert office.budgets.taken == []


async def test_agents_of_other_namespaces_are_closed_until_a_rule_opens_them(
    office: PostOffice, db: Database
) -> None:
    """In the one direction that the rule names; people reach everybody meanwhile."""
    for who in (A, B):
        await open_for(db, who.subject)
    assert outcome(await office.send(to=B.subject, caller=A)) is PublishOutcome.DENIED
    await add(office, "relay.agent.a.*", "relay.agent.b.*", ALLOW)
    assert outcome(await office.send(to=B.subject, caller=A)) is PublishOutcome.DELIVERED
    assert outcome(await office.send(to=A.subject, caller=B)) is PublishOutcome.DENIED
    assert outcome(await office.send(to=A.subject, caller=OPERATOR)) is PublishOutcome.DELIVERED


async def test_rules_bind_the_operator_under_every_name(office: PostOffice) -> None:
    """The sender that is stamped is the one that is judged."""
    await add(office, "relay.human.bob", ">", DENY)
    assert outcome(await office.send(caller=OPERATOR)) is PublishOutcome.DELIVERED
    as_bob = await office.send(caller=OPERATOR, claimed_sender="relay.human.bob")
    assert outcome(as_bob) is PublishOutcome.DENIED
    with pytest.raises(DorkError) as refusal:
        await office.send(caller=BOB, claimed_sender="relay.human.operator")
    assert refusal.value.code is ErrorCode.SENDER_MISMATCH


async def test_a_reply_passes_the_same_gate(office: PostOffice) -> None:
    """Being asked to reply somewhere does not open the way there."""
    await office.open("relay.human.bob")
    await add(office, ADA.subject, "relay.human.bob", DENY)
    await office.send(reply_to="relay.human.bob")
    (delivery,) = (await office.relay.claim(ADA, INBOX, limit=1)).deliveries
    assert delivery.message.reply_to is not None
    reply = await office.send("here", to=delivery.message.reply_to, caller=ADA)
    assert outcome(reply) is PublishOutcome.DENIED


async def test_what_a_run_sends_passes_the_same_gate(office: PostOffice) -> None:
    """It speaks as its agent."""
    agent = await office.open_for_agent("worker")
    await office.send(to=agent.subject)
    run = await office.start_run(agent)
    assert run is not None
    assert outcome(await office.send(caller=run)) is PublishOutcome.DELIVERED
    await add(office, agent.subject, INBOX, DENY)
    assert outcome(await office.send(caller=run)) is PublishOutcome.DENIED


async def test_a_removed_rule_binds_no_more(office: PostOffice) -> None:
    """From the next publish."""
    rule_id = await add(office, ">", ">", DENY)
    assert outcome(await office.send()) is PublishOutcome.DENIED
    await office.relay.access.remove(OPERATOR, rule_id)
    assert outcome(await office.send()) is PublishOutcome.DELIVERED


@pytest.mark.parametrize("started", [True, False])
async def test_a_change_on_another_server_binds_the_next_publish(
    db: Database, clock: ManualClock, started: bool
) -> None:
    """Both have the rules in memory, or, before the first start, read them each time."""
    one, other = post_office(db, clock), post_office(db, clock)
    await one.open()
    if started:
        await one.relay.access.start()
        await other.relay.access.start()
    assert (await revision(db) is not None) is started
    for office in (one, other):
        assert outcome(await office.send()) is PublishOutcome.DELIVERED
    rule_id = await add(one, "relay.human.bob", ">", DENY)
    assert outcome(await other.send()) is PublishOutcome.DENIED
    await other.relay.access.remove(OPERATOR, rule_id)
    assert outcome(await one.send()) is PublishOutcome.DELIVERED


async def test_a_change_that_was_rolled_back_leaves_nothing(office: PostOffice, db: Database) -> None:
    """Not even if a publish within it took the rules to memory."""

    class _UndoneError(Exception):
        pass

    def change(tx: Transaction) -> None:
        NamespaceRules().protect(tx, namespace="a", rule_ids=(new_id(), new_id()), actor="x")
        office.relay.access.decide(tx, A.subject, INBOX)
        raise _UndoneError

    with pytest.raises(_UndoneError):
        await db.write(change)
    decided = await db.write(lambda tx: office.relay.access.decide(tx, A.subject, "relay.agent.a.two"))
    assert decided.rule is None


def _protect(tx: Transaction) -> None:
    NamespaceRules().protect(tx, namespace="a", rule_ids=(new_id(), new_id()), actor="x")


def _release(tx: Transaction) -> None:
    NamespaceRules().release(tx, namespace="a", actor="x")


def _open(tx: Transaction) -> None:
    NamespaceRules().open_between(tx, source="a", target="b", rule_id=new_id(), actor="x")


def _close(tx: Transaction) -> None:
    NamespaceRules().close_between(tx, source="a", target="b", actor="x")


async def test_rules_of_registrations_bind_at_once_and_are_told(office: PostOffice, db: Database) -> None:
    """Each step changes the revision and emits its events; what changes nothing does neither."""
    seen = [await revision(db)]
    steps: list[tuple[Callable[[Transaction], None], list[str]]] = [
        (_protect, ["added", "added"]),
        (_protect, []),
        (_open, ["added"]),
        (_open, []),
        (_close, ["removed"]),
        (_close, []),
        (_release, ["removed", "removed"]),
    ]
    for step, expected in steps:
        before = len(await _rule_events(db))
        await db.write(step)
        told = [kind.removeprefix("relay.rule.") for kind in (await _rule_events(db))[before:]]
        assert told == expected, step
        seen.append(await revision(db))
    changed = [old != new for old, new in itertools.pairwise(seen)]
    assert changed == [bool(expected) for _, expected in steps]


async def _rule_events(db: Database) -> list[str]:
    kinds = sa.select(events.c.kind).where(events.c.kind.like("relay.rule.%")).order_by(events.c.position)
    return await db.read(lambda connection: list(connection.execute(kinds).scalars()))


async def test_rows_written_from_below_bind_the_next_publish(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """An import puts the fleet on hold in its transaction, and that renews the revision."""
    assert outcome(await office.send()) is PublishOutcome.DELIVERED

    def imported(tx: Transaction) -> None:
        _insert(tx, from_pattern=">", to_pattern=">", action=DENY)
        hold_fleet(tx._group.connection, reason="imported", now=clock.now())

    await db.write(imported)
    assert outcome(await office.send()) is PublishOutcome.DENIED


def _insert(tx: Transaction, **fields: Any) -> None:
    row = {"id": new_id(), "action": DENY, "priority": 0, "created_at": tx.now()}
    tx.execute(relay_rules.insert(), row | fields)


@pytest.mark.parametrize(("source", "target"), [("a..b", ">"), (">", ">.a"), ("", ">")])
async def test_a_row_that_cannot_be_understood_denies_everything(
    office: PostOffice, db: Database, clock: ManualClock, source: str, target: str
) -> None:
    """Even beside a rule that allows everything, until it is removed, which is possible."""
    await add(office, ">", ">", ALLOW, 10_000)

    def store(tx: Transaction) -> None:
        _insert(tx, from_pattern=source, to_pattern=target, action=ALLOW)
        hold_fleet(tx._group.connection, reason="imported", now=clock.now())

    await db.write(store)
    receipt = await office.send()
    assert outcome(receipt) is PublishOutcome.DENIED
    broken = (await office.relay.access.standing())[0].rule
    assert broken.fault is not None
    assert broken.id in (receipt.recipients[0].detail or "")
    await office.relay.access.remove(OPERATOR, broken.id)
    assert outcome(await office.send()) is PublishOutcome.DELIVERED


async def test_an_action_that_is_none_denies_everything(
    office: PostOffice, db: Database, clock: ManualClock
) -> None:
    """The table refuses such a row; one that came past its check still opens nothing."""

    def store(tx: Transaction) -> None:
        if isinstance(db, PostgresDatabase):
            tx.execute(sa.text("ALTER TABLE relay_rules DROP CONSTRAINT ck_relay_rules_action"))
        else:
            tx.execute(sa.text("PRAGMA ignore_check_constraints = ON"))
        tx.execute(
            sa.text(
                "INSERT INTO relay_rules"
                " (id, from_pattern, to_pattern, action, priority, position, created_at)"
                " SELECT '01JD8Q2M5W7ZC3K9VXN4T6BRAE', '>', '>', 'permit', 0, 0, created_at"
                " FROM relay_endpoints LIMIT 1"
            )
        )
        hold_fleet(tx._group.connection, reason="imported", now=clock.now())

    async with _constraint_restored(db):
        await db.write(store)
        receipt = await office.send()
        assert outcome(receipt) is PublishOutcome.DENIED
        assert "permit" in (receipt.recipients[0].detail or "")
        await office.relay.access.remove(OPERATOR, "01JD8Q2M5W7ZC3K9VXN4T6BRAE")


def _run(tx: Transaction, sql: str) -> None:
    tx.execute(sa.text(sql))


@asynccontextmanager
async def _constraint_restored(db: Database) -> AsyncIterator[None]:
    """PostgreSQL databases of tests are used again."""
    try:
        yield
    finally:
        again = (
            "ALTER TABLE relay_rules ADD CONSTRAINT ck_relay_rules_action CHECK (action IN ('allow', 'deny'))"
        )
        statement = again if isinstance(db, PostgresDatabase) else "PRAGMA ignore_check_constraints = OFF"
        await db.write(partial(_run, sql=statement))


async def test_a_rule_with_the_same_patterns_and_priority_is_replaced(office: PostOffice) -> None:
    """As in the lineage; the events tell both."""
    await add(office, ">", INBOX, DENY, 7)
    second = await add(office, ">", INBOX, ALLOW, 7)
    third = await add(office, ">", INBOX, DENY, 6)
    assert [each.rule.id for each in await office.relay.access.standing()] == [second, third]
    assert await _rule_events(office.db) == [
        f"relay.rule.{word}" for word in ("added", "removed", "added", "added")
    ]


async def test_among_equals_the_earlier_rule_decides(office: PostOffice, db: Database) -> None:
    """Also behind imported ones, whose positions are their places in a file."""
    await db.write(partial(_insert, from_pattern=">", to_pattern="relay.>", position=9, priority=7))
    later = await add(office, "relay.>", INBOX, ALLOW, 7)
    assert [each.rule.id for each in await office.relay.access.standing()][-1] == later
    assert outcome(await office.send()) is PublishOutcome.DENIED


async def test_the_answer_names_rules_that_say_the_opposite(office: PostOffice) -> None:
    """Of those that speak of some of the same messages."""
    against = await add(office, "relay.human.*", INBOX, DENY)
    await add(office, "relay.human.*", "relay.human.bob", DENY)
    _, found = await office.relay.access.add(OPERATOR, NewRule(new_id(), "relay.>", INBOX, ALLOW, 1))
    assert [rule.id for rule in found] == [against]


async def test_rules_of_a_namespace_are_neither_removed_nor_replaced_by_hand(
    office: PostOffice, db: Database
) -> None:
    """They go with its agents; a higher priority overrules them."""
    await db.write(_protect)
    await db.write(_open)
    before = await office.relay.access.standing()
    for each in before:
        with pytest.raises(DorkError) as removed:
            await office.relay.access.remove(OPERATOR, each.rule.id)
        with pytest.raises(DorkError) as replaced:
            await add(office, each.rule.from_pattern, each.rule.to_pattern, DENY, each.rule.priority)
        assert removed.value.code is replaced.value.code is ErrorCode.CONFLICT
    assert await office.relay.access.standing() == before


@pytest.mark.parametrize(("source", "target"), [("", ">"), (">.a", ">"), (">", "a b"), ("a." * 20, ">")])
async def test_what_is_no_pattern_is_refused(office: PostOffice, source: str, target: str) -> None:
    """And nothing is stored."""
    with pytest.raises(DorkError) as refusal:
        await add(office, source, target, ALLOW)
    assert refusal.value.code is ErrorCode.INVALID_SUBJECT
    assert await office.relay.access.standing() == []


async def test_a_rule_that_is_not_there_cannot_be_removed(office: PostOffice) -> None:
    """Its id is named, and nothing is told to anybody."""
    with pytest.raises(DorkError) as refusal:
        await office.relay.access.remove(OPERATOR, new_id())
    assert refusal.value.code is ErrorCode.RULE_NOT_FOUND
    assert await _rule_events(office.db) == []


async def test_a_publish_in_the_change_that_adds_a_rule_obeys_it(office: PostOffice, db: Database) -> None:
    """The rules are those of the transaction."""

    def change(tx: Transaction) -> Receipt:
        _protect(tx)
        return office.relay.publish_in(tx, A, Envelope(id=new_id(), subject=B.subject))

    receipt = await db.write(change)
    assert outcome(receipt) is PublishOutcome.DENIED
    assert "priority 10" in (receipt.recipients[0].detail or "")


async def test_only_the_revision_is_read_while_the_rules_stand(office: PostOffice, db: Database) -> None:
    """A row written past the revision is not seen: that is why every writer has to renew it."""
    assert outcome(await office.send()) is PublishOutcome.DELIVERED
    await db.write(partial(_insert, from_pattern=">", to_pattern=">"))
    assert outcome(await office.send()) is PublishOutcome.DELIVERED
