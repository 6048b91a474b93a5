"""The pages there are, and where."""

from __future__ import annotations

from collections.abc import Mapping

EMPTY = (
    *("/", "/pulse", "/pulse/new", "/pulse/runs", "/pulse/missed", "/inbox", "/mesh", "/mesh/discover"),
    *(
        "/mesh/denied",
        "/mesh/topology",
        "/relay",
        "/relay/mailboxes",
        "/relay/dead",
        "/relay/adapters",
        "/relay/new-adapter",
    ),
    *("/relay/rules", "/relay/send", "/database", "/sessions", "/search", "/search?q=nothing"),
)


def pages(ids: Mapping[str, str]) -> dict[str, str]:
    """Every page by name, where `ids` name something to show."""
    return {
        "login": "/login",
        "overview": "/",
        "schedules": "/pulse",
        "schedule": f"/pulse/schedules/{ids['schedule']}",
        "new-schedule": "/pulse/new",
        "edit-schedule": f"/pulse/schedules/{ids['schedule']}/edit",
        "runs": "/pulse/runs",
        "run": f"/pulse/runs/{ids['run']}",
        "not-run": "/pulse/missed",
        "inbox": "/inbox",
        "approval": f"/inbox/{ids['approval']}",
        "agents": "/mesh",
        "agent": f"/mesh/agents/{ids['agent']}",
        "discovery": "/mesh/discover",
        "topology": "/mesh/topology",
        "denied": "/mesh/denied",
        "messages": "/relay",
        "message": f"/relay/messages/{ids['message']}",
        "mailboxes": "/relay/mailboxes",
        "mailbox": "/relay/mailboxes/relay.human.sam",
        "dead-letters": "/relay/dead",
        "trace": f"/relay/chains/{ids['chain']}",
        "adapters": "/relay/adapters",
        "adapter": "/relay/adapters/ci",
        "edit-adapter": "/relay/adapters/ci/edit",
        "new-adapter": "/relay/new-adapter",
        "rules": "/relay/rules",
        "compose": "/relay/send",
        "database": "/database",
        "sessions": "/sessions",
        "search": "/search?q=review",
    }
