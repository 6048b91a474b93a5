"""Subjects: dot-separated addresses, and the patterns that stand for many of them.

| token   | in a pattern means                    |
|---------|---------------------------------------|
| literal | itself; case matters                  |
| `*`     | exactly one token                     |
| `>`     | one or more tokens; only as the last  |
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from dorkos.errors import DorkError, ErrorCode

SUBJECT_LENGTH_MAX = 512
TOKENS_MAX = 16
AGENTS = "relay.agent.>"
"""The addresses of all agents, as a pattern."""
# Subjects that are kept at hand with what was found out about them: the same few come again and again.
_KEPT = 4096

_LITERAL = re.compile(r"[A-Za-z0-9_-]+")
_HINT = "Subjects look like relay.agent.<namespace>.<agentId> or relay.human.<name>."


def validate_subject(text: str) -> None:
    """Refuse what is not one exact subject, by `invalid_subject`, or `wildcard_not_allowed` for a pattern."""
    validate_pattern(text)
    if is_pattern(text):
        raise DorkError(
            ErrorCode.WILDCARD_NOT_ALLOWED,
            f"{text} is a pattern: one exact subject is needed here.",
            hint="Send to one subject at a time; `GET /api/relay/endpoints` lists them.",
            details={"subject": text},
        )


def is_subject(text: str) -> bool:
    """Whether `text` is one exact subject."""
    return _fault_of(text) is None and not is_pattern(text)


def validate_pattern(text: str) -> None:
    """Refuse what is neither a subject nor a pattern. Raises `invalid_subject` with the first fault found."""
    fault = _fault_of(text)
    if fault is not None:
        details = {"subject": text[:SUBJECT_LENGTH_MAX]}
        raise DorkError(ErrorCode.INVALID_SUBJECT, fault, hint=_HINT, details=details)


def is_pattern(text: str) -> bool:
    """Whether `text` holds a wildcard token."""
    return ("*" in text or ">" in text) and any(token in ("*", ">") for token in text.split("."))


def matches(subject: str, pattern: str) -> bool:
    """Whether `pattern` stands for `subject`. Neither is validated; wildcards in `subject` are plain text."""
    tokens = subject.split(".") if subject else []
    wanted = pattern.split(".") if pattern else []
    for place, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > place
        if place == len(tokens) or token not in ("*", tokens[place]):
            return False
    return len(tokens) == len(wanted)


@lru_cache(maxsize=_KEPT)
def subject_hash(subject: str) -> str:
    """The lineage's short name of a mailbox: the first 12 hex digits of the subject's SHA-256."""
    return hashlib.sha256(subject.encode("utf-8")).hexdigest()[:12]


def _fault_of(text: str) -> str | None:
    if not text:
        return "Subject must be a non-empty string"
    if len(text) > SUBJECT_LENGTH_MAX:
        return f"Subject exceeds maximum length of {SUBJECT_LENGTH_MAX}"
    return _fault_of_tokens(text)


@lru_cache(maxsize=_KEPT)
def _fault_of_tokens(text: str) -> str | None:
    tokens = text.split(".")
    if len(tokens) > TOKENS_MAX:
        return f"Subject exceeds maximum token count of {TOKENS_MAX}"
    for place, token in enumerate(tokens, start=1):
        if not token:
            return "Subject contains an empty token"
        if token == ">" and place < len(tokens):
            return "`>` wildcard must be the last token in a subject"
        if token not in ("*", ">") and not _LITERAL.fullmatch(token):
            return f'Token "{token}" contains invalid characters (allowed: a-z, A-Z, 0-9, -, _)'
    return None
