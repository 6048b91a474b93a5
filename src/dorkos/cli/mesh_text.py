"""How Mesh's answers read to a person."""

from __future__ import annotations

from typing import Any

from dorkos.cli.instants import local_time, zone_label
from dorkos.cli.render import Column, notice, print_facts, print_more, print_table, say


def registered(agent: Any) -> None:
    """An agent that was just registered."""
    say(f"Registered {agent['name']}.", "green")
    print_facts(
        (
            ("id", agent["id"]),
            ("runtime", agent["runtime"]),
            ("mailbox", agent["subject"]),
            ("path", agent["projectPath"]),
            ("token", agent["token"]),
        )
    )
    if agent["token"]:
        notice("The token is for programs that speak as this agent; it is not shown again.")
    if not agent["manifestWritten"]:
        notice(f"Registered, but its manifest could not be written: {agent['manifestProblem']}")


def agents(answer: Any) -> None:
    """Agents in a table."""
    print_table(
        answer["agents"],
        (
            Column("id", lambda row: row["id"]),
            Column("name", lambda row: row["name"], shrinks=True),
            Column("namespace", lambda row: row["namespace"], shrinks=True),
            Column("health", lambda row: row["health"], state=True),
            Column("runtime", lambda row: row["runtime"]),
            Column("path", lambda row: row["projectPath"], shrinks=True, keeps_end=True),
        ),
        empty="No agents here. Find some: dorkos mesh discover DIRECTORY",
    )
    print_more(answer["nextCursor"])


def denied(answer: Any) -> None:
    """Denied paths in a table."""
    print_table(
        answer["denied"],
        (
            Column(f"since ({zone_label()})", lambda row: local_time(row["deniedAt"])),
            Column("path", lambda row: row["path"]),
            Column("reason", lambda row: row.get("reason"), shrinks=True),
        ),
        empty="No path is denied.",
    )
