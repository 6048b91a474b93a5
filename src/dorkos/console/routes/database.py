"""The database page, and the browsers that are logged in."""

from __future__ import annotations

import asyncio

from dorkos.console.views import curves
from dorkos.console.visit import GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError


async def database(visit: Visit) -> Shown:
    """Version, migrations, size, copies, last rehearsal."""
    return await _page(visit)


async def back_up(visit: Visit) -> Shown:
    """A backup now."""
    try:
        made = await visit.ask("db.backup")
    except DorkError as refusal:
        return await _page(visit, refusal=refusal)
    return GoTo("/database", "backup", more={"file": made["file"].rpartition("/")[2]})


async def verify(visit: Visit) -> Shown:
    """A check, whose result is shown at once."""
    return await _page(visit, verified=await visit.ask("db.verify"))


async def sessions(visit: Visit) -> Shown:
    """Which browsers are logged in."""
    return Page("sessions.html", "Browsers logged in", {"sessions": await visit.ask("sessions.list")})


async def end_session(visit: Visit) -> Shown:
    """Log a browser out."""
    await visit.ask("sessions.end", id=visit.path["id"])
    return GoTo("/sessions", "session-ended")


async def _page(visit: Visit, *, refusal: DorkError | None = None, verified: object = None) -> Page:
    facts, copies, status, sizes = await asyncio.gather(
        visit.ask("db.status"), visit.ask("db.backups"), visit.ask("status"), visit.ask("db.growth")
    )
    view = {
        "facts": facts,
        "copies": copies,
        "growth": curves.growth(sizes, visit.times),
        "backups": status["backups"],
        "home": status.get("home"),
        "refused": None if refusal is None else Refused.of(refusal),
        "verified": verified,
        "made": visit.query.get("file", ""),
    }
    code = 200 if refusal is None else refusal.http_status
    return Page("database.html", "Database", view, topics="system", status=code, address="/database")


ROUTES = (
    ("GET", "/database", database),
    ("POST", "/database/backup", back_up),
    ("POST", "/database/verify", verify),
    ("GET", "/sessions", sessions),
    ("POST", "/sessions/{id}/end", end_session),
)
