"""How fast one may send: a rate for each sender, and a brake on two that keep answering each other.

Both are counted by the minute in `rate_limit_buckets`, and a window is the current minute with those before
it, so it slides by the minute. What is refused is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.mesh import rate_limit_buckets
from dorkos.db.tally import Tally
from dorkos.identity.model import Caller
from dorkos.relay.model import Stop
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason, LimitKind

_SYSTEM = "relay.system."

_b = rate_limit_buckets.c


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a limit is used. `detail` says what it is about."""

    limit: str
    used: int
    allowed: int
    detail: str

    @property
    def stops(self) -> bool:
        """Whether the next message is stopped by it."""
        return self.used >= self.allowed


def binds(caller: Caller) -> bool:
    """Whether the caller is bound at all: neither the operator nor the parts of the server are.

    A program that Pulse runs is bound, whatever it speaks as.
    """
    if caller.is_operator:
        return False
    return caller.run_id is not None or caller.agent_id is not None or not caller.subject.startswith(_SYSTEM)


def take_rate(tx: Transaction, sender: str, settings: RelaySettings) -> Stop | None:
    """Count a message of the sender, or say why it is one too many."""
    most, minutes = settings.rate_limit, settings.rate_window_minutes
    tally, minute = tx.part(Tally), _minute(tx.now())
    if tally.used(LimitKind.SENDER, sender, minute=minute, minutes=minutes) < most:
        tally.count(LimitKind.SENDER, sender, minute)
        return None
    return Stop(
        DeadLetterReason.RATE_LIMITED,
        f"{sender} has sent {most} messages within {_span(minutes)}, and no more are allowed"
        " (`relay.rateLimit`). The window slides by the minute.",
    )


def take_turn(tx: Transaction, sender: str, target: str, settings: RelaySettings) -> Stop | None:
    """Count a message of the pair, or say why it is stopped: both have sent each other as many as allowed.

    Who only sends, or only receives, is never stopped: that is work, not a loop.
    """
    most, minutes = settings.pair_limit, settings.pair_window_minutes
    tally, minute = tx.part(Tally), _minute(tx.now())
    forth, back = _pair(sender, target), _pair(target, sender)
    if any(tally.used(LimitKind.PAIR, pair, minute=minute, minutes=minutes) < most for pair in (forth, back)):
        tally.count(LimitKind.PAIR, forth, minute)
        return None
    return Stop(
        DeadLetterReason.LOOP,
        f"{sender} and {target} have sent each other {most} messages within {_span(minutes)}: that looks like"
        " a loop and is stopped (`relay.pairLimit`). The window slides by the minute.",
    )


def used(
    connection: sa.Connection, sender: str, target: str, settings: RelaySettings, now: datetime
) -> tuple[Used, ...]:
    """How much of both limits is used at the moment."""
    forth = _counted(
        connection, LimitKind.PAIR, _pair(sender, target), now, minutes=settings.pair_window_minutes
    )
    back = _counted(
        connection, LimitKind.PAIR, _pair(target, sender), now, minutes=settings.pair_window_minutes
    )
    rate = _counted(connection, LimitKind.SENDER, sender, now, minutes=settings.rate_window_minutes)
    return (
        Used(
            "rate",
            rate,
            settings.rate_limit,
            f"Messages of {sender} within {_span(settings.rate_window_minutes)}.",
        ),
        Used(
            "loop",
            min(forth, back),
            settings.pair_limit,
            f"Messages that both have sent each other within {_span(settings.pair_window_minutes)}.",
        ),
    )


def _counted(connection: sa.Connection, kind: LimitKind, who: str, now: datetime, *, minutes: int) -> int:
    minute = _minute(now)
    statement = sa.select(sa.func.coalesce(sa.func.sum(_b.count), 0)).where(
        _b.kind == kind,
        _b.agent_id == who,
        _b.bucket_minute > minute - minutes,
        _b.bucket_minute <= minute,
    )
    return int(connection.execute(statement).scalar_one())


def _pair(sender: str, target: str) -> str:
    # No subject holds a space.
    return f"{sender} {target}"


def _span(minutes: int) -> str:
    return "one minute" if minutes == 1 else f"{minutes} minutes"


def _minute(now: datetime) -> int:
    return int(now.timestamp()) // 60
