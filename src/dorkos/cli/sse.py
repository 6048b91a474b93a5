"""Reading Server-Sent Events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One frame. `id` is the newest of the stream; `event` is empty for a frame that only has an id."""

    id: str | None
    event: str
    data: str


def read_events(chunks: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The frames in a stream of bytes; comments are left out, and a frame cut off at the end is dropped."""
    last_id: str | None = None
    event = ""
    data: list[str] = []
    moved = False
    for line in _lines(chunks):
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                last_id, moved = value, True
            elif field == "event":
                event = value
            elif field == "data":
                data.append(value)
            continue
        if event or data or moved:
            yield ServerEvent(last_id, event, "\n".join(data))
        event, data, moved = "", [], False


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # Lines end at LF only. str.splitlines, and httpx with it, also cuts at U+2028 and others, which stand
    # unescaped within JSON.
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", errors="replace")
