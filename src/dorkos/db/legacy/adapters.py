"""Connections to the outside, with their secrets apart. Bringing one over never starts it."""

from __future__ import annotations

import json
from collections.abc import Container
from datetime import datetime

from dorkos.db.legacy.adapter_secrets import split
from dorkos.db.legacy.home import LegacyHome, Missing
from dorkos.db.legacy.json_text import fits
from dorkos.db.legacy.report import PART, Report
from dorkos.db.legacy.values import plain_text

FILE = "relay/adapters.json"
_FIELDS = ("id", "type", "enabled", "config")
_UNKNOWN = "unknown"
# Where a secret stands that is none of the adapter's settings. No setting has such a name.
_ENTRY = "$entry"


def collect(home: LegacyHome, report: Report, now: datetime) -> list[dict[str, object]]:
    """The rows of `relay_adapters`, in the order of the file.

    An entry that cannot be understood is reported and becomes a disabled row which holds it all the same.
    """
    document = home.document(FILE)
    if isinstance(document, Missing):
        return []
    entries = document.get("adapters") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        report.unreadable(FILE, str(home.path / FILE), "it is JSON, but holds no list of adapters")
        return []
    report.found(FILE, 0)
    rows: dict[str, dict[str, object]] = {}
    for number, entry in enumerate(entries, start=1):
        report.found(FILE)
        fault = _fault_of(entry)
        if fault is None and entry["id"] in rows:
            fault = "its id is that of another adapter"
        row = _adapter(entry) if fault is None else _not_understood(entry)
        row["id"] = row["id"] or _free_name(rows, number)
        if fault is not None:
            why = f"{fault}; it is kept, disabled, as {row['id']}"
            report.unreadable(FILE, f"{FILE}, entry {number}", why)
        rows[str(row["id"])] = row | {"created_at": now, "updated_at": now, PART: FILE}
    return list(rows.values())


def _fault_of(entry: object) -> str | None:
    """Why an entry is no adapter that can be understood, as a clause; None if it is one."""
    if not isinstance(entry, dict):
        return "it is no object"
    if not fits(entry):
        return "it holds what no JSON column can hold"
    for name in ("id", "type"):
        value = entry.get(name)
        if not isinstance(value, str) or not value or plain_text(value) != value:
            return f"`{name}` is no text"
    # Left out, it meant yes.
    if not isinstance(entry.get("enabled", True), bool):
        return "`enabled` is neither yes nor no"
    if not isinstance(entry.get("config", {}), dict):
        return "`config` is no object"
    return None


def _adapter(entry: dict[str, object]) -> dict[str, object]:
    settings = entry.get("config", {})
    config, secrets = split(settings) if isinstance(settings, dict) else ({}, {})
    extra, beyond = split({name: value for name, value in entry.items() if name not in _FIELDS})
    if beyond:
        secrets[_ENTRY] = beyond
    return {
        "id": entry["id"],
        "type": entry["type"],
        "enabled": entry.get("enabled", True),
        "config": config,
        "secrets": secrets,
        "extra": extra,
    }


def _not_understood(entry: object) -> dict[str, object]:
    """A disabled row that holds the whole entry. What may be a secret in it stands apart here as well."""
    extra: dict[str, object] = {}
    secrets: dict[str, object] = {}
    if not fits(entry):
        secrets = {"json": json.dumps(entry)}
    elif isinstance(entry, dict):
        # Settings that are none have no names by which to tell what is secret.
        settings = {
            name: value for name, value in entry.items() if name == "config" and not isinstance(value, dict)
        }
        extra, secrets = split({name: value for name, value in entry.items() if name not in settings})
        secrets |= settings
    else:
        secrets = {"entry": entry}
    return {
        "id": None,
        "type": _UNKNOWN,
        "enabled": False,
        "config": {},
        "secrets": {_ENTRY: secrets} if secrets else {},
        "extra": {_ENTRY: extra},
    }


def _free_name(taken: Container[str], number: int) -> str:
    name = f"lineage-entry-{number}"
    while name in taken:
        name += "-2"
    return name
