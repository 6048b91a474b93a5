"""Telling the secrets of an adapter's settings from the rest, by the names that they stand under."""

from __future__ import annotations

import re

_SECRET_NAME = re.compile(
    r"token|secret|passw|passphrase|pwd|api[-_]?key|access[-_]?key|private[-_]?key|signing[-_]?key"
    r"|credential|authoriz|cookie|^auth$|^key$|^x-.*-(?:key|auth)$",
    re.IGNORECASE,
)
_SECRET_URL = re.compile(r"://[^/?#\s]*@")


def split(settings: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """The settings without secrets, and the secrets under the same keys. Together they are the original.

    A list that holds a secret anywhere is secret as a whole, and so is a URL with a password in it.
    """
    plain: dict[str, object] = {}
    secret: dict[str, object] = {}
    for name, value in settings.items():
        if _is_secret(name, value):
            secret[name] = value
        elif isinstance(value, dict):
            plain[name], inner = split(value)
            if inner:
                secret[name] = inner
        else:
            plain[name] = value
    return plain, secret


def joined(plain: dict[str, object], secret: dict[str, object]) -> dict[str, object]:
    """The settings that `split` took apart."""
    whole = dict(plain)
    for name, value in secret.items():
        inner = whole.get(name)
        whole[name] = joined(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return whole


def _is_secret(name: str, value: object) -> bool:
    if isinstance(value, bool | int | float) or value is None:
        return False
    if _SECRET_NAME.search(name):
        return True
    if isinstance(value, str):
        return bool(_SECRET_URL.search(value))
    return isinstance(value, list) and any(_holds_secret(item) for item in value)


def _holds_secret(value: object) -> bool:
    if isinstance(value, dict):
        return any(_is_secret(name, item) or _holds_secret(item) for name, item in value.items())
    if isinstance(value, list):
        return any(_holds_secret(item) for item in value)
    return isinstance(value, str) and bool(_SECRET_URL.search(value))
