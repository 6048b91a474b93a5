"""Messages in files, as DorkOS for Node kept them: what a file holds, read without trusting it.

A `.json` file holds an envelope (an object with `payload`, and `subject`, `from`, `replyTo`, `budget`,
`createdAt`, `id` as far as it has them) or any other JSON value, which is then the payload. Any other file is
text, which is the payload.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_ENVELOPE = frozenset({"payload", "subject", "from", "replyTo", "budget", "createdAt", "id"})


class UnreadableMailError(Exception):
    """The file holds no message. `may_grow` says that it may be one that is still being written."""

    def __init__(self, why: str, *, may_grow: bool = False) -> None:
        """`why` is a clause such as `it is a FIFO, not a file`."""
        super().__init__(why)
        self.may_grow = may_grow


@dataclass(frozen=True, slots=True)
class Mail:
    """What a file says. All but the payload are claims, and None where it says nothing that can be used.

    `may_grow` says that it could be the beginning of a longer one: a text, or a number.
    """

    payload: Any
    has_payload: bool
    may_grow: bool = False
    subject: str | None = None
    sender: str | None = None
    reply_to: str | None = None
    id: str | None = None
    created_at: str | None = None
    ttl_ms: int | None = None
    max_hops: int | None = None


def read_mail(path: Path, *, size_max: int) -> Mail:
    """The message in a file. Never follows a link, never waits. Raises `UnreadableMailError` and OSError."""
    return mail_of(_content(path, size_max), is_json=path.name.endswith(".json"))


def mail_of(content: bytes, *, is_json: bool) -> Mail:
    """The message that the content of a file is. Raises `UnreadableMailError`."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise UnreadableMailError(f"it is not UTF-8: {fault.reason}", may_grow=True) from fault
    if not is_json:
        return Mail(text, has_payload=True, may_grow=True)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as fault:
        raise UnreadableMailError(f"it is not JSON: {fault}", may_grow=True) from fault
    if not isinstance(value, dict) or not _is_envelope(value):
        return Mail(value, has_payload=True, may_grow=isinstance(value, int | float))
    budget = value.get("budget")
    budget = budget if isinstance(budget, dict) else {}
    return Mail(
        value.get("payload"),
        has_payload="payload" in value,
        subject=_text(value, "subject"),
        sender=_text(value, "from"),
        reply_to=_text(value, "replyTo"),
        id=_text(value, "id"),
        created_at=_text(value, "createdAt"),
        ttl_ms=_number(budget, "ttl"),
        max_hops=_number(budget, "maxHops"),
    )


def kind_of(mode: int) -> str | None:
    """What is there instead of a file, in words; None for a file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def _content(path: Path, size_max: int) -> bytes:
    kind = kind_of(path.lstat().st_mode)
    if kind is not None:
        raise UnreadableMailError(f"it is {kind}, not a file")
    # The second look is for what takes the file's place in between.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if kind_of(found.st_mode) is not None:
            raise UnreadableMailError("it is no file")
        content = b"" if found.st_size > size_max else file.read(size_max + 1)
    if found.st_size > size_max or len(content) > size_max:
        raise UnreadableMailError(f"it has more than {size_max} bytes")
    return content


def _is_envelope(value: dict[str, Any]) -> bool:
    """Whether an object is an envelope: it says where it goes or what it carries, and little else."""
    return ("payload" in value and value.keys() <= _ENVELOPE) or {
        "subject",
        "from",
        "createdAt",
    } <= value.keys()


def _text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and found else None


def _number(value: dict[str, Any], name: str) -> int | None:
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
