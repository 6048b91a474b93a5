"""Search: an id leads to what it names, a word to what carries it."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from dorkos.console.visit import GoTo, Page, Shown, Visit
from dorkos.errors import DorkError
from dorkos.ids import is_ulid

_SHOWN = 20
_NAMED = (
    ("pulse.runs.get", "/pulse/runs/"),
    ("pulse.schedules.get", "/pulse/schedules/"),
    ("relay.message", "/relay/messages/"),
    ("mesh.inspect", "/mesh/agents/"),
    ("pulse.approvals.get", "/inbox/"),
)


async def search(visit: Visit) -> Shown:
    """Go to what an id names, else list what carries the words."""
    words = visit.query.get("q", "").strip()
    if is_ulid(words.upper()):
        place = await _named(visit, words.upper())
        if place is not None:
            return GoTo(place)
    found = await _carrying(visit, words) if words else {}
    view = {"words": words, "groups": {name: each for name, each in found.items() if each}}
    return Page("search.html", "Search", view)


async def _named(visit: Visit, ulid: str) -> str | None:
    for name, place in _NAMED:
        if await visit.find(name, ulid) is not None:
            return place + ulid
    return None


async def _carrying(visit: Visit, words: str) -> dict[str, list[tuple[str, str, Any]]]:
    schedules, agents, boxes, texts = await asyncio.gather(
        visit.ask("pulse.schedules.list"),
        visit.ask("mesh.list", text=words, limit=_SHOWN),
        visit.ask("relay.endpoints"),
        _texts(visit, words),
    )
    low = words.lower()
    return {
        "Schedules": [
            (f"/pulse/schedules/{each['id']}", each["name"], each["prompt"])
            for each in schedules
            if low in f"{each['name']} {each['prompt']} {each['description'] or ''}".lower()
        ][:_SHOWN],
        "Agents": [
            (f"/mesh/agents/{each['id']}", each["name"], each["description"]) for each in agents["agents"]
        ],
        "Mailboxes": [
            (
                f"/relay/mailboxes/{quote(each['subject'], safe='')}",
                each["subject"],
                each["description"] or "",
            )
            for each in boxes
            if low in each["subject"].lower()
        ][:_SHOWN],
        "Messages": texts,
    }


async def _texts(visit: Visit, words: str) -> list[tuple[str, str, Any]]:
    try:
        found: Any = await visit.ask("relay.search", text=words, limit=_SHOWN)
    except DorkError:
        return []  # What is no query of that search may still name something else.
    listed = found["messages"]
    return [(f"/relay/messages/{each['id']}", each["subject"], each.get("payload", "")) for each in listed]


ROUTES = (("GET", "/search", search),)
