"""The overview, and the fleet's brake, which every page shows."""

from __future__ import annotations

from dorkos.console.visit import GoTo, Page, Shown, Visit


async def overview(visit: Visit) -> Shown:
    """What ran, what did not, what is next, and what waits on a person."""
    return Page(
        "overview.html", "Overview", {"status": await visit.ask("status")}, topics="pulse relay mesh system"
    )


async def set_fleet(visit: Visit) -> Shown:
    """Hold, stop or drain everything, or let it go on."""
    form = visit.form
    await visit.ask("fleet.set", mode=form.get("mode"), reason=form.get("reason") or None)
    return GoTo("/", "fleet")


ROUTES = (("GET", "/", overview), ("POST", "/fleet", set_fleet))
