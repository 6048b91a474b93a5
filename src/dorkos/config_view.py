"""Settings as people are shown them: value and source, secrets hidden, and what is not known by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dorkos.config_file import read_layers
from dorkos.settings import SETTING_BY_KEY, SETTINGS, LoadedSettings, SettingRow, Settings

REDACTED = "[redacted]"

# What DorkOS for Node had and nothing here reads.
LINEAGE_ONLY = frozenset(
    {
        "server.cwd",
        "ui.theme",
        "relay.dataDir",
        "tunnel.enabled",
        "tunnel.domain",
        "tunnel.authtoken",
        "tunnel.auth",
    }
)
# Facts about a file, not settings.
_BOOKKEEPING = ("version", "__internal__.")


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting with its value as JSON has it. `source` is flag, environment, a file or default."""

    row: SettingRow
    value: object
    source: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A key that nothing here reads, and the setting that may have been meant."""

    key: str
    source: str
    meant: str | None
    is_lineage: bool


def shown(loaded: LoadedSettings) -> tuple[Shown, ...]:
    """Every setting, in the order of the reference."""
    document = loaded.values.model_dump(mode="json", by_alias=True)
    return tuple(
        Shown(row, hidden(row.key, _at(document, row.key)), loaded.sources.get(row.key, "default"))
        for row in SETTINGS
    )


def rows(running: LoadedSettings, coming: LoadedSettings) -> list[dict[str, object]]:
    """Every setting as JSON has it: what holds now, and what the next start would find."""
    return [
        {
            "key": now.row.key,
            "value": now.value,
            "source": now.source,
            "default": now.row.default,
            "environment": now.row.env,
            "meaning": now.row.meaning,
            "secret": now.row.secret,
            "live": now.row.live,
            "coming": then.value,
            "comingSource": then.source,
            "restartNeeded": now.value != then.value,
        }
        for now, then in zip(shown(running), shown(coming), strict=True)
    ]


def document_of(settings: Settings) -> dict[str, dict[str, object]]:
    """The settings nested as in the file, secrets hidden."""
    document: dict[str, dict[str, object]] = settings.model_dump(mode="json", by_alias=True)
    for row in SETTINGS:
        section, name = row.key.split(".", 1)
        document[section][name] = hidden(row.key, document[section][name])
    return document


def hidden(key: str, value: object) -> object:
    """The value, with what must not be shown replaced. Only what is known to be harmless is let through."""
    if not SETTING_BY_KEY[key].secret or value is None:
        return value
    if isinstance(value, list | tuple):
        return [REDACTED for _ in value]
    try:
        parts = urlsplit(str(value))
        port = "" if parts.port is None else f":{parts.port}"
        host, user, password = parts.hostname or "", parts.username or "", parts.password
    except ValueError:
        return REDACTED
    if not parts.scheme or "//" not in str(value):
        return REDACTED
    who = user if password is None else f"{user}:{REDACTED}"
    place = f"[{host}]" if ":" in host else host
    # A password may also stand in the query.
    rest = f"?{REDACTED}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{f'{who}@' if who else ''}{place}{port}{parts.path}{rest}"


def holds_password(key: str, value: object) -> bool:
    """Whether something had to be hidden in it."""
    return REDACTED in str(hidden(key, value))


def unknown_keys(config_path: Path) -> tuple[Unknown, ...]:
    """Every key of the settings files that nothing here reads. Raises `invalid_setting`."""
    return tuple(
        Unknown(key, layer.name, meant(key), key in LINEAGE_ONLY)
        for layer in read_layers(config_path)
        for key in layer.values
        if key not in SETTING_BY_KEY and not key.startswith(_BOOKKEEPING)
    )


def refuse_unknown(keys: Iterable[str]) -> dict[str, str]:
    """For each key that is no setting, a message that says which one may have been meant."""
    return {key: no_setting(key) for key in keys if key not in SETTING_BY_KEY}


def no_setting(key: str) -> str:
    """Why this key cannot be set."""
    if key in LINEAGE_ONLY:
        return "DorkOS for Node had this setting; nothing here reads it"
    likely = meant(key)
    return "there is no such setting" + (f"; did you mean {likely}?" if likely else "")


def meant(key: str) -> str | None:
    """The setting that somebody may have meant by this key."""
    by_lower = {known.lower(): known for known in SETTING_BY_KEY}
    plain = key.lower().replace("_", "").replace("-", "")
    if plain in by_lower:
        return by_lower[plain]
    by_name: dict[str, list[str]] = {}
    for known in SETTING_BY_KEY:
        by_name.setdefault(known.split(".", 1)[1].lower(), []).append(known)
    named = by_name.get(plain.rsplit(".", 1)[-1], [])
    if len(named) == 1:
        return named[0]
    if named and "." not in plain:
        return None  # Any of several: to name one would be a guess.
    close = difflib.get_close_matches(plain, by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None


def _at(document: Mapping[str, Mapping[str, object]], key: str) -> object:
    section, name = key.split(".", 1)
    return document[section][name]
