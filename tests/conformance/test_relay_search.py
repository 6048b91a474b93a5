"""Full-text search, the same answers on both engines."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.migrate import live_fingerprint
from dorkos.db.schema.system import system_state
from dorkos.errors import DorkError, ErrorCode
from dorkos.identity.model import OPERATOR
from dorkos.relay import search
from dorkos.relay.model import LetterFilter
from tests.relay.post_office import PostOffice, post_office

TEXTS = (
    "The build of main has failed.",
    {"content": "Build 17 is done", "keys are no text": ["naïve façade", 3.5]},
    "STRASSE und Straße",
    "東京 タワー",
    "don't match the_under-score",
    "builders build",
    "ﬁne print",
)


@pytest.fixture
async def office(db: Database, clock: ManualClock) -> PostOffice:
    """Relay with Ada's mailbox."""
    office = post_office(db, clock, retention_days=1)
    await office.open()
    return office


async def fill(office: PostOffice) -> list[str]:
    """Send the texts and take them into the index; their ids."""
    ids = [(await office.send(text)).message_id for text in TEXTS]
    await office.relay.indexer.work()
    return ids


async def found(office: PostOffice, text: str, **page: object) -> list[str]:
    """Ids of what is found."""
    fields = {"before": None, "limit": 20} | page
    return [each.message.id for each in await office.relay.search(text, **fields)]  # type: ignore[arg-type]  # As above.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("build", [5, 1, 0]),
        ("build fail", [0]),
        ("fail build", []),
        ("BUILD", [5, 1, 0]),
        ("build done", [1]),
        ("17", [1]),
        ("3 5", [1]),
        ("facade", []),
        ("faça", [1]),
        ("strasse", [2]),
        ("straß", [2]),
        ("東", [3]),
        ("タワー", [3]),
        ("under", [4]),
        ("the main", [0]),
        ("fine", [6]),
        ("keys", []),
        ("uil", []),
        ('build" OR "fine', []),
        ("build & !main", [0]),
        ("build*", [5, 1, 0]),
    ],
)
async def test_all_words_have_to_occur_and_the_last_may_begin_one(
    office: PostOffice, text: str, expected: list[int]
) -> None:
    """Without case, in any script, and whatever signs a question holds: they part words."""
    ids = await fill(office)
    assert await found(office, text) == [ids[each] for each in expected]


async def test_pages_go_on_where_the_last_ended(office: PostOffice) -> None:
    """Newest first, by the order in which they were accepted."""
    ids = await fill(office)
    assert await found(office, "build", limit=2) == [ids[5], ids[1]]
    assert await found(office, "build", limit=2, before=ids[1]) == [ids[0]]


async def test_what_was_there_before_the_index_is_found(office: PostOffice) -> None:
    """Oldest first, in pieces; and what comes meanwhile after it."""
    ids = [(await office.send(f"piece {number}", caller=OPERATOR)).message_id for number in range(450)]
    for _ in range(3):
        await office.relay.indexer.work()
    assert await found(office, "piece", limit=3) == ids[:-4:-1]
    assert await found(office, "piece 0") == [ids[0]]


async def test_what_stopped_is_found_too(office: PostOffice) -> None:
    """A dead letter is what one looks for most."""
    receipt = await office.send("lost and found", to="relay.human.nobody")
    await office.relay.indexer.work()
    assert await found(office, "lost") == [receipt.message_id]


async def test_what_was_taken_away_is_not_found(office: PostOffice, clock: ManualClock) -> None:
    """At once; and the index forgets it with the next retention."""
    await office.send("gone for good", to="relay.human.nobody")
    await office.relay.indexer.work()
    (letter,) = await office.relay.letters.newest_first(LetterFilter(), limit=2)
    await office.relay.letters.purge(OPERATOR, letter.id)
    assert await found(office, "gone") == []
    clock.advance(timedelta(days=1))
    await office.relay.retention.work()
    await office.relay.indexer.work()
    assert await found(office, "gone") == []


async def test_a_second_indexer_takes_nothing_in_twice(
    office: PostOffice, clock: ManualClock, db: Database
) -> None:
    """Each message once, whoever was first."""
    other = post_office(db, clock)
    receipt = await office.send("only once")
    await office.relay.indexer.work()
    await other.relay.indexer.work()
    await office.relay.indexer.work()
    assert await found(office, "once") == [receipt.message_id]


async def test_the_end_of_a_long_text_is_not_looked_at(office: PostOffice) -> None:
    """Sixteen kilobytes are."""
    receipt = await office.send("start " + "x" * 16_370 + " border beyond")
    await office.relay.indexer.work()
    assert await found(office, "start") == [receipt.message_id]
    assert await found(office, "beyond") == []


@pytest.mark.parametrize("text", ["", "  ...  ", " ".join(f"w{n}" for n in range(17))])
async def test_a_question_needs_a_word_and_not_too_many(office: PostOffice, text: str) -> None:
    """It says so instead of finding nothing."""
    with pytest.raises(DorkError) as refusal:
        await found(office, text)
    assert refusal.value.code is ErrorCode.VALIDATION_FAILED


async def test_without_an_index_nothing_is_found(office: PostOffice) -> None:
    """Nor does it fail: the index is made when the server works."""
    await office.send("early bird")
    assert await found(office, "zzz") == []


async def test_the_index_is_no_part_of_the_schema(office: PostOffice, db: Database) -> None:
    """It is made by the server as it runs: a start after that must not take the schema for changed."""
    # A database of PostgreSQL serves many tests, and may have one of an earlier.
    await db.write(lambda tx: tx.execute(sa.text("DROP TABLE IF EXISTS relay_search")))
    before = await db.read(live_fingerprint)
    noted = sa.select(system_state.c.value).where(system_state.c.key == "schema_fingerprint")
    assert await db.read(lambda c: c.execute(noted).scalar()) == before
    assert not await db.read(search.is_there)
    await fill(office)
    assert await db.read(search.is_there)
    assert await db.read(live_fingerprint) == before


async def test_any_other_table_is_part_of_the_fingerprint(db: Database) -> None:
    """Else a schema that somebody changed by hand would pass for the one that was proved."""
    before = await db.read(live_fingerprint)
    await db.write(lambda tx: tx.execute(sa.text("CREATE TABLE another (id integer)")))
    try:
        assert await db.read(live_fingerprint) != before
    finally:
        await db.write(lambda tx: tx.execute(sa.text("DROP TABLE another")))
    assert await db.read(live_fingerprint) == before
