"""One mailbox against a model of it in memory, in any order of events.

Publishing, claiming, acknowledging, giving back, running, expiring, closing, putting back what stopped, and
crashes: what was acknowledged before is there after, and leases go on to run out.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.sqlite import SqliteDatabase
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.relay.model import LetterFilter
from dorkos.testing import EngineName, create_test_db
from dorkos.vocabulary import DeliveryStatus, PublishOutcome, RunReason, RunState
from tests.relay.post_office import PostOffice, assert_counters_hold, post_office

T = TypeVar("T")

PENDING, DELIVERED, FAILED = DeliveryStatus.PENDING, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED
SIZE_MAX, ATTEMPTS_MAX, LEASE_S = 4, 2, 10
SECONDS = st.sampled_from([0, 1, 5, 10, 20])
ENDS = st.sampled_from(
    [
        (RunState.COMPLETED, None),
        (RunState.FAILED, RunReason.EXIT_CODE),
        (RunState.CANCELLED, RunReason.CANCEL_REQUESTED),
        (RunState.INTERRUPTED, RunReason.UNCONFIRMED),
    ]
)


@dataclass
class Expected:
    """A delivery as the model sees it."""

    message_id: str
    expires_at: datetime
    available_at: datetime
    position: int
    status: DeliveryStatus = PENDING
    attempts: int = 0
    token: str | None = None
    run_id: str | None = None

    def is_stale(self, now: datetime) -> bool:
        return self.expires_at < now or self.attempts >= ATTEMPTS_MAX

    def is_held(self, now: datetime) -> bool:
        return self.run_id is not None or (self.token is not None and self.available_at > now)

    def end(self, status: DeliveryStatus) -> None:
        self.status, self.token, self.run_id = status, None, None

    def give_back(self, until: datetime) -> None:
        if self.attempts >= ATTEMPTS_MAX:
            self.end(FAILED)
        else:
            self.available_at, self.token, self.run_id = until, None, None


class MailboxMachine(RuleBasedStateMachine):
    """The real thing and the model, one step at a time."""

    engine: EngineName

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = ManualClock()
        self.model: list[Expected] = []
        self.accepted = 0
        self.turned_away: list[str] = []
        self.is_open = True
        self.leases: list[tuple[str, str]] = []

    @initialize()
    def open(self) -> None:
        db = self.run(self.stack.enter_async_context(create_test_db(self.engine, clock=self.clock)))
        self.office = self._office(db)
        self.agent = self.run(self.office.open_for_agent("worker"))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(work)

    @rule(ttl_s=st.sampled_from([1, 15, 1000]), text=st.text("aé", max_size=3))
    def publish(self, ttl_s: int, text: str) -> None:
        expires_at = self.clock.now() + timedelta(seconds=ttl_s)
        receipt = self.run(self.office.send(text, to=self.agent.subject, expires_at=expires_at))
        expected = self._outcome()
        assert receipt.recipients[0].outcome is expected
        if expected is PublishOutcome.DELIVERED:
            self._accept(receipt.message_id, expires_at)
        else:
            self.turned_away.append(receipt.message_id)

    @precondition(lambda self: self.turned_away or any(each.status is FAILED for each in self.model))
    @rule(choice=st.integers(0))
    def redrive(self, choice: int) -> None:
        letters = self.run(self.office.relay.letters.newest_first(LetterFilter(), limit=10_000))
        letter = letters[choice % len(letters)]
        expected = self._outcome()
        redriven = self.run(self.office.relay.letters.redrive(OPERATOR, letter.id))
        assert redriven.outcome is expected
        if expected is not PublishOutcome.DELIVERED:
            return
        expires_at = self.clock.now() + timedelta(seconds=self.office.relay.settings.message_ttl_seconds)
        if letter.message.id in self.turned_away:
            self.turned_away.remove(letter.message.id)
            self._accept(letter.message.id, expires_at)
            return
        each = next(each for each in self.model if each.message_id == letter.message.id)
        self.accepted += 1
        each.status, each.attempts, each.position = PENDING, 0, self.accepted
        each.expires_at, each.available_at = expires_at, self.clock.now()

    @rule()
    def crash(self) -> None:
        """Go on with what lies on the disk, as a kill would leave it."""
        before = self.office
        after = self._opened_anew(before.db)
        self.run(after.open())
        self.stack.push_async_callback(after.close)
        self.office = self._office(after)
        # They stand in other tables than Relay's.
        self.office.runs.queued.update(before.runs.queued)

    def _opened_anew(self, db: Database) -> Database:
        if isinstance(db, PostgresDatabase):
            self.run(db.close())
            return PostgresDatabase(db.url.render_as_string(hide_password=False), clock=self.clock)
        assert isinstance(db, SqliteDatabase)
        left = db.path.with_name(f"{new_id()}.db")
        # The log first: it is not brought into the file meanwhile, for nobody writes.
        for end in ("-wal", ""):
            file = db.path.with_name(db.path.name + end)
            if file.exists():
                shutil.copyfile(file, left.with_name(left.name + end))
        self.run(db.close())
        return SqliteDatabase(left, clock=self.clock)

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        work = partial(self.office.relay.claim, self.agent, self.agent.subject, limit=limit)
        if not self.is_open:
            with pytest.raises(DorkError) as refusal:
                self.run(work())
            assert refusal.value.code is ErrorCode.ENDPOINT_NOT_FOUND
            return
        claim = self.run(work())
        now = self.clock.now()
        if any(each.is_stale(now) for each in self._claimable()[:limit]):
            self._bury_stale()
        taken = self._claimable()[:limit]
        assert [each.message.id for each in claim.deliveries] == [each.message_id for each in taken]
        for each, delivery in zip(taken, claim.deliveries, strict=True):
            each.attempts += 1
            each.token, each.available_at = delivery.lease_token, now + timedelta(seconds=LEASE_S)
            assert each.token is not None
            self.leases.append((each.message_id, each.token))

    @precondition(lambda self: self.leases)
    @rule(choice=st.integers(0), delay_s=SECONDS, how=st.sampled_from(["ack", "nack", "reject", "extend"]))
    def settle_claimed(self, choice: int, delay_s: int, how: str) -> None:
        held = self.leases[choice % len(self.leases)]
        each = next(each for each in self.model if each.message_id == held[0])
        work = partial(self._settle_claimed, held, timedelta(seconds=delay_s), how)
        if each.token != held[1]:
            with pytest.raises(DorkError) as refusal:
                self.run(work())
            assert refusal.value.code is ErrorCode.LEASE_LOST
            return
        self.run(work())
        if how == "ack":
            each.end(DELIVERED)
        elif how == "reject":
            each.end(FAILED)
        elif how == "nack":
            each.give_back(self.clock.now() + timedelta(seconds=delay_s))
        else:
            each.available_at = self.clock.now() + timedelta(seconds=LEASE_S)

    async def _settle_claimed(self, held: tuple[str, str], delay: timedelta, how: str) -> None:
        relay, where = self.office.relay, (self.agent, self.agent.subject)
        if how == "ack":
            await relay.ack(*where, *held)
        elif how == "extend":
            await relay.extend(*where, *held)
        else:
            await relay.nack(*where, *held, delay=delay, reject=how == "reject")

    @rule()
    def start_run(self) -> None:
        started = self.run(self.office.start_run(self.agent))
        now = self.clock.now()
        expected = None
        if self.is_open and not any(each.run_id for each in self.model):
            waiting = [each for each in self._in_line() if each.status is PENDING and not each.is_held(now)]
            if waiting and waiting[0].is_stale(now):
                self._bury_stale()
                waiting = [each for each in waiting if each.status is PENDING]
            if waiting and waiting[0].available_at <= now:
                expected = waiting[0]
        assert (started is None) == (expected is None)
        if started is not None and expected is not None:
            assert started.run_id is not None
            context = self.office.runs.queued[started.run_id].context
            assert context["DORKOS_MESSAGE_ID"] == expected.message_id
            expected.attempts += 1
            expected.run_id, expected.token = started.run_id, None
            self.started = started

    @precondition(lambda self: any(each.run_id for each in self.model))
    @rule(end=ENDS)
    def finish_run(self, end: tuple[RunState, RunReason | None]) -> None:
        each = next(each for each in self.model if each.run_id)
        self.run(self.office.finish_run(self.started, *end))
        if end[0] is RunState.COMPLETED:
            each.end(DELIVERED)
        elif end[0] is not RunState.FAILED or not self.is_open:
            each.end(FAILED)
        else:
            each.give_back(self.clock.now() + timedelta(seconds=5 * each.attempts))

    @rule(by_s=SECONDS)
    def time_passes(self, by_s: int) -> None:
        self.clock.advance(timedelta(seconds=by_s))

    @rule()
    def sweep(self) -> None:
        self.run(self.office.relay.expiry.work())
        now = self.clock.now()
        for each in self.model:
            if each.status is PENDING and each.expires_at < now and not each.is_held(now):
                each.end(FAILED)

    @rule()
    def close_or_open_again(self) -> None:
        relay, agent_id = self.office.relay, self.agent.agent_id
        assert agent_id is not None
        if self.is_open:
            self.run(self.office.db.write(partial(relay.close_mailbox, agent_id=agent_id)))
            for each in self.model:
                if each.status is PENDING and each.run_id is None:
                    each.end(FAILED)
        else:
            self.run(
                self.office.db.write(
                    partial(
                        relay.open_mailbox,
                        endpoint_id=new_id(),
                        subject=self.agent.subject,
                        agent_id=agent_id,
                        starts_runs=True,
                    )
                )
            )
        self.is_open = not self.is_open

    @invariant()
    def stored_state_is_the_models(self) -> None:
        """Every delivery stands as expected, all that stopped is a dead letter, and the mailbox counts."""
        if not hasattr(self, "agent"):
            return
        inbox = self.run(
            self.office.relay.inbox(self.agent, self.agent.subject, status=None, before=None, limit=10_000)
        )
        actual = [(d.message.id, d.status, d.attempts, d.lease_token, d.run_id) for d in reversed(inbox)]
        assert actual == [(e.message_id, e.status, e.attempts, e.token, e.run_id) for e in self.model]
        letters = self.run(self.office.relay.letters.newest_first(LetterFilter(), limit=10_000))
        stopped = [each.message_id for each in self.model if each.status is FAILED]
        assert sorted(letter.message.id for letter in letters) == sorted(stopped + self.turned_away)
        self.run(assert_counters_hold(self.office.db))

    def _office(self, db: Database) -> PostOffice:
        return post_office(
            db, self.clock, max_mailbox_size=SIZE_MAX, max_attempts=ATTEMPTS_MAX, lease_seconds=LEASE_S
        )

    def _outcome(self) -> PublishOutcome:
        if not self.is_open:
            return PublishOutcome.NO_RECIPIENT
        is_full = sum(each.status is PENDING for each in self.model) == SIZE_MAX
        return PublishOutcome.BACKPRESSURE if is_full else PublishOutcome.DELIVERED

    def _accept(self, message_id: str, expires_at: datetime) -> None:
        self.accepted += 1
        self.model.append(Expected(message_id, expires_at, self.clock.now(), self.accepted))

    def _in_line(self) -> list[Expected]:
        return sorted(self.model, key=lambda each: each.position)

    def _claimable(self) -> list[Expected]:
        now = self.clock.now()
        return [
            e for e in self._in_line() if e.status is PENDING and e.run_id is None and e.available_at <= now
        ]

    def _bury_stale(self) -> None:
        now = self.clock.now()
        for each in self.model:
            if each.status is PENDING and not each.is_held(now) and each.is_stale(now):
                each.end(FAILED)


class SqliteMachine(MailboxMachine):
    """On SQLite."""

    engine = "sqlite"


class PostgresMachine(MailboxMachine):
    """On PostgreSQL."""

    engine = "postgresql"


TestMailboxOnSqlite = SqliteMachine.TestCase
TestMailboxOnPostgres = PostgresMachine.TestCase
# What they do is the same on both; the second has to show only that the engine makes no difference.
for case, examples in ((TestMailboxOnSqlite, 40), (TestMailboxOnPostgres, 15)):
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
del case  # Else it is collected as a third test.
