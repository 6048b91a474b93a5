"""Telegram's messages as Relay's payloads, and the other way round. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

# What Telegram takes in one message, counted as it counts: in units of UTF-16.
TEXT_MAX = 4096
_CUT = "..."


@dataclass(frozen=True, slots=True)
class Incoming:
    """A text that somebody wrote in a chat. `name` tells it from every other of all chats."""

    chat: int
    chat_type: str
    name: str
    text: str
    said: Mapping[str, Any]
    by_bot: bool

    @property
    def is_group(self) -> bool:
        """Whether more than one may read it."""
        return self.chat_type != "private"

    @property
    def chat_subject(self) -> str:
        """The chat's address, as DorkOS for Node had it."""
        return f"relay.human.telegram.{'group.' if self.is_group else ''}{self.chat}"


def incoming(update: Any) -> Incoming | None:
    """What an update says, None if it says nothing that could be read."""
    if not isinstance(update, dict):
        return None
    said = update.get("message") or update.get("channel_post")
    chat = said.get("chat") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(chat, dict):
        return None
    text = said.get("text") or said.get("caption")
    number, message = chat.get("id"), said.get("message_id")
    if not _is_number(number) or not _is_number(message) or not isinstance(text, str) or not text.strip():
        return None
    author = said.get("from")
    return Incoming(
        chat=number,
        chat_type=str(chat.get("type", "private")),
        name=f"{number}:{message}",
        text=text,
        said=said,
        by_bot=isinstance(author, dict) and author.get("is_bot") is True,
    )


def payload_of(found: Incoming, reply_to: str) -> dict[str, object]:
    """The payload of the message that it becomes: the lineage's standard payload."""
    said, author, chat = found.said, _dict(found.said, "from"), _dict(found.said, "chat")
    names = [author.get(part) for part in ("first_name", "last_name")]
    full = " ".join(name for name in names if isinstance(name, str) and name)
    shown: dict[str, object] = {
        "content": found.text,
        "senderName": full or author.get("username") or "unknown",
        "channelType": "group" if found.is_group else "dm",
        "responseContext": {
            "platform": "telegram",
            "maxLength": TEXT_MAX,
            "supportedFormats": ["text"],
            "instructions": f"Send your answer to {reply_to}. It is shown in the chat.",
        },
        "platformData": {
            "chatId": found.chat,
            "messageId": said.get("message_id"),
            "chatType": found.chat_type,
            "fromId": author.get("id"),
            "username": author.get("username"),
        },
    }
    if isinstance(chat.get("title"), str):
        shown["channelName"] = chat["title"]
    return shown


def outgoing(payload: str | None) -> str:
    """The text to show for a payload: the text itself, its `content`, or the JSON; cut to what fits."""
    if payload is None:
        return ""
    value = json.loads(payload)
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        value = value["content"]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    units = text.encode("utf-16-le", "replace")
    if len(units) <= 2 * TEXT_MAX:
        return units.decode("utf-16-le")
    # A character beyond the first plane has two units: half of one is dropped.
    return units[: 2 * (TEXT_MAX - len(_CUT))].decode("utf-16-le", "ignore") + _CUT


def chat_of(subject: str, own: str) -> int | None:
    """The chat that a subject names; None if it names none."""
    for prefix in (f"{own}.", "relay.human.telegram.group.", "relay.human.telegram."):
        if subject.startswith(prefix):
            rest = subject.removeprefix(prefix)
            is_number = rest.removeprefix("-").isdecimal() and rest.isascii() and len(rest) < 20
            return int(rest) if is_number else None
    return None


def _dict(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
