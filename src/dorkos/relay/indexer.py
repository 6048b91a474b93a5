"""Taking messages into the full-text index after their commit, in the order in which they were accepted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert  # Its ON CONFLICT compiles for SQLite as well.

from dorkos.db.database import Database, Transaction
from dorkos.db.schema.relay import relay_messages as m
from dorkos.db.schema.system import SEARCH_KEY, events, system_state
from dorkos.db.types import to_json
from dorkos.errors import DorkError, ErrorCode
from dorkos.events import pruned_to
from dorkos.lifecycle import Loop
from dorkos.relay import messages, search
from dorkos.relay.model import StoredMessage
from dorkos.relay.search import Entry
from dorkos.relay.words import ASKED_MAX, text_of, words_of

# Messages that one change takes in, and changes before others have their turn.
_BATCH = 200
_BATCHES = 5
_KINDS = ("relay.message.published", "relay.message.dead_lettered")


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far the index is: first all messages that were there, up to the id `after`, None when that is done;
    then by events."""

    epoch: str
    position: int
    after: str | None


class Indexer(Loop):
    """Follows what was published, a second behind at most when it is not busy."""

    def __init__(self, database: Database, *, interval_s: float = 1.0) -> None:
        """See `Loop` for its life. Several servers may do it at once: each message is taken in once."""
        super().__init__("relay.indexer", interval_s=interval_s)
        self._database = database
        self._is_made = False

    async def work(self) -> float | None:
        """Take in what came since; some of it only, where much came at once."""
        if not self._is_made:
            await self._database.write(search.make)
            self._is_made = True
        for _ in range(_BATCHES):
            if self.stopping:
                return None
            kept, reached, ids, is_behind = await self._database.read(_next)
            entries = await self._database.read(partial(_entries, ids=ids))
            if entries or kept is None or to_json(asdict(reached)) != kept:
                await self._database.write(partial(_take_in, reached=reached, entries=entries))
            if not is_behind:
                return None
        return 0.1

    async def clean(self) -> None:
        """Take those messages out that are no longer stored."""
        while self._is_made and not self.stopping:
            gone = await self._database.read(partial(search.orphans, limit=_BATCH))
            if gone:
                await self._database.write(partial(search.forget, message_ids=gone))
            if len(gone) < _BATCH:
                return


async def find(database: Database, text: str, *, before: str | None, limit: int) -> list[StoredMessage]:
    """Messages that have all the words of `text`, the last one as a beginning, newest first.

    Raises `validation_failed` for a text without a word, or with too many.
    """
    asked = words_of(text)
    if not 1 <= len(asked) <= ASKED_MAX:
        raise DorkError(
            ErrorCode.VALIDATION_FAILED,
            f"The question has {len(asked)} words; it needs 1 to {ASKED_MAX}.",
            hint="A word is made of letters and digits.",
        )

    def query(connection: sa.Connection) -> list[StoredMessage]:
        if not search.is_there(connection):
            return []
        ids = search.find(connection, asked, before=before, limit=limit)
        return messages.of_ids(connection, ids)

    return await database.read(query)


def _next(connection: sa.Connection) -> tuple[str | None, _Reached, Sequence[str], bool]:
    """What is kept, how far the index will be after the next messages, which these are, and whether there are
    more."""
    kept = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == SEARCH_KEY)
    ).scalar_one_or_none()
    reached = _reached(connection, kept)
    if reached.after is not None:
        older = sa.select(m.c.id).where(m.c.id > reached.after).order_by(m.c.id).limit(_BATCH)
        ids = list(connection.execute(older).scalars())
        is_done = len(ids) < _BATCH
        return kept, replace(reached, after=None if is_done else ids[-1]), ids, True
    rows = connection.execute(
        sa.select(events.c.position, events.c.kind, events.c.entity_id)
        .where(events.c.position > reached.position)
        .order_by(events.c.position)
        .limit(_BATCH)
    ).all()
    if not rows:
        return kept, reached, (), False
    ids = list(dict.fromkeys(row.entity_id for row in rows if row.kind in _KINDS))
    return kept, replace(reached, position=rows[-1].position), ids, len(rows) == _BATCH


def _reached(connection: sa.Connection, kept: str | None) -> _Reached:
    """How far the index is. Where that is not known it begins with all that is stored."""
    epoch = connection.execute(
        sa.select(system_state.c.value).where(system_state.c.key == "epoch")
    ).scalar_one_or_none()
    try:
        found = _Reached(**json.loads(kept or ""))
    except (ValueError, TypeError):
        found = None
    if found is None or found.epoch != str(epoch) or found.position < pruned_to(connection):
        newest = connection.execute(sa.select(sa.func.max(events.c.position))).scalar_one()
        return _Reached(str(epoch), newest or 0, "")
    return found


def _entries(connection: sa.Connection, ids: Sequence[str]) -> Sequence[Entry]:
    found = search.payloads(connection, ids) if ids else {}
    return [Entry(each, words_of(text_of(found[each]))) for each in ids if each in found]


def _take_in(tx: Transaction, reached: _Reached, entries: Sequence[Entry]) -> None:
    search.take_in(tx, entries)
    fresh = insert(system_state).values(key=SEARCH_KEY, value=to_json(asdict(reached)))
    tx.execute(fresh.on_conflict_do_update(index_elements=["key"], set_={"value": fresh.excluded.value}))
