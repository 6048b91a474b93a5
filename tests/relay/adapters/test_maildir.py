"""The drop folder: what lies there is published once, and what cannot be is put aside with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from dorkos.clock import ManualClock
from dorkos.db.database import Database
from dorkos.db.schema.relay import relay_messages
from dorkos.errors import DorkError
from dorkos.identity.model import OPERATOR
from dorkos.ids import new_id
from dorkos.relay.adapters import maildir
from dorkos.relay.rules import NewRule
from dorkos.relay.subjects import subject_hash
from dorkos.testing import create_test_db
from dorkos.vocabulary import AdapterState, RuleAction
from tests.relay.adapters.bench import Bench, bench
from tests.relay.post_office import INBOX

LONG_AGO = (1_700_000_000, 1_700_000_000)


@pytest.fixture
async def db(clock: ManualClock) -> AsyncIterator[Database]:
    """One engine: what is stored where is told by the conformance tests."""
    async with create_test_db("sqlite", clock=clock) as database:
        yield database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The drop folder, with the `new` of a mailbox; its path is odd."""
    place = tmp_path / "mäil ☕ box"
    (place / INBOX / "new").mkdir(parents=True)
    return place


@pytest.fixture
async def here(db: Database, clock: ManualClock, folder: Path) -> AsyncIterator[Bench]:
    """A server with a drop folder that is not watched yet, and a mailbox."""
    async with bench(db, clock, folder) as made:
        await made.office.open(INBOX)
        await made.add("drop", "maildir", {})
        yield made


def drop(folder: Path, name: str, content: object, *, mailbox: str = INBOX) -> Path:
    """A file that was written long ago."""
    place = folder / mailbox / "new"
    place.mkdir(parents=True, exist_ok=True)
    path = place / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    os.utime(path, LONG_AGO)
    return path


async def look(here: Bench) -> None:
    """Have the watcher go once through what lies there."""
    adapter, _ = await here.adapters.get("drop")
    watcher = here.adapters._connect(adapter)
    assert isinstance(watcher, maildir.DropFolder)
    await watcher.open()
    for found in maildir.dropped(watcher.folder):
        await watcher.take(found)


async def messages(here: Bench) -> list[sa.Row[tuple[str, str, str | None, str | None, str | None]]]:
    """What came in, in order."""
    m = relay_messages.c
    statement = sa.select(m.subject, m.sender, m.claimed_sender, m.reply_to, m.payload).order_by(m.id)
    return await here.db.read(lambda connection: list(connection.execute(statement)))


def names(folder: Path, place: str, mailbox: str = INBOX) -> list[str]:
    """The files of a folder of the mailbox."""
    there = folder / mailbox / place
    found = there.iterdir() if there.exists() else ()
    return sorted(os.fsencode(path.name).decode("utf-8", "replace") for path in found)


def reason(folder: Path, name: str, mailbox: str = INBOX) -> str:
    """Why a file was put aside."""
    said = json.loads((folder / mailbox / "failed" / f"{name}.reason.json").read_text(encoding="utf-8"))
    return str(said["reason"])


async def test_a_file_is_published_and_moved(here: Bench, folder: Path) -> None:
    """As `relay.system.maildir`; who it says it is from is data."""
    envelope = {"subject": INBOX, "from": "relay.agent.a.one", "payload": {"content": "hello"}, "budget": {}}
    drop(folder, "1.json", envelope)
    await look(here)
    (row,) = await messages(here)
    assert row.sender == "relay.system.maildir"
    assert (row.claimed_sender, row.reply_to) == ("relay.agent.a.one", "relay.agent.a.one")
    assert json.loads(row.payload or "") == {"content": "hello"}
    assert (names(folder, "new"), names(folder, "cur"), names(folder, "failed")) == ([], ["1.json"], [])
    assert (await here.status("drop")).inbound_count == 1


async def test_the_watcher_takes_what_is_dropped(here: Bench, folder: Path) -> None:
    """While the server runs; the state tells that it watches."""
    await here.adapters.start()
    await here.until_state("drop", AdapterState.CONNECTED)
    drop(folder, "1.json", "text")

    async def arrived() -> bool | None:
        return True if await messages(here) else None

    await here.until(arrived)


async def test_any_json_is_a_payload_and_any_other_file_a_text(here: Bench, folder: Path) -> None:
    """In the order of names; unfinished ones, by their names, are passed over."""
    drop(folder, "1.json", {"any": "object"})
    drop(folder, "2.json", 7)
    drop(folder, "3.txt", "grüße\n".encode())
    drop(folder, "4", b"")
    for name in (".hidden.json", "5.json.tmp", "6.part"):
        drop(folder, name, 1)
    await look(here)
    said = [json.loads(row.payload or "") for row in await messages(here)]
    assert said == [{"any": "object"}, 7, "grüße\n", ""]
    assert len(names(folder, "new")) == 3


async def test_a_file_is_published_once_though_it_was_not_moved(here: Bench, folder: Path) -> None:
    """As when the server died between the commit and the move; another with this name is another message."""
    path = drop(folder, "1.json", "one")
    os.link(path, folder / "kept")
    await look(here)
    os.link(folder / "kept", path)
    await look(here)
    assert len(await messages(here)) == 1
    assert names(folder, "cur") == ["1-2.json", "1.json"]
    drop(folder, "1.json", "one")
    await look(here)
    assert len(await messages(here)) == 2
    assert names(folder, "cur") == ["1-2.json", "1-3.json", "1.json"]


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _socket(path: Path) -> None:
    # Its full path is longer than a socket's may be.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_link, "a link, not a file"),
        (os.mkfifo, "a FIFO, not a file"),
        (os.mkdir, "a folder, not a file"),
        (_socket, "a socket, not a file"),
        (lambda path: path.write_bytes(b'{"half": '), "not JSON"),
        (lambda path: path.write_bytes(b'"\xff\xfe"'), "not UTF-8"),
        (lambda path: path.write_bytes(b"[" * 60_000), "not JSON"),
        (lambda path: path.write_bytes(b"NaN"), "NaN"),
        (lambda path: path.write_bytes(b'"' + b"x" * 200_000 + b'"'), "more than"),
        (lambda path: path.write_bytes(json.dumps("x" * 2000).encode()), "bytes"),
        (lambda path: path.write_bytes(b'"\\u0000"'), "U+0000"),
        (lambda path: path.write_bytes(b'{"subject": "relay.human.bob", "payload": 1}'), "relay.human.bob"),
        (lambda path: path.write_bytes(b'{"replyTo": "no subject", "payload": 1}'), "invalid characters"),
    ],
    ids=range(13),
)
async def test_what_is_no_message_is_put_aside_with_the_reason(
    db: Database, clock: ManualClock, folder: Path, make: Callable[[Path], None], why: str
) -> None:
    """Nothing is followed, nothing waited for, and the next file is taken all the same."""
    path = folder / INBOX / "new" / "1.json"
    make(path)
    os.utime(path, LONG_AGO, follow_symlinks=False)
    drop(folder, "2.json", "next")
    async with bench(db, clock, folder, max_message_bytes=1024) as here:
        await here.office.open(INBOX)
        await here.add("drop", "maildir", {})
        await look(here)
        assert why in reason(folder, "1.json")
        assert names(folder, "failed") == ["1.json", "1.json.reason.json"]
        assert [json.loads(row.payload or "") for row in await messages(here)] == ["next"]
        assert why in ((await here.status("drop")).last_error or "")


async def test_a_file_that_is_still_being_written_is_left_alone(here: Bench, folder: Path) -> None:
    """Half of JSON, and texts, which have no end; a whole object is taken at once."""
    new = folder / INBOX / "new"
    for name, content in (
        ("1.json", b'{"half": '),
        ("2.txt", b"so far"),
        ("3.json", b"12"),
        ("4.json", b"{}"),
    ):
        (new / name).write_bytes(content)
    await look(here)
    assert names(folder, "new") == ["1.json", "2.txt", "3.json"]
    assert names(folder, "cur") == ["4.json"]


async def test_a_mailbox_is_found_by_its_short_name_too(here: Bench, folder: Path) -> None:
    """By which DorkOS for Node named its folders; one that nobody has is a dead letter's."""
    drop(folder, "1.json", "one", mailbox=subject_hash(INBOX))
    drop(folder, "2.json", "two", mailbox="relay.human.nobody")
    await look(here)
    assert [row.subject for row in await messages(here)] == [INBOX, "relay.human.nobody"]
    assert "no mailbox" in reason(folder, "2.json", "relay.human.nobody")


async def test_a_claim_can_only_keep_a_file_out(here: Bench, folder: Path) -> None:
    """A denied namespace is not reached by saying who one is; nor is anything allowed by it."""
    deny = NewRule(new_id(), "relay.agent.a.*", INBOX, RuleAction.DENY, 200)
    await here.office.relay.access.add(OPERATOR, deny)
    drop(folder, "1.json", {"from": "relay.agent.a.one", "payload": "x", "subject": INBOX})
    drop(folder, "2.json", {"from": "relay.agent.b.one", "payload": "y", "subject": INBOX})
    await look(here)
    assert "relay.agent.a.one" in reason(folder, "1.json")
    assert [json.loads(row.payload or "") for row in await messages(here)] == ["y"]

    closed = NewRule(new_id(), "relay.system.maildir", ">", RuleAction.DENY, 300)
    await here.office.relay.access.add(OPERATOR, closed)
    drop(folder, "3.json", {"from": "relay.human.operator", "payload": "z", "subject": INBOX})
    await look(here)
    assert "relay.system.maildir" in reason(folder, "3.json")


async def test_links_and_names_that_are_no_mailbox_are_not_entered(
    here: Bench, folder: Path, tmp_path: Path
) -> None:
    """Also names that are not UTF-8, as folder and as file."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "new").mkdir(parents=True)
    (elsewhere / "new" / "1.json").write_text("1")
    (folder / "relay.human.link").symlink_to(elsewhere)
    (folder / "relay.human.inner").mkdir()
    (folder / "relay.human.inner" / "new").symlink_to(elsewhere / "new")
    (folder / os.fsdecode(b"b\xff\xfe") / "new").mkdir(parents=True)
    (folder / "not a mailbox" / "new").mkdir(parents=True)
    drop(folder, os.fsdecode(b"n\xff.txt"), b"odd name")
    await look(here)
    assert [json.loads(row.payload or "") for row in await messages(here)] == ["odd name"]
    assert names(folder, "cur") == ["n\ufffd.txt"]


async def test_no_more_are_taken_than_a_sender_may_send(
    db: Database, clock: ManualClock, folder: Path
) -> None:
    """The others wait where they lie."""
    for number in range(4):
        drop(folder, f"{number}.json", number)
    async with bench(db, clock, folder, rate_limit=3) as here:
        await here.office.open(INBOX)
        await here.add("drop", "maildir", {})
        await here.adapters.start()

        async def three() -> bool | None:
            return True if len(await messages(here)) >= 3 else None

        await here.until(three)
        # A file goes away after its message was stored, of which nothing tells.
        async with asyncio.timeout(30):
            while len(await asyncio.to_thread(names, folder, "new")) > 1:
                pass
        await here.adapters.stop()
        assert len(await messages(here)) == 3
        assert names(folder, "new") == ["3.json"]


async def test_a_folder_that_cannot_be_used_shows_in_the_state(
    here: Bench, folder: Path, tmp_path: Path
) -> None:
    """Nothing else is held up by it."""
    (tmp_path / "file").touch()
    await here.adapters.update(OPERATOR, "drop", {"path": str(tmp_path / "file")})
    await here.adapters.start()
    await here.until_state("drop", AdapterState.ERROR)
    with pytest.raises(DorkError):
        await here.adapters.update(OPERATOR, "drop", {"path": "relative"})
