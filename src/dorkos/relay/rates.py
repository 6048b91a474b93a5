"""How fast one may send: a rate for each sender, and a brake on two that keep answering each other.

Both are counted by the minute in `rate_limit_buckets`, and a window is the current minute with those before
it, so it slides by the minute. A place is taken by one conditional statement; what is refused is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.database import Transaction
from dorkos.db.prepared import Prepared
from dorkos.db.schema.mesh import rate_limit_buckets
from dorkos.identity.model import Caller
from dorkos.relay.model import Stop
from dorkos.setting_groups.relay import RelaySettings
from dorkos.vocabulary import DeadLetterReason, LimitKind

_SYSTEM = "relay.system."

_b = rate_limit_buckets.c


def _sum(name: str, *, now_too: bool) -> sa.ScalarSelect[int]:
    """What was counted under the name in the window, the current minute included or not."""
    other = rate_limit_buckets.alias()
    minute = sa.bindparam("minute", type_=_b.bucket_minute.type)
    return (
        sa.select(sa.func.coalesce(sa.func.sum(other.c.count), 0))
        .where(
            other.c.kind == sa.bindparam("kind", type_=_b.kind.type),
            other.c.agent_id == sa.bindparam(name, type_=_b.agent_id.type),
            other.c.bucket_minute > sa.bindparam("after", type_=_b.bucket_minute.type),
            # A bucket of the future, from before a clock was set back, would stay in the window for long.
            other.c.bucket_minute <= minute if now_too else other.c.bucket_minute < minute,
        )
        .scalar_subquery()
    )


def _take(first: sa.ColumnElement[bool], again: sa.ColumnElement[bool]) -> Prepared:
    """Count one more under `who` if `first` holds; where this minute has a row, if `again` holds as well."""
    row = sa.select(
        sa.bindparam("kind", type_=_b.kind.type),
        sa.bindparam("who", type_=_b.agent_id.type),
        sa.bindparam("minute", type_=_b.bucket_minute.type),
        sa.literal_column("1"),
    ).where(first)
    return Prepared(
        insert(rate_limit_buckets)
        .from_select(["kind", "agent_id", "bucket_minute", "count"], row)
        .on_conflict_do_update(
            index_elements=["kind", "agent_id", "bucket_minute"], set_={"count": _b.count + 1}, where=again
        )
        .returning(_b.count)
    )


_MOST = sa.bindparam("most", type_=_b.count.type)
# The row of this minute counts as it is when it is locked: on PostgreSQL another may just have raised it,
# which a subquery would not see.
_TAKE_RATE = _take(_sum("who", now_too=True) < _MOST, _b.count + _sum("who", now_too=False) < _MOST)
_BACK = _sum("back", now_too=True) < _MOST
_TAKE_PAIR = _take(
    sa.or_(_sum("who", now_too=True) < _MOST, _BACK),
    sa.or_(_b.count + _sum("who", now_too=False) < _MOST, _BACK),
)


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
    minute = _minute(tx.now())
    values = {
        "kind": LimitKind.SENDER,
        "who": sender,
        "minute": minute,
        "after": minute - minutes,
        "most": most,
    }
    if tx.run(_TAKE_RATE, values):
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
    minute = _minute(tx.now())
    values = {
        "kind": LimitKind.PAIR,
        "who": _pair(sender, target),
        "back": _pair(target, sender),
        "minute": minute,
        "after": minute - minutes,
        "most": most,
    }
    if tx.run(_TAKE_PAIR, values):
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
