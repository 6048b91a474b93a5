"""Capturing output: order, pieces, bounds, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dorkos.pulse.capture import CHUNK_BYTES, Capture
from dorkos.pulse.model import OutputChunk
from dorkos.pulse.redaction import Secrets
from dorkos.vocabulary import OutputStream

OUT, ERR = OutputStream.STDOUT, OutputStream.STDERR
NONE = Secrets(())


class Shelf:
    """Keeps what is written; holds the writer up while `open` is not set."""

    def __init__(self) -> None:
        self.chunks: list[OutputChunk] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fault: Exception | None = None

    async def write(self, chunks: Sequence[OutputChunk]) -> None:
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        self.chunks += chunks

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


async def test_small_writes_become_one_chunk() -> None:
    """What comes together from one stream is stored together, up to the size of a chunk."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=10**6, secrets=NONE)
    for letter in "abc":
        await capture.take(OUT, letter.encode())
    await capture.take(ERR, b"!")
    await capture.take(OUT, b"d")
    await capture.close()
    assert [(chunk.seq, chunk.stream, chunk.text) for chunk in shelf.chunks] == [
        (1, OUT, "abc"),
        (2, ERR, "!"),
        (3, OUT, "d"),
    ]


async def test_no_chunk_is_larger_than_allowed() -> None:
    """Bytes that triple in size as U+FFFD are cut into several chunks."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=10**6, secrets=NONE)
    await capture.take(OUT, b"\xff" * CHUNK_BYTES)
    await capture.close()
    assert shelf.text == "\ufffd" * CHUNK_BYTES
    assert max(len(chunk.text.encode()) for chunk in shelf.chunks) <= CHUNK_BYTES


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_characters_survive_any_split(size: int) -> None:
    """Wherever the bytes are cut, the text is the same."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=10**6, secrets=NONE)
    data = "añ€😀\r\n".encode() * 5
    for start in range(0, len(data), size):
        await capture.take(OUT, data[start : start + size])
    await capture.close()
    assert shelf.text == capture.tail == data.decode()


async def test_a_character_is_not_cut_by_the_limit() -> None:
    """The limit is in bytes and never exceeded, and no half character is stored."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=5, secrets=NONE)
    await capture.take(OUT, "€€€".encode())
    await capture.take(OUT, b"more")
    await capture.close()
    assert [(chunk.stream, chunk.text) for chunk in shelf.chunks] == [
        (OUT, "€"),
        (OutputStream.SYSTEM, "Output beyond 5 bytes was dropped.\n"),
    ]
    assert capture.tail == "€€€more"


async def test_exactly_the_limit_is_not_cut() -> None:
    """Nothing is reported as dropped when nothing was."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=5, secrets=NONE)
    await capture.take(OUT, b"12345")
    await capture.close()
    assert [chunk.text for chunk in shelf.chunks] == ["12345"]


async def test_the_reader_waits_for_the_writer() -> None:
    """With the database behind, what was read but not written is bounded."""
    shelf = Shelf()
    shelf.open.clear()
    capture = Capture(shelf.write, max_bytes=10**9, secrets=NONE)
    taken = 0

    async def read_on() -> None:
        nonlocal taken
        while taken < 100:
            await capture.take(OUT, b"x" * CHUNK_BYTES)
            taken += 1

    reading = asyncio.create_task(read_on())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.shield(reading)
    assert taken < 10
    shelf.open.set()
    await reading
    await capture.close()
    assert len(shelf.text) == 100 * CHUNK_BYTES


async def test_a_writer_that_fails_does_not_hold_the_reader() -> None:
    """The rest is read and forgotten, so that the program can end; closing tells what happened."""
    shelf = Shelf()
    shelf.fault = LookupError("gone")
    capture = Capture(shelf.write, max_bytes=10**9, secrets=NONE)
    for _ in range(100):
        await capture.take(OUT, b"x" * CHUNK_BYTES)
    with pytest.raises(LookupError):
        await capture.close()
    assert shelf.chunks == []


async def test_a_full_buffer_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that comes fast does not wait for more to come with it."""
    monkeypatch.setattr("dorkos.pulse.capture._GATHER_S", 3600.0)
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=10**9, secrets=NONE)
    async with asyncio.timeout(30):
        for _ in range(50):
            await capture.take(OUT, b"x" * CHUNK_BYTES)
        await capture.close()
    assert len(shelf.text) == 50 * CHUNK_BYTES


async def test_secrets_are_replaced_before_anything_is_kept() -> None:
    """In the chunks and in the tail, each stream for itself, however it was cut; the rest stays."""
    shelf = Shelf()
    capture = Capture(shelf.write, max_bytes=10**6, secrets=Secrets(["hunter2"]))
    for letter in b"my hunter2 is hunter":
        await capture.take(OUT, bytes([letter]))
    await capture.take(ERR, b"2 hunter2\n")
    await capture.close()
    told = {
        stream: "".join(chunk.text for chunk in shelf.chunks if chunk.stream is stream)
        for stream in (OUT, ERR)
    }
    assert told == {OUT: "my [redacted] is hunter", ERR: "2 [redacted]\n"}
    assert "hunter2" not in capture.tail
