"""Capturing what a run prints: decoded, cut into numbered chunks, written in order, bounded in memory."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from dorkos.pulse.model import OutputChunk
from dorkos.pulse.redaction import Redactor, Secrets
from dorkos.storable import clean_text
from dorkos.vocabulary import OutputStream

CHUNK_BYTES = 16 * 1024
TAIL_CHARACTERS = 4000
# What is printed within this time goes into one write: a program that prints letters must not cause one
# commit a letter.
_GATHER_S = 0.1
# With this much not yet written, the reader waits, and then the program does.
_PENDING_BYTES = 4 * CHUNK_BYTES

Write = Callable[[Sequence[OutputChunk]], Awaitable[None]]


class Capture:
    """Takes bytes, writes chunks. Once `write` fails, the rest is taken and forgotten; `close` tells."""

    def __init__(self, write: Write, *, max_bytes: int, secrets: Secrets) -> None:
        """`max_bytes` of text are kept; what comes after is dropped, with one `system` line saying so.

        `secrets` are replaced before anything else is done with the text.
        """
        self._write = write
        self._max_bytes = max_bytes
        self._tail = ""
        self._kept_bytes = 0
        self._cut = False
        self._broken = False
        self._next_seq = 1
        self._pending: list[tuple[OutputStream, str, int]] = []
        self._pending_bytes = 0
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in OutputStream}
        self._redactors = {stream: Redactor(secrets) for stream in OutputStream}
        self._arrived = asyncio.Event()
        self._written = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ending = False
        self._writer = asyncio.create_task(self._write_all())

    @property
    def tail(self) -> str:
        """The last characters printed, also of what was not kept."""
        return self._tail

    async def take(self, stream: OutputStream, data: bytes, *, end: bool = False) -> None:
        """Take in what was printed, waiting while too much is still to be written.

        A character whose bytes come in two pieces stays whole; bytes that are not UTF-8, and U+0000,
        become U+FFFD.
        """
        decoded = clean_text(self._decoders[stream].decode(data, end))
        text = self._redactors[stream].take(decoded, end=end)
        if stream is not OutputStream.SYSTEM:
            self._tail = (self._tail + text)[-TAIL_CHARACTERS:]
        self._keep(stream, text)
        while self._pending_bytes >= _PENDING_BYTES:
            self._written.clear()
            await self._written.wait()

    async def remark(self, text: str) -> None:
        """Take in a whole line of ours, which is no part of what was printed."""
        await self.take(OutputStream.SYSTEM, (text + "\n").encode("utf-8", "replace"), end=True)

    async def close(self) -> None:
        """Write what is left and end. Raises what `write` raised."""
        for stream in (OutputStream.STDOUT, OutputStream.STDERR):
            await self.take(stream, b"", end=True)
        self._ending = True
        self._arrived.set()
        self._hurry.set()
        await self._writer

    async def abandon(self) -> None:
        """End without writing what is left."""
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    def _keep(self, stream: OutputStream, text: str) -> None:
        if self._cut or self._broken or not text:
            return
        room = self._max_bytes - self._kept_bytes
        kept = within(text, room)
        for piece in pieces(kept):
            self._add(stream, piece)
        if len(kept) < len(text):
            self._cut = True
            self._add(OutputStream.SYSTEM, f"Output beyond {self._max_bytes} bytes was dropped.\n")

    def _add(self, stream: OutputStream, text: str) -> None:
        size = len(text.encode())
        self._kept_bytes += size
        self._pending_bytes += size
        if self._pending and self._pending[-1][0] is stream and self._pending[-1][2] + size <= CHUNK_BYTES:
            _, before, before_size = self._pending[-1]
            self._pending[-1] = (stream, before + text, before_size + size)
        else:
            self._pending.append((stream, text, size))
        self._arrived.set()
        if self._pending_bytes >= _PENDING_BYTES:
            self._hurry.set()

    async def _write_all(self) -> None:
        while self._pending or not self._ending:
            await self._arrived.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await self._hurry.wait()
            self._arrived.clear()
            self._hurry.clear()
            await self._write_pending()

    async def _write_pending(self) -> None:
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        chunks = [
            OutputChunk(seq, stream, text)
            for seq, (stream, text, _) in enumerate(pending, start=self._next_seq)
        ]
        self._next_seq += len(chunks)
        try:
            await self._write(chunks)
        except BaseException:
            self._forget_rest()
            raise
        self._pending_bytes = sum(size for _, _, size in self._pending)
        self._written.set()

    def _forget_rest(self) -> None:
        self._broken = True
        self._pending.clear()
        self._pending_bytes = 0
        self._written.set()


def within(text: str, room: int) -> str:
    """The longest beginning of `text` that takes no more than `room` bytes."""
    encoded = text.encode()
    if len(encoded) <= room:
        return text
    return encoded[: max(room, 0)].decode("utf-8", "ignore")


def pieces(text: str) -> list[str]:
    """A text cut into chunks."""
    # A character takes at most four bytes.
    step = CHUNK_BYTES // 4
    if len(text.encode()) <= CHUNK_BYTES:
        return [text] if text else []
    return [text[start : start + step] for start in range(0, len(text), step)]
