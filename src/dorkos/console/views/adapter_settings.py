"""The settings of an adapter as fields of a form, and back: what the API takes, nested and with its types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dorkos.console.views.triggers import wrong


@dataclass(frozen=True, slots=True)
class Field:
    """One setting. `name` is its place in the settings, `kind` one of text, secret, number, flag, lines,
    numbers and pairs."""

    name: str
    label: str
    hint: str = ""
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together. A group with a `name` that is left empty is taken away as a whole."""

    title: str
    fields: tuple[Field, ...]
    name: str = ""


_SECRET = "A reference such as env:NAME or file:/path, or the secret itself, of 16 characters at least."
KINDS: Mapping[str, tuple[Group, ...]] = {
    "webhook": (
        Group(
            "Requests that come in",
            (
                Field("inbound.subject", "Messages go to", "One exact subject; empty takes nothing in."),
                Field("inbound.secret", "Secret that senders sign with", _SECRET, "secret"),
                Field("inbound.previousSecret", "Previous secret", "Still holds for a day.", "secret"),
            ),
            "inbound",
        ),
        Group(
            "Requests that go out",
            (
                Field("outbound.url", "URL", "http or https; empty sends nothing out."),
                Field("outbound.secret", "Secret to sign with", _SECRET, "secret"),
                Field(
                    "outbound.subjects",
                    "Also messages to",
                    "Patterns, one a line; empty means where requests come in, and all below it.",
                    "lines",
                ),
                Field("outbound.headers", "Headers", "Name: value, one a line.", "pairs"),
                Field("outbound.timeoutSeconds", "Seconds for one attempt", "10 if empty.", "number"),
                Field("outbound.maxAttempts", "Attempts", "8 if empty; then it is a dead letter.", "number"),
                Field("outbound.allowPrivate", "May lead into a private network", "", "flag"),
            ),
            "outbound",
        ),
    ),
    "telegram": (
        Group(
            "Bot",
            (
                Field("token", "Token", "Of @BotFather; best as env:NAME or file:/path.", "secret"),
                Field("chats", "Chats", "Numbers, one a line; without any it hears nobody.", "numbers"),
                Field("subject", "Messages go to", "One exact subject; empty means each chat's own."),
                Field("apiUrl", "Bot API", "https://api.telegram.org if empty."),
                Field("maxAttempts", "Attempts", "8 if empty; then it is a dead letter.", "number"),
            ),
        ),
    ),
    "maildir": (
        Group(
            "Folder", (Field("path", "Folder", "Absolute; empty means “mailboxes” in the data directory."),)
        ),
    ),
    "agent": (),
}
KINDS = {**KINDS, "claude-code": KINDS["agent"]}
CHOICES = (
    ("webhook", "Webhook"),
    ("telegram", "Telegram"),
    ("maildir", "A folder to drop messages into"),
    ("agent", "Switch of message runs"),
)


def fields_of(kind: str) -> list[Field]:
    """All fields of a kind; none of one that this version does not know."""
    return [field for group in KINDS.get(kind, ()) for field in group.fields]


def shown(kind: str, config: Mapping[str, Any]) -> dict[str, str]:
    """The settings as text of fields."""
    return {field.name: text_of(field, config) for field in fields_of(kind)}


def text_of(field: Field, config: Mapping[str, Any]) -> str:
    """One of them; empty if it is not set."""
    return _text(field, _at(config, field.name))


def body_of(kind: str, form: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a form describes; None is one to take away, of those that there were before.

    Raises `validation_failed` by field.
    """
    settings: dict[str, Any] = {}
    for group in KINDS.get(kind, ()):
        values = {field.name: _value(field, form.get(field.name, "")) for field in group.fields}
        for field in group.fields:
            old = _at(before, field.name)
            if isinstance(old, Mapping) and isinstance(values[field.name], Mapping):
                values[field.name] = {**dict.fromkeys(old), **values[field.name]}
        if group.name and not any(values.values()):
            settings[group.name] = None
            continue
        for name, value in values.items():
            outer, _, inner = name.rpartition(".")
            place = settings.setdefault(outer, {}) if outer else settings
            place[inner] = value
    return settings


def without_nothing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a new adapter, of which nothing can be taken away."""
    return {
        name: without_nothing(value) if isinstance(value, Mapping) else value
        for name, value in settings.items()
        if value is not None
    }


def _at(config: Mapping[str, Any], name: str) -> Any:
    found: Any = config
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _text(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if field.kind == "pairs" and isinstance(value, Mapping):
        return "\n".join(f"{name}: {each}" for name, each in value.items())
    if isinstance(value, list):
        return "\n".join(str(each) for each in value)
    if field.kind == "flag":
        return "on" if value is True else ""
    return str(value)


def _value(field: Field, text: str) -> Any:
    text = text.strip()
    if field.kind == "flag":
        return True if text else None
    if not text:
        return None
    if field.kind == "number":
        return _whole(field, text)
    if field.kind in ("lines", "numbers"):
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines if field.kind == "lines" else [_whole(field, line) for line in lines]
    if field.kind == "pairs":
        return dict(_pair(field, line) for line in text.splitlines() if line.strip())
    return text


def _whole(field: Field, text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise wrong(field.name, "Write a whole number.")
    return int(text)


def _pair(field: Field, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise wrong(field.name, f"Write “{line.strip()[:60]}” as Name: value.")
    return name.strip(), value.strip()
