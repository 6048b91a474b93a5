"""The overview, and the fleet's brake, which every page shows."""

from __future__ import annotations

import asyncio

from dorkos.console.views import curves, timeline
from dorkos.console.visit import GoTo, Page, Shown, Visit

_LANES = 10
_FAILURES = 6


async def overview(visit: Visit) -> Shown:
    """What ran, what did not, what is next, and what waits on a person."""
    status, seen, failures, agents, waiting, attention, missed, carried, sent = await asyncio.gather(
        visit.ask("status"),
        visit.ask("pulse.timeline", hoursBack=24, hoursAhead=24, lanes=_LANES),
        visit.ask("pulse.runs.list", status="failed", limit=_FAILURES),
        visit.ask("mesh.status"),
        visit.ask("pulse.approvals.list", status="pending", limit=5),
        visit.ask("pulse.schedules.list", status="needs_attention"),
        visit.ask("pulse.missed", limit=500),
        visit.ask("relay.delivery_metrics"),
        visit.ask("relay.traffic"),
    )
    names = {lane["scheduleId"]: lane["name"] for lane in seen["lanes"]}
    view = {
        "status": status,
        "seen": seen,
        "drawn": timeline.drawn(seen, visit.times),
        "failures": failures,
        "names": {**{each["scheduleId"]: each["scheduleName"] for each in missed["missed"]}, **names},
        "agents": agents,
        "carried": carried,
        "traffic": curves.traffic(sent, visit.times),
        "approvals": waiting,
        "attention": attention,
        "missed": sum(each["count"] for each in missed["missed"]),
        "missed_more": missed["more"],
    }
    return Page("overview.html", "Overview", view, topics="pulse relay mesh system")


async def set_fleet(visit: Visit) -> Shown:
    """Hold, stop or drain everything, or let it go on."""
    form = visit.form
    await visit.ask("fleet.set", mode=form.get("mode"), reason=form.get("reason") or None)
    return GoTo("/", "fleet")


ROUTES = (("GET", "/", overview), ("POST", "/fleet", set_fleet))
