"""Places in mailboxes: a position for each delivery, and what is pending by count and by bytes.

All three are kept in the mailbox's row, so order and limits hold without counting rows. The first message for
a mailbox in a commit takes its place with one UPDATE, which says as well how full the mailbox is. Changes are
applied one after the other, so for the further ones of the commit that is known, and what they take and what
is no longer pending is written once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.group import Group
from dorkos.db.prepared import Prepared
from dorkos.db.schema.relay import relay_breakers
from dorkos.db.schema.relay import relay_endpoints as e
from dorkos.db.types import Integer
from dorkos.relay.model import Endpoint
from dorkos.setting_groups.relay import RelaySettings

_TAKE_ON_PROBATION = (
    sa.update(e)
    .where(
        e.c.subject == sa.bindparam("of_subject"),
        e.c.closed_at.is_(None),
        sa.or_(e.c.expires_at.is_(None), e.c.expires_at >= sa.bindparam("now", type_=e.c.expires_at.type)),
        e.c.pending_count < sa.func.coalesce(e.c.max_pending, sa.bindparam("most", type_=Integer)),
        e.c.pending_bytes + sa.bindparam("size", type_=Integer)
        <= sa.func.coalesce(e.c.max_pending_bytes, sa.bindparam("most_bytes", type_=Integer)),
    )
    .values(
        position=e.c.position + 1,
        pending_count=e.c.pending_count + 1,
        pending_bytes=e.c.pending_bytes + sa.bindparam("size", type_=Integer),
    )
    .returning(
        e.c.id,
        e.c.position,
        e.c.pending_count,
        e.c.pending_bytes,
        e.c.max_pending,
        e.c.max_pending_bytes,
        e.c.expires_at,
    )
)
_IS_BROKEN = sa.exists().where(
    relay_breakers.c.endpoint_id == e.c.id, relay_breakers.c.state != sa.literal_column("'closed'")
)
_TAKES = {True: Prepared(_TAKE_ON_PROBATION), False: Prepared(_TAKE_ON_PROBATION.where(~_IS_BROKEN))}

_COUNT = Prepared(
    sa.update(e)
    .where(e.c.id == sa.bindparam("endpoint"))
    .values(
        position=e.c.position + sa.bindparam("taken", type_=Integer),
        pending_count=e.c.pending_count + sa.bindparam("more", type_=Integer),
        pending_bytes=e.c.pending_bytes + sa.bindparam("size", type_=Integer),
    )
)


@dataclass(frozen=True, slots=True)
class Place:
    """A place taken in a mailbox: which mailbox, the position given out, and what waits there now.

    The limits are the mailbox's own, None where the settings' hold.
    """

    endpoint_id: str
    position: int
    pending_count: int
    pending_bytes: int
    max_pending: int | None
    max_pending_bytes: int | None
    expires_at: datetime | None


@dataclass(slots=True)
class _Mailbox:
    """What is known of an open mailbox whose circuit is closed, with what is not written yet."""

    place: Place
    pending_count: int
    pending_bytes: int

    def take(self, size: int, settings: RelaySettings, now: datetime) -> Place | None:
        """The next place, by the condition of `_TAKES`; None where it is not for us to say."""
        last = self.place
        most, most_bytes = limits_of(last, settings)
        if last.expires_at is not None and last.expires_at < now:
            return None
        if self.pending_count >= most or self.pending_bytes + size > most_bytes:
            return None
        self.pending_count += 1
        self.pending_bytes += size
        self.place = Place(
            last.endpoint_id,
            last.position + 1,
            self.pending_count,
            self.pending_bytes,
            last.max_pending,
            last.max_pending_bytes,
            last.expires_at,
        )
        return self.place


class Places:
    """The places that the changes of one commit take and leave. A part of their group."""

    tables = frozenset({e.name, relay_breakers.name})

    def __init__(self, group: Group) -> None:
        """Nothing is known and nothing waits."""
        self._group = group
        self._by_subject: dict[str, _Mailbox] = {}
        self._by_id: dict[str, _Mailbox] = {}
        # Positions taken, and how many and how many bytes are pending more, by mailbox.
        self._counted: dict[str, tuple[int, int, int]] = {}

    def take(self, subject: str, *, size: int, settings: RelaySettings, now: datetime) -> Place | None:
        """See `take_place`."""
        known = self._by_subject.get(subject)
        place = None if known is None else known.take(size, settings, now)
        if place is not None:
            self._count(place.endpoint_id, taken=1, more=1, size=size)
            return place
        self.write()
        rows = self._group.run(_TAKES[False], _values(subject, size, settings, now), of=self)
        if not rows:
            return None
        place = Place(*rows[0])
        self._by_subject[subject] = self._by_id[place.endpoint_id] = _Mailbox(
            place, place.pending_count, place.pending_bytes
        )
        return place

    def leave(self, endpoint_id: str, size: int) -> None:
        """One delivery of so many bytes is no longer pending."""
        self._count(endpoint_id, taken=0, more=-1, size=-size)
        known = self._by_id.get(endpoint_id)
        if known is not None:
            known.pending_count -= 1
            known.pending_bytes -= size

    def write(self) -> None:
        """Write what was taken and left since the last time."""
        if not self._counted:
            return
        counted, self._counted = self._counted, {}
        # Past the group, so what was recalled stays: nobody recalls a position or a count.
        _COUNT.run_many(
            self._group.connection,
            [
                {"endpoint": endpoint_id, "taken": taken, "more": more, "size": size}
                for endpoint_id, (taken, more, size) in counted.items()
            ],
        )

    def forget(self) -> None:
        """Somebody else has written to mailboxes or circuits."""
        self._by_subject.clear()
        self._by_id.clear()

    def _count(self, endpoint_id: str, *, taken: int, more: int, size: int) -> None:
        before = self._counted.get(endpoint_id, (0, 0, 0))
        self._counted[endpoint_id] = (before[0] + taken, before[1] + more, before[2] + size)


def take_place(
    tx: Transaction, subject: str, *, size: int, settings: RelaySettings, on_probation: bool = False
) -> Place | None:
    """Take the next position of a mailbox that is open, has room and whose circuit is closed; None if not.

    `on_probation` takes it whatever the circuit's state is.
    """
    if not on_probation:
        return tx.part(Places).take(subject, size=size, settings=settings, now=tx.now())
    rows = tx.run(_TAKES[True], _values(subject, size, settings, tx.now()))
    return Place(*rows[0]) if rows else None


def leave_one(tx: Transaction, endpoint_id: str, size: int) -> None:
    """Count off one delivery of `size` bytes that is no longer pending."""
    tx.part(Places).leave(endpoint_id, size)


def leave(tx: Transaction, sizes: Iterable[tuple[str, int]]) -> None:
    """Count off deliveries that are no longer pending, given as (endpoint id, bytes)."""
    places = tx.part(Places)
    for endpoint_id, size in sizes:
        places.leave(endpoint_id, size)


def limits_of(of: Place | Endpoint, settings: RelaySettings) -> tuple[int, int]:
    """How many messages, and how many bytes of payload, may wait in a mailbox."""
    most = settings.max_mailbox_size if of.max_pending is None else of.max_pending
    most_bytes = settings.max_mailbox_bytes if of.max_pending_bytes is None else of.max_pending_bytes
    return most, most_bytes


def _values(subject: str, size: int, settings: RelaySettings, now: datetime) -> dict[str, object]:
    return {
        "of_subject": subject,
        "size": size,
        "most": settings.max_mailbox_size,
        "most_bytes": settings.max_mailbox_bytes,
        "now": now,
    }
