"""Agents by name: wherever a page would show the address of one, it shows what the agent is called."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from dorkos.console.visit import Visit

_ADDRESS = re.compile(r"relay\.agent\.[a-z0-9_-]+\.([0-9A-HJKMNP-TV-Z]{26})")
# A page of messages has no more senders; the others keep their addresses.
_MOST = 100


async def names_in(visit: Visit, view: object) -> dict[str, str]:
    """The names of all agents whose addresses are in there. One that was removed has none."""
    ids = dict.fromkeys(found[1] for found in map(_ADDRESS.fullmatch, _texts(view)) if found)
    named = await asyncio.gather(*(visit.find("mesh.get", each) for each in list(ids)[:_MOST]))
    return {agent["subject"]: agent["name"] for agent in named if agent is not None}


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))
