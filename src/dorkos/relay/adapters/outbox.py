"""What an adapter is to send: claimed from its mailbox, and settled by what became of it.

A message is sent while it is claimed, and acknowledged after the other side took it. If the server dies in
between it is claimed again when the lease ends: at least once, unless the adapter keeps a mark of its own.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_index as i
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import EventFeed
from dorkos.fleet import gate
from dorkos.ids import new_id
from dorkos.relay import acks, breaker, deadletters, delivery, endpoints
from dorkos.relay.adapters import store
from dorkos.relay.adapters.model import Adapter, Never, NotNow, Outcome, Sent, Unknown
from dorkos.relay.inbox import IS_PENDING
from dorkos.relay.model import Claim, Delivery, Lease
from dorkos.relay.wakeups import Wakeups
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason

# Longer than any attempt to send may take.
LEASE = timedelta(seconds=120)
_LOOK_AGAIN_S = 30.0
_HELD_S = 1.0
# After the n-th failed attempt a message waits twice as long as after the one before.
_FIRST_DELAY = timedelta(seconds=5)
_DELAY_MAX = timedelta(minutes=15)


class Outbox:
    """The mailbox of one adapter, as the adapter works through it."""

    def __init__(
        self,
        database: Database,
        feed: EventFeed,
        adapter: Adapter,
        settings: RelaySettings,
        *,
        max_attempts: int,
    ) -> None:
        """`max_attempts` is how often a message is sent before it is a dead letter."""
        self._settings = settings
        self._database = database
        self._wakeups = Wakeups(feed)
        self._adapter = adapter
        self._max_attempts = max_attempts

    async def next(self) -> Delivery:
        """The longest waiting message that may be sent now; waits until there is one.

        While the fleet is on hold there is none.
        """
        while True:
            mark = self._wakeups.mark()
            lease = Lease(self._adapter.subject, self._adapter.subject, new_id(), LEASE)
            claim = await self._database.write(partial(self._claim, lease=lease))
            if claim.deliveries:
                return claim.deliveries[0]
            wait_s = _HELD_S if claim.held_by is not None else claim.next_in_s
            if wait_s != 0.0:
                within_s = _LOOK_AGAIN_S if wait_s is None else min(wait_s, _LOOK_AGAIN_S)
                await self._wakeups.wait(claim.endpoint_id, after=mark, within_s=within_s)

    async def settle(self, sent: Delivery, outcome: Outcome) -> None:
        """Record what became of a message. What is not held any more is left alone."""
        try:
            await self._database.write(lambda tx: self._settle(tx, sent, outcome))
        except DorkError as refusal:
            if refusal.code not in (ErrorCode.LEASE_LOST, ErrorCode.DELIVERY_NOT_FOUND):
                raise

    async def put_back(self, unsent: Delivery) -> None:
        """Give back what was not tried, as if it had never been claimed. What is not held any more is left
        alone: another server that runs the adapter by now may be sending it."""
        await self._database.write(lambda tx: self._put_back(tx, unsent))

    def _claim(self, tx: Transaction, lease: Lease) -> Claim:
        fleet = gate(tx)
        mailbox = endpoints.mailbox(tx, self._adapter.subject, is_open=True)
        if not fleet.starts:
            return Claim(mailbox.id, (), None, held_by=fleet)
        return delivery.claim(tx, mailbox, lease, limit=1, max_attempts=self._max_attempts)

    def _put_back(self, tx: Transaction, unsent: Delivery) -> None:
        if delivery.is_held(tx, unsent):
            delivery.put_off(tx, unsent, delay=timedelta(), actor=self._adapter.subject)

    def _settle(self, tx: Transaction, sent: Delivery, outcome: Outcome) -> None:
        mailbox = endpoints.mailbox(tx, self._adapter.subject)
        actor = self._adapter.subject
        token = sent.lease_token or ""
        if isinstance(outcome, NotNow) and outcome.fault:
            breaker.fault(tx, mailbox.id, outcome.detail, self._settings, subject=mailbox.subject)
        match outcome:
            case Sent():
                acks.ack(tx, mailbox, sent.message.id, token, actor=actor)
                store.count(tx, self._adapter.id, outbound=1)
            case NotNow(detail, after, _) if sent.attempts < self._max_attempts:
                delay = after if after is not None else _delay(sent.attempts)
                delivery.nack(
                    tx,
                    mailbox,
                    sent.message.id,
                    token,
                    delay=delay,
                    reject=False,
                    max_attempts=self._max_attempts,
                    actor=actor,
                )
                store.count(tx, self._adapter.id, error=detail)
            case NotNow(detail) | Never(detail) | Unknown(detail):
                held = (i.c.id == sent.id) & (i.c.lease_token == token) & IS_PENDING
                gone = deadletters.fail(tx, held, DeadLetterReason.ADAPTER_FAILED, detail, actor=actor)
                if gone:
                    store.count(tx, self._adapter.id, error=detail)


def _delay(attempts: int) -> timedelta:
    doubled: int = 2 ** min(attempts - 1, 10)
    return min(_FIRST_DELAY * doubled, _DELAY_MAX)
