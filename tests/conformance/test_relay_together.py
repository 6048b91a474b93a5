"""Relay where many changes share a commit: each finds what those before it left, as if it were alone."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database, Transaction
from dorkos.db.schema.mesh import rate_limit_buckets
from dorkos.db.schema.relay import relay_messages
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR, Caller
from dorkos.ids import new_id
from dorkos.relay.model import Claim, Envelope, Receipt
from dorkos.relay.payload import encode
from dorkos.relay.rules import NewRule
from dorkos.vocabulary import LimitKind, RuleAction
from tests.relay.post_office import ADA, BOB, INBOX, PostOffice, assert_counters_hold, post_office

ROOM = 9
RATE = 12
ROUNDS = 12


async def at_once(db: Database, work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """What became of each. They wait for the writer in their order, and so share a commit."""
    release = threading.Event()
    first = asyncio.ensure_future(db.write(lambda tx: release.wait(30)))
    tasks = [asyncio.ensure_future(each) for each in work]
    await asyncio.wait([first, *tasks], timeout=0)
    release.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Serial:
    """Relay as it is if one change comes after the other: who is kept out, what was counted, what waits."""

    denied: dict[str, str] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    waiting: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)

    def send(self, sender: str, envelope: Envelope) -> object:
        """The message's id and what becomes of it."""
        if envelope.key is not None:
            first = self.keys.setdefault((sender, envelope.key), envelope.id)
            if first != envelope.id:
                return "again", first
        if sender in self.denied:
            return "denied", envelope.id
        if self.counted[sender] >= RATE:
            return "rate_limited", envelope.id
        self.counted[sender] += 1
        if len(self.waiting) + len(self.held) >= ROOM:
            return "backpressure", envelope.id
        self.waiting.append(envelope.id)
        return "delivered", envelope.id

    def claim(self, limit: int) -> object:
        """The messages, in the order of acceptance."""
        taken, self.waiting = self.waiting[:limit], self.waiting[limit:]
        self.held += taken
        return taken

    def ack(self, message_id: str) -> object:
        """None, or the refusal of a second one."""
        if message_id not in self.held:
            return "lease_lost"
        self.held.remove(message_id)
        return None


def told(outcome: Any) -> object:
    """An answer in the words of `Serial`."""
    match outcome:
        case Receipt():
            return "again" if outcome.duplicate else outcome.recipients[0].outcome.value, outcome.message_id
        case Claim():
            return [each.message.id for each in outcome.deliveries]
        case DorkError():
            return outcome.code.value
        case RuntimeError():
            return "fault"
        case _:
            return None


def left_behind(connection: sa.Connection) -> tuple[dict[str, int], int]:
    """What was counted of each sender, and how many messages there are of changes that failed."""
    b = rate_limit_buckets.c
    counted = sa.select(b.agent_id, b.count).where(b.kind == LimitKind.SENDER)
    never = sa.select(sa.func.count()).where(relay_messages.c.payload == encode("never"))
    by_sender = {row[b.agent_id]: row[b.count] for row in connection.execute(counted).mappings()}
    return by_sender, connection.execute(never).scalar_one()


def work(
    office: PostOffice, serial: Serial, held: dict[str, str], chance: random.Random, *, may_fail: bool
) -> tuple[Coroutine[Any, Any, Any], object]:
    """Something to do, and what is to become of it. `held` has the tokens of what was claimed."""
    relay, what = office.relay, chance.random()
    who: Caller = chance.choice([ADA, BOB])
    key = chance.choice([None, None, f"k{chance.randrange(5)}"])
    # With a key it is the same message each time, else it would be refused as another.
    envelope = Envelope(id=new_id(), subject=INBOX, payload=encode(key or "hello"), key=key)
    if what < 0.5:
        return relay.publish(who, envelope), serial.send(who.subject, envelope)
    if what < 0.6 and may_fail:
        fault = chance.choice([DorkError(ErrorCode.CONFLICT, "No."), RuntimeError("no")])

        def fails(tx: Transaction) -> None:
            relay.publish_in(tx, who, Envelope(id=new_id(), subject=INBOX, payload=encode("never")))
            raise fault

        return office.db.write(fails), told(fault)
    if what < 0.7:
        if who.subject in serial.denied:
            return relay.access.remove(OPERATOR, serial.denied.pop(who.subject)), None
        rule = NewRule(new_id(), who.subject, INBOX, RuleAction.DENY, 500)
        serial.denied[who.subject] = rule.id
        return relay.access.add(OPERATOR, rule), None
    if what < 0.8 or not held:
        limit = chance.choice([1, 2, 4])
        return relay.claim(ADA, INBOX, limit=limit), serial.claim(limit)
    message_id = chance.choice(list(held))
    return relay.ack(ADA, INBOX, message_id, held[message_id]), serial.ack(message_id)


async def test_changes_of_one_commit_end_as_if_each_had_its_own(db: Database, clock: ManualClock) -> None:
    """Publishes, rules, claims and acks in any order, with some that fail after they stored something: each
    is answered as the rules, rates, room and keys are at its turn, and of those that fail nothing stays."""
    office = post_office(db, clock, rate_limit=RATE, max_mailbox_size=ROOM, pair_limit=1000)
    await office.relay.access.start()
    await office.open()
    serial, chance, held = Serial(), random.Random(5), dict[str, str]()
    seen: set[object] = set()
    for number in range(ROUNDS):
        # With a fault among them they are applied apart, else together.
        may_fail = number % 3 == 2
        todo = [work(office, serial, held, chance, may_fail=may_fail) for _ in range(25)]
        outcomes = await at_once(db, [each for each, _ in todo])

        assert [told(each) for each in outcomes] == [expected for _, expected in todo]
        await assert_counters_hold(db)
        claims = [each for each in outcomes if isinstance(each, Claim)]
        held |= {each.message.id: each.lease_token or "" for claim in claims for each in claim.deliveries}
        seen |= {told(each)[0] for each in outcomes if isinstance(each, Receipt)}  # type: ignore[index]  # A pair.

    assert seen == {"delivered", "denied", "rate_limited", "backpressure", "again"}
    counted, never = await db.read(left_behind)
    assert (counted, never) == (dict(serial.counted), 0)
