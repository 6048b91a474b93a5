"""The lineage's addresses: subjects, and the short names of their mailboxes."""

from __future__ import annotations

import hashlib
import re

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


def mailbox_name(subject: str) -> str:
    """The directory of a subject's mailbox: the first 12 hex digits of its SHA-256."""
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def unknown_subject(name: str) -> str:
    """The subject that stands for a mailbox of which only the directory's name is known."""
    return f"lineage.{name if _TOKEN.fullmatch(name) else mailbox_name(name)}"


def is_wildcard(subject: str) -> bool:
    """Whether a subject stands for many, and so cannot be a mailbox's own."""
    return any(token in ("*", ">") for token in subject.split("."))


def is_subject(subject: str) -> bool:
    """Whether this is one exact subject of legal characters."""
    return all(_TOKEN.fullmatch(token) for token in subject.split("."))


def is_rule_pattern(text: object) -> bool:
    """Whether an access rule's pattern can be understood.

    Its tokens may be of any characters, as senders were never checked; none is empty, and `>` is the last.
    """
    if not isinstance(text, str):
        return False
    tokens = text.split(".")
    return all(tokens) and ">" not in tokens[:-1] and text.isprintable()
