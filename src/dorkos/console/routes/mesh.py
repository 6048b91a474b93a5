"""Mesh: agents and how they are, discovery, denials, and who may and did reach whom."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from dorkos.console.views.graph import graph
from dorkos.console.visit import GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError, ErrorCode

_PAGE = 100
_PING_S = 20


async def agents(visit: Visit) -> Shown:
    """Agents with their health and the reason for it."""
    wanted = {name: visit.query.get(name) or None for name in ("text", "health", "namespace")}
    found, counts = await asyncio.gather(
        visit.ask("mesh.list", cursor=visit.query.get("cursor"), limit=_PAGE, **wanted),
        visit.ask("mesh.status"),
    )
    cursor = found["nextCursor"]
    kept = {name: value for name, value in wanted.items() if value}
    view = {
        "agents": found["agents"],
        "counts": counts,
        "wanted": wanted,
        "older": GoTo("/mesh", more={**kept, "cursor": cursor}).address if cursor else None,
        "tab": "agents",
    }
    return Page("mesh/agents.html", "Mesh", view, topics="mesh pulse")


async def agent(visit: Visit) -> Shown:
    """Everything that is known of one agent."""
    return await _agent(visit)


async def ping(visit: Visit) -> Shown:
    """Ask an agent for an answer, end to end."""
    try:
        answer = await visit.ask("mesh.ping", id=visit.path["id"], timeoutSeconds=_PING_S)
    except DorkError as refusal:
        return await _agent(visit, refused=Refused.of(refusal))
    return await _agent(visit, pinged=answer)


async def new_token(visit: Visit) -> Shown:
    """A new long-lived token, shown this once; the one before ends."""
    token = await visit.ask("mesh.token", id=visit.path["id"])
    return await _agent(visit, token=token["token"])


async def unregister(visit: Visit) -> Shown:
    """Remove an agent with its mailbox, its rules, its token and its schedules."""
    await visit.ask("mesh.unregister", id=visit.path["id"])
    return GoTo("/mesh", "unregistered")


async def discovery(visit: Visit) -> Shown:
    """Where to look for agents."""
    return _discovery(visit, None)


async def discover(visit: Visit) -> Shown:
    """Look, and show what was found; pages with scripts show it while it is being found."""
    roots = [line.strip() for line in visit.form.get("roots", "").splitlines() if line.strip()]
    given: dict[str, Any] = {"roots": roots} if roots else {}
    try:
        found = await visit.send("mesh.discover", given)
    except DorkError as refusal:
        return _discovery(visit, None, refusal)
    return _discovery(visit, found)


async def register(visit: Visit) -> Shown:
    """Register a folder; its token is shown this once."""
    form = visit.form
    name = form.get("name", "").strip()
    try:
        made = await visit.ask(
            "mesh.register",
            path=form.get("path", ""),
            scanRoot=form.get("scanRoot") or "",
            overrides={"name": name} if name else {},
        )
    except DorkError as refusal:
        return _discovery(visit, None, refusal)
    return Page(
        "mesh/registered.html",
        f"{made['name']} is registered",
        {"agent": made},
        address=f"/mesh/agents/{made['id']}",
    )


async def deny(visit: Visit) -> Shown:
    """Keep a path out."""
    reason = visit.form.get("reason", "").strip() or None
    path = visit.form.get("path", "").strip()
    try:
        await visit.ask("mesh.deny", path=path, reason=reason)
    except DorkError as refusal:
        return await _denials(visit, refusal)
    return GoTo("/mesh/denied", "denied", path)


async def denials(visit: Visit) -> Shown:
    """Paths that must not become agents."""
    return await _denials(visit)


async def allow(visit: Visit) -> Shown:
    """Lift a denial."""
    path = visit.form.get("path", "")
    await visit.ask("mesh.allow", path=path)
    return GoTo("/mesh/denied", "allowed", path)


async def topology(visit: Visit) -> Shown:
    """Who may reach whom, and who did."""
    found = await visit.ask("mesh.topology")
    edges, more = visit.part(found["edges"])
    view = {"topology": found, "edges": edges, "more": more, "graph": graph(found), "tab": "topology"}
    return Page("mesh/topology.html", "Topology", view, topics="mesh")


async def _agent(
    visit: Visit, *, pinged: Any = None, token: str | None = None, refused: Refused | None = None
) -> Page:
    found = await visit.ask("mesh.inspect", id=visit.path["id"])
    subject = found["relaySubject"]
    schedules, messages = await asyncio.gather(
        visit.ask("pulse.schedules.list"), visit.ask("relay.messages", subject=subject, limit=8)
    )
    view = {
        "agent": found["agent"],
        "found": found,
        "schedules": [each for each in schedules if each["agentId"] == found["agent"]["id"]],
        "messages": messages["messages"],
        "mailbox": f"/relay/mailboxes/{quote(subject, safe='')}",
        "pinged": pinged,
        "token": token,
        "refused": refused,
    }
    return Page(
        "mesh/agent.html",
        found["agent"]["name"],
        view,
        "mesh pulse relay",
        address=f"/mesh/agents/{found['agent']['id']}",
    )


async def _denials(visit: Visit, refusal: DorkError | None = None) -> Page:
    denied, more = visit.part((await visit.ask("mesh.denied"))["denied"])
    view = {
        "denied": denied,
        "more": more,
        "given": visit.form,
        "refused": None if refusal is None else Refused.of(refusal, {ErrorCode.OUTSIDE_BOUNDARY: "path"}),
        "tab": "denied",
    }
    status = 200 if refusal is None else refusal.http_status
    return Page("mesh/denied.html", "Denied paths", view, topics="mesh", status=status)


def _discovery(visit: Visit, found: Any, refusal: DorkError | None = None) -> Page:
    view = {
        "found": found,
        "roots": visit.form.get("roots", ""),
        "refused": None if refusal is None else Refused.of(refusal),
        "tab": "discover",
    }
    return Page(
        "mesh/discover.html",
        "Discovery",
        view,
        status=200 if refusal is None else refusal.http_status,
        address="/mesh/discover",
    )


ROUTES = (
    ("GET", "/mesh", agents),
    ("GET", "/mesh/agents/{id}", agent),
    ("POST", "/mesh/agents/{id}/ping", ping),
    ("POST", "/mesh/agents/{id}/token", new_token),
    ("POST", "/mesh/agents/{id}/unregister", unregister),
    ("GET", "/mesh/discover", discovery),
    ("POST", "/mesh/discover", discover),
    ("POST", "/mesh/register", register),
    ("GET", "/mesh/denied", denials),
    ("POST", "/mesh/denied", deny),
    ("POST", "/mesh/allowed", allow),
    ("GET", "/mesh/topology", topology),
)
