"""Finding agents and schedules by the name a person knows them by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.cli.client import Client

_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


def schedule_id(client: Client, given: str) -> str:
    """The id of the schedule that is meant by an id or by a name that only one schedule has."""
    if _ID.fullmatch(given):
        return given
    return _only(given, client.get("/api/pulse/schedules"), "schedule", ErrorCode.SCHEDULE_NOT_FOUND)


def agent_id(client: Client, given: str) -> str:
    """The id of the agent that is meant by an id or by a name that only one agent has."""
    if _ID.fullmatch(given):
        return given
    return _only(given, all_agents(client), "agent", ErrorCode.AGENT_NOT_FOUND)


def all_agents(client: Client) -> Iterator[Mapping[str, Any]]:
    """Every registered agent, page after page."""
    cursor: str | None = None
    while True:
        page = client.get("/api/mesh/agents", limit=1000, cursor=cursor)
        yield from page["agents"]
        cursor = page.get("nextCursor")
        if cursor is None:
            return


def names_by_id(client: Client) -> dict[str, str]:
    """What schedules and agents are called."""
    return {row["id"]: row["name"] for row in (*client.get("/api/pulse/schedules"), *all_agents(client))}


def names_by_subject(agents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What agents are called, by their addresses."""
    return {agent["subject"]: agent["name"] for agent in agents}


def _only(given: str, rows: Iterable[Mapping[str, Any]], noun: str, absent: ErrorCode) -> str:
    matches = [row for row in rows if given in (row["id"], row["name"])]
    if len(matches) == 1:
        return str(matches[0]["id"])
    command = "pulse" if noun == "schedule" else "mesh"
    if not matches:
        raise DorkError(
            absent, f"No {noun} is called {given!r}.", hint=f"`dorkos {command} list` shows them."
        )
    ids = [str(row["id"]) for row in matches]
    raise DorkError(
        ErrorCode.CONFLICT,
        f"{len(ids)} {noun}s are called {given!r}: {', '.join(ids)}.",
        hint="Name the one you mean by its id.",
        details={"ids": ids},
    )
