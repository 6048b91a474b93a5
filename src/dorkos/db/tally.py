"""What is counted by the minute in `rate_limit_buckets`, so that limits hold: one row for all of a commit.

Changes are applied one after the other, so what was read once and what has been counted since are all that
there is: a limit is exact, and costs no statement a change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

# The construct of the PostgreSQL dialect compiles for SQLite as well; there is no neutral one.
from sqlalchemy.dialects.postgresql import insert

from dorkos.db.group import Group
from dorkos.db.prepared import Prepared
from dorkos.db.schema.mesh import rate_limit_buckets
from dorkos.vocabulary import LimitKind

_b = rate_limit_buckets.c
_insert = insert(rate_limit_buckets)
_STORE = Prepared(
    _insert.on_conflict_do_update(
        index_elements=["kind", "agent_id", "bucket_minute"],
        set_={"count": _b.count + _insert.excluded.count},
    ),
    "kind",
    "agent_id",
    "bucket_minute",
    "count",
)
_READ = Prepared(
    sa.select(_b.bucket_minute, _b.count).where(
        _b.kind == sa.bindparam("of_kind", type_=_b.kind.type),
        _b.agent_id == sa.bindparam("who"),
        _b.bucket_minute > sa.bindparam("after"),
    )
)


@dataclass(slots=True)
class _Known:
    """The minutes after `after`, and how much was counted in each, with what is not stored yet.

    `sums` has what was asked for lately: how much that is from one minute to another.
    """

    after: int
    minutes: dict[int, int]
    sums: dict[tuple[int, int], int] = field(default_factory=dict)

    def count(self, minute: int) -> None:
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        for after, until in self.sums:
            if after < minute <= until:
                self.sums[after, until] += 1


class Tally:
    """The counters that the changes of one commit have asked for. Get it with `tx.part(Tally)`."""

    tables = frozenset({rate_limit_buckets.name})

    def __init__(self, group: Group) -> None:
        """Nothing is known and nothing waits."""
        self._group = group
        self._known: dict[tuple[LimitKind, str], _Known] = {}
        self._new: dict[tuple[LimitKind, str], dict[int, int]] = {}

    def used(self, kind: LimitKind, who: str, *, minute: int, minutes: int) -> int:
        """How much was counted in `minutes` up to `minute`.

        A bucket of the future, from before a clock was set back, is not in it: it would stay for long.
        """
        after = minute - minutes
        known = self._of(kind, who, after)
        found = known.sums.get((after, minute))
        if found is None:
            found = sum(count for _, count in self.buckets(kind, who, minute=minute, minutes=minutes))
            known.sums[after, minute] = found
        return found

    def buckets(self, kind: LimitKind, who: str, *, minute: int, minutes: int) -> list[tuple[int, int]]:
        """The same by the minute, oldest first."""
        after = minute - minutes
        known = self._of(kind, who, after)
        return sorted(each for each in known.minutes.items() if after < each[0] <= minute)

    def count(self, kind: LimitKind, who: str, minute: int) -> None:
        """Count one more."""
        new = self._new.setdefault((kind, who), {})
        new[minute] = new.get(minute, 0) + 1
        known = self._known.get((kind, who))
        if known is not None:
            known.count(minute)

    def write(self) -> None:
        """Store what was counted since the last time."""
        counted, self._new = self._new, {}
        _STORE.run_many(
            self._group.connection,
            [
                {"kind": kind, "agent_id": who, "bucket_minute": minute, "count": count}
                for (kind, who), minutes in counted.items()
                for minute, count in minutes.items()
            ],
        )

    def forget(self) -> None:
        """Read anew what is asked for."""
        self._known.clear()

    def _of(self, kind: LimitKind, who: str, after: int) -> _Known:
        known = self._known.get((kind, who))
        if known is None or known.after > after:
            known = self._known[kind, who] = _Known(after, self._read(kind, who, after))
        return known

    def _read(self, kind: LimitKind, who: str, after: int) -> dict[int, int]:
        # Of others nothing is asked here, so what waits of them need not be stored before.
        found = _READ.run(self._group.connection, {"of_kind": kind, "who": who, "after": after})
        minutes: dict[int, int] = dict(found)
        for minute, count in self._new.get((kind, who), {}).items():
            minutes[minute] = minutes.get(minute, 0) + count
        return minutes
