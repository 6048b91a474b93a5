"""Secrets of adapters: given as a reference, or stored apart from the settings. No answer ever holds one.

env:NAME     the environment variable of the server
file:PATH    the first line of a file, by its absolute path
other text   is the secret, and is stored apart
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dorkos.db.legacy.adapter_secrets import joined, split
from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

# What stands in an answer for a secret that is stored.
STORED = "(stored)"
_ENV, _FILE = "env:", "file:"
_FILE_BYTES_MAX = 64 * 1024


def is_reference(value: object) -> bool:
    """Whether this says where a secret is, instead of being one."""
    return isinstance(value, str) and value.startswith((_ENV, _FILE))


def taken_apart(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings without secrets but with references, and the secrets under the same keys."""
    plain, secret = split(settings)
    references, kept = _sorted(secret)
    return joined(plain, references), kept


def shown(config: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as an answer shows them: each stored secret by a word that says only that it is there."""
    return joined(dict(config), _masked(secrets))


def whole(config: Mapping[str, Any], secrets: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the secrets back in their places. References stay references."""
    return joined(dict(config), dict(secrets))


def resolve(value: str) -> str:
    """The secret that a setting gives or refers to. Raises `secret_unavailable`, which names no secret."""
    if value.startswith(_ENV):
        found = os.environ.get(value.removeprefix(_ENV))
        if not found:
            raise _unavailable(f"the environment of the server has no variable {value.removeprefix(_ENV)}")
        return found
    if value.startswith(_FILE):
        return _from_file(Path(value.removeprefix(_FILE)))
    return value


def _from_file(path: Path) -> str:
    if not path.is_absolute():
        raise _unavailable(f"{path} is no absolute path")
    try:
        text = read_file(path, _FILE_BYTES_MAX).decode("utf-8")
    except (OSError, ValueError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
        raise _unavailable(f"{path} cannot be read: {reason or fault}") from fault
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise _unavailable(f"the first line of {path} is empty")
    return lines[0].strip()


def _unavailable(why: str) -> DorkError:
    return DorkError(
        ErrorCode.SECRET_UNAVAILABLE,
        f"A secret cannot be had: {why}.",
        hint="Put it where the setting says, or give the adapter another reference.",
    )


def _sorted(secret: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """References and stored values, each with the nesting of the whole."""
    references: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name, value in secret.items():
        if isinstance(value, dict):
            inner, rest = _sorted(value)
            if inner:
                references[name] = inner
            if rest:
                kept[name] = rest
        elif is_reference(value):
            references[name] = value
        else:
            kept[name] = value
    return references, kept


def _masked(secrets: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _masked(value) if isinstance(value, dict) else STORED
        for name, value in secrets.items()
        if not name.startswith("$")
    }
