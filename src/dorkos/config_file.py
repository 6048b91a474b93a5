"""The settings on disk: `config.toml` of the data directory, and the `config.json` of DorkOS for Node.

Reading changes nothing. What cannot be read is a refusal, never a reason to go on with defaults.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode
from dorkos.plain_file import read_file

# The shape of config.toml. A file that says a higher number is of a newer version, and left alone.
VERSION = 1
_LEFT_ALONE = "Nothing was changed. Mend the file or its mode, then try again; `dorkos config path` names it."


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one file by their dotted keys, as the file has them. `name` says which file."""

    name: str
    values: Mapping[str, object]


def lineage_path(config_path: Path) -> Path:
    """The settings file of DorkOS for Node, beside ours. It is read, and never written."""
    return config_path.with_name("config.json")


def read_layers(config_path: Path) -> tuple[Layer, ...]:
    """The files that there are, the weaker one first: where both name a key, `config.toml` wins.

    Raises `invalid_setting` for a file that cannot be read, or that a newer version wrote.
    """
    layers = []
    json_path = lineage_path(config_path)
    lineage = _text(json_path)
    if lineage is not None:
        layers.append(Layer(f"file {json_path}", _flat(_from_json(lineage, json_path))))
    text = _text(config_path)
    if text is not None:
        layers.append(Layer(f"file {config_path}", _flat(parse_toml(text, config_path))))
    return tuple(layers)


def parse_toml(text: str, path: Path) -> dict[str, object]:
    """What a `config.toml` says. Raises `invalid_setting`, naming the line."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise _unreadable(f"{path} is not TOML: {fault}.") from fault
    version = document.get("version", VERSION)
    if type(version) is not int or version < 1:
        raise _unreadable(f"{path}: version is {version!r}, and must be {VERSION}.")
    if version > VERSION:
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"{path} has version {version}; this DorkOS knows {VERSION} and leaves it alone.",
            hint="Use the DorkOS that wrote it, or a newer one.",
            details={"setting": "version", "source": f"file {path}"},
        )
    return document


def read_text(path: Path) -> str | None:
    """The text of a settings file, None if there is none. Raises `invalid_setting`."""
    return _text(path)


def _text(path: Path) -> str | None:
    try:
        return read_file(path).decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise _unreadable(f"{path} cannot be read: {fault}") from fault


def _from_json(text: str, path: Path) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise _unreadable(f"{path} is not JSON: {fault}.") from fault
    if not isinstance(document, dict):
        raise _unreadable(f"{path} must hold a JSON object.")
    # JSON says null where TOML leaves the key out.
    return document


def _flat(document: Mapping[str, object]) -> dict[str, object]:
    return dict(_leaves(document))


def _leaves(document: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _unreadable(message: str) -> DorkError:
    return DorkError(ErrorCode.INVALID_SETTING, message, hint=_LEFT_ALONE)
