"""Writing a schedule: the form, its preview, and what the API makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dorkos.console.views import schedules, triggers
from dorkos.console.visit import Fragment, GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError, ErrorCode

_AGENTS_MAX = 500
_TRIGGER_PLACES = {"every": "number", "monthly": "day", "cron": "cron", "daily": "time", "weekly": "time"}
_PLACES = {
    ErrorCode.INVALID_TIMEZONE: "timezone",
    ErrorCode.INVALID_INSTANT: "runAt",
    ErrorCode.OUTSIDE_BOUNDARY: "cwd",
    ErrorCode.AGENT_NOT_FOUND: "agentId",
}
_LIMITS = dict.fromkeys(schedules.DURATIONS, triggers.short)
_SHOWN = 8


async def new(visit: Visit) -> Shown:
    """An empty form."""
    agents = await _agents(visit)
    return _page(visit, None, schedules.empty(visit.query, agents), agents)


async def create(visit: Visit) -> Shown:
    """Create what the form says, or show the form again with what is wrong."""
    try:
        made = await visit.send("pulse.schedules.create", _without_none(schedules.body_of(visit.form)))
    except DorkError as refusal:
        return _page(visit, None, schedules.as_given(visit.form), await _agents(visit), refusal)
    return GoTo(f"/pulse/schedules/{made['id']}", "created")


async def edit(visit: Visit) -> Shown:
    """The form of a schedule there is."""
    found = await visit.ask("pulse.schedules.get", id=visit.path["id"])
    return _page(visit, found, schedules.of_schedule(found), await _agents(visit))


async def update(visit: Visit) -> Shown:
    """Store an edit, or show the form again with what is wrong."""
    try:
        found = await visit.ask("pulse.schedules.get", id=visit.path["id"])
    except DorkError as gone:
        return _page(visit, None, schedules.as_given(visit.form), await _agents(visit), _deleted(gone))
    try:
        _check_unchanged(found, visit.form.get("revision", ""))
        await visit.send("pulse.schedules.update", {"id": found["id"], **schedules.body_of(visit.form)})
    except DorkError as refusal:
        return _page(visit, found, schedules.as_given(visit.form), await _agents(visit), refusal)
    return GoTo(f"/pulse/schedules/{found['id']}", "saved")


async def preview(visit: Visit) -> Shown:
    """When the trigger of a form would be due, or why it would be refused."""
    try:
        words = triggers.words_of(visit.form)
        zone = visit.form.get("timezone", "").strip() or None
        coming = await visit.ask("pulse.preview", cron=words, timezone=zone, count=_SHOWN)
        refused = None
    except DorkError as refusal:
        coming, refused = None, Refused.of(refusal)
    policy = {
        name: dict(choices).get(visit.form.get(name, "")) for name, choices in schedules.POLICIES.items()
    }
    return Fragment("pulse/preview.html", {"coming": coming, "refused": refused, "policy": policy})


def _check_unchanged(found: Mapping[str, Any], seen: str) -> None:
    """A form holds every field: sent from an old page it would undo what somebody else has changed since."""
    if seen and seen != str(found["revision"]):
        raise DorkError(
            ErrorCode.CONFLICT,
            "The schedule was changed while you were editing it, in another window or by somebody else.",
            hint="Nothing was saved. Saving once more replaces what is stored now; to see that first, open"
            " the schedule in another window.",
        )


def _deleted(gone: DorkError) -> DorkError:
    """What was typed is worth more than the schedule that it was for."""
    if gone.code is not ErrorCode.SCHEDULE_NOT_FOUND:
        return gone
    return DorkError(
        gone.code,
        "The schedule was deleted while you were editing it, in another window or by somebody else.",
        hint="Nothing was saved. What you wrote is still here: it can be created as a new schedule.",
    )


async def _agents(visit: Visit) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await visit.ask("mesh.list", limit=_AGENTS_MAX))["agents"]
    return sorted(found, key=lambda agent: (agent["name"], agent["id"]))


def _page(
    visit: Visit,
    schedule: Mapping[str, Any] | None,
    fields: Mapping[str, Any],
    agents: list[dict[str, Any]],
    refusal: DorkError | None = None,
) -> Page:
    view = {
        "schedule": schedule,
        "f": fields,
        "agents": agents,
        "refused": None if refusal is None else Refused.of(refusal, _places(fields), _LIMITS),
        "kinds": triggers.KINDS,
        "days": triggers.DAYS,
        "policies": schedules.POLICIES,
        "reader_zone": visit.times.zone_name,
    }
    title = "New schedule" if schedule is None else f"Edit {schedule['name']}"
    return Page("pulse/form.html", title, view, status=200 if refusal is None else refusal.http_status)


def _places(fields: Mapping[str, Any]) -> dict[ErrorCode, str]:
    place = _TRIGGER_PLACES.get(fields["trigger"].kind)
    return {**_PLACES, ErrorCode.INVALID_CRON: place} if place else _PLACES


def _without_none(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


ROUTES = (
    ("GET", "/pulse/new", new),
    ("POST", "/pulse/new", create),
    ("POST", "/pulse/preview", preview),
    ("GET", "/pulse/schedules/{id}/edit", edit),
    ("POST", "/pulse/schedules/{id}/edit", update),
)
