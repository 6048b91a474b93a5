"""What a person grants when approving a schedule, and the hash that binds the grant to it. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from datetime import datetime
from enum import Enum

from pydantic.alias_generators import to_camel

from dorkos.clock import iso
from dorkos.pulse.model import Schedule, ScheduleDraft
from dorkos.pulse.rows import DRAFT_FIELDS
from dorkos.pulse.triggers import cron_words

# What it is called and whether it is switched on do not change what it may do. Everything else does: a
# field that is added later is part of the grant unless it is named here.
_FREE = frozenset({"name", "description", "status", "enabled", "reason"})
_GRANTED = tuple(name for name in DRAFT_FIELDS if name not in _FREE)
# A field with its default is left out of the hash: a later version's new field must not undo every grant.
# Who changes what a default does counts this up, and then every grant is asked for again.
_DEFAULTS = {field.name: field.default for field in fields(ScheduleDraft)}
_MEANING = 1


def content_of(schedule: Schedule) -> dict[str, object]:
    """What is asked for, as the person is shown it: keys as on the wire, prompt and command in full."""
    shown = ("name", "description", *_GRANTED)
    content = {to_camel(name): _plain(getattr(schedule, name)) for name in shown}
    return content | {"cron": cron_words(schedule)}


def hash_of(schedule: Schedule | ScheduleDraft) -> str:
    """SHA-256, in hex, of prompt, trigger, target, working directory, rights and limits."""
    granted: dict[str, object] = {"meaning": _MEANING}
    for name in _GRANTED:
        value = getattr(schedule, name)
        if value != _DEFAULTS[name]:
            granted[name] = _plain(value)
    written = json.dumps(granted, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(written.encode("ascii")).hexdigest()


def is_granted(schedule: Schedule) -> bool:
    """Whether it is, word for word, what a person let run.

    One without a grant was never asked about. Only what was taken over from DorkOS for Node has none and
    may run, which lifting the hold allowed; nobody is named as its author.
    """
    if schedule.grant_hash is None:
        return schedule.created_by is None
    return schedule.grant_hash == hash_of(schedule)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
