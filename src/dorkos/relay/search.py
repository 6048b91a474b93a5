"""The full-text index: SQLite's FTS5 or PostgreSQL's, holding the words of `words`.

It holds nothing of its own: it is made by the server where it is missing, from the messages, and left out
where a database is exported, transferred or compared. Found is what has all the words, the last one counting
as the beginning of one; newest first, by the order in which messages were accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dorkos.db.database import Transaction
from dorkos.db.schema.relay import relay_messages as m

_SQLITE = (
    (
        "CREATE TABLE IF NOT EXISTS relay_search"
        " (id INTEGER PRIMARY KEY, message_id TEXT NOT NULL UNIQUE) STRICT"
    ),
    (
        "CREATE VIRTUAL TABLE IF NOT EXISTS relay_search_words USING fts5("
        "words, content='', contentless_delete=1, detail=none, tokenize='ascii')"
    ),
    (
        "CREATE TRIGGER IF NOT EXISTS relay_search_gone AFTER DELETE ON relay_search"
        " BEGIN DELETE FROM relay_search_words WHERE rowid = old.id; END"
    ),
)
_POSTGRES = (
    (
        "CREATE TABLE IF NOT EXISTS relay_search (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        ' message_id text COLLATE "C" NOT NULL UNIQUE, words tsvector NOT NULL)'
    ),
    "CREATE INDEX IF NOT EXISTS relay_search_words ON relay_search USING gin (words)",
)

_TAKEN_IN = sa.text(
    "INSERT INTO relay_search (message_id) VALUES (:message_id) ON CONFLICT DO NOTHING RETURNING id"
)
_WORDS_IN = sa.text("INSERT INTO relay_search_words (rowid, words) VALUES (:id, :words)")
_BOTH_IN = sa.text(
    "INSERT INTO relay_search (message_id, words) VALUES (:message_id, array_to_tsvector(:words))"
    " ON CONFLICT DO NOTHING"
)
_FOUND = {
    "sqlite": "SELECT s.message_id FROM relay_search_words"
    " JOIN relay_search s ON s.id = relay_search_words.rowid"
    " WHERE relay_search_words MATCH :asked AND relay_search_words.rowid < :before",
    "postgresql": "SELECT s.message_id FROM relay_search s"
    " WHERE s.words @@ CAST(:asked AS tsquery) AND s.id < :before",
}
# What was taken away since stands in the index for a while, and is no answer.
_STILL_THERE = " AND EXISTS (SELECT 1 FROM relay_messages m WHERE m.id = s.message_id)"
# On SQLite by the index of words, which has that order: else all that is found would be sorted.
_ORDER = {
    "sqlite": " ORDER BY relay_search_words.rowid DESC LIMIT :most",
    "postgresql": " ORDER BY s.id DESC LIMIT :most",
}
_LAST = 2**62


@dataclass(frozen=True, slots=True)
class Entry:
    """A message by its words."""

    message_id: str
    words: Sequence[str]


def make(tx: Transaction) -> None:
    """Make the index where it is missing. Harmless to repeat."""
    is_sqlite = tx.dialect == "sqlite"
    for statement in _SQLITE if is_sqlite else _POSTGRES:
        tx.execute(sa.text(statement))


def is_there(connection: sa.Connection) -> bool:
    """Whether the index was made."""
    if connection.dialect.name == "sqlite":
        look = "SELECT 1 FROM sqlite_schema WHERE name = 'relay_search_words'"
    else:
        look = "SELECT 1 WHERE to_regclass('relay_search') IS NOT NULL"
    return connection.execute(sa.text(look)).first() is not None


def take_in(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Add messages in this order. One that is there already stays as it is."""
    for entry in entries:
        if tx.dialect == "postgresql":
            tx.execute(_BOTH_IN, {"message_id": entry.message_id, "words": list(entry.words)})
            continue
        row = tx.execute(_TAKEN_IN, {"message_id": entry.message_id}).first()
        if row is not None:
            tx.execute(_WORDS_IN, {"id": row[0], "words": " ".join(entry.words)})


def find(connection: sa.Connection, words: Sequence[str], *, before: str | None, limit: int) -> list[str]:
    """Ids of the messages that have all the words, the last as a beginning. `before` is the last id seen."""
    dialect = connection.dialect.name
    place = _LAST if before is None else _place_of(connection, before)
    statement = sa.text(_FOUND[dialect] + _STILL_THERE + _ORDER[dialect])
    values = {"asked": _question(words, dialect), "before": place, "most": limit}
    return list(connection.execute(statement, values).scalars())


def orphans(connection: sa.Connection, *, limit: int) -> list[str]:
    """Messages in the index that were taken away since."""
    statement = (
        "SELECT s.message_id FROM relay_search s"
        " WHERE NOT EXISTS (SELECT 1 FROM relay_messages m WHERE m.id = s.message_id)"
        " ORDER BY s.id LIMIT :most"
    )
    return list(connection.execute(sa.text(statement), {"most": limit}).scalars())


def forget(tx: Transaction, message_ids: Sequence[str]) -> None:
    """Take messages out of the index."""
    for message_id in message_ids:
        tx.execute(sa.text("DELETE FROM relay_search WHERE message_id = :id"), {"id": message_id})


def payloads(connection: sa.Connection, message_ids: Sequence[str]) -> dict[str, str | None]:
    """The payloads of those messages that are still there."""
    rows = connection.execute(sa.select(m.c.id, m.c.payload).where(m.c.id.in_(message_ids)))
    return {row[0]: row[1] for row in rows}


def _question(words: Sequence[str], dialect: str) -> str:
    """Words hold letters and digits only, so nothing in them needs care but their frame."""
    if dialect == "sqlite":
        return " AND ".join(f'"{word}"' for word in words) + " *"
    return " & ".join(f"'{word}'" for word in words) + ":*"


def _place_of(connection: sa.Connection, message_id: str) -> int:
    row = connection.execute(
        sa.text("SELECT id FROM relay_search WHERE message_id = :id"), {"id": message_id}
    ).first()
    return _LAST if row is None else int(row[0])
