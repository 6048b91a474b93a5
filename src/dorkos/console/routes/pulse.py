"""Pulse: schedules, what became of their instants, and runs."""

from __future__ import annotations

import asyncio
from typing import Any

from dorkos.console.views import timeline
from dorkos.console.visit import Fragment, GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError

_PAGE = 50
_SLOTS = 20
_OUTPUT_PAGE = 500
_OUTPUT_PAGES = 20
_AT_WORK = ("queued", "running")
_STATES = ("queued", "running", "completed", "failed", "cancelled", "timeout", "interrupted", "blocked")


async def schedules(visit: Visit) -> Shown:
    """All schedules, those with trouble first, with what became of their newest runs."""
    listed, seen = await asyncio.gather(
        visit.ask("pulse.schedules.list"),
        visit.ask("pulse.timeline", hoursBack=24, hoursAhead=0, lanes=200),
    )
    lanes = {lane["scheduleId"]: lane for lane in seen["lanes"]}
    rank = {schedule_id: place for place, schedule_id in enumerate(lanes)}
    listed.sort(key=lambda schedule: rank.get(schedule["id"], len(rank)))
    text = visit.query.get("text", "").strip()
    if text:
        listed = [each for each in listed if text.lower() in f"{each['name']} {each['prompt']}".lower()]
    shown, more = visit.part(listed)
    view = {
        "schedules": [{**schedule, "lane": lanes.get(schedule["id"])} for schedule in shown],
        "total": len(listed),
        "more": more,
        "text": text,
        "spark": timeline.spark,
        "tab": "schedules",
    }
    return Page("pulse/schedules.html", "Pulse", view, topics="pulse mesh")


async def schedule(visit: Visit) -> Shown:
    """One schedule: what it is, how it goes, what was decided about each instant."""
    schedule_id = visit.path["id"]
    offset = _number(visit.query.get("offset"))
    found = await visit.ask("pulse.schedules.get", id=schedule_id)
    stats, slots, runs, drawn = await asyncio.gather(
        visit.ask("pulse.schedules.stats", id=schedule_id),
        visit.ask("pulse.schedules.slots", id=schedule_id, limit=_SLOTS + 1, offset=offset),
        visit.ask("pulse.runs.list", scheduleId=schedule_id, limit=10),
        visit.ask("pulse.timeline", scheduleId=schedule_id, hoursBack=24, hoursAhead=24),
    )
    view = {
        "schedule": found,
        "stats": stats,
        "slots": slots[:_SLOTS],
        "older": f"/pulse/schedules/{schedule_id}?offset={offset + _SLOTS}" if len(slots) > _SLOTS else None,
        "runs": runs,
        "drawn": timeline.drawn(drawn, visit.times),
        "agent": await visit.find("mesh.get", found["agentId"]),
    }
    return Page("pulse/schedule.html", found["name"], view, topics="pulse")


async def runs(visit: Visit) -> Shown:
    """Runs, newest first."""
    state, cursor = visit.query.get("state") or None, visit.query.get("cursor")
    found = await visit.ask("pulse.runs.list", status=state, cursor=cursor, limit=_PAGE)
    ids = sorted({each["scheduleId"] for each in found if each["scheduleId"]})
    of = await asyncio.gather(*(visit.find("pulse.schedules.get", each) for each in ids))
    names = {each["id"]: each["name"] for each in of if each is not None}
    query = {**({"state": state} if state else {})}
    older = (
        {**query, "cursor": f"{found[-1]['createdAt']}~{found[-1]['id']}"} if len(found) == _PAGE else None
    )
    view = {
        "runs": found,
        "names": names,
        "states": _STATES,
        "state": state,
        "older": GoTo("/pulse/runs", more=older).address if older else None,
        "tab": "runs",
    }
    return Page("pulse/runs.html", "Runs", view, topics="pulse")


async def missed(visit: Visit) -> Shown:
    """What should have run and did not."""
    found = await visit.ask("pulse.missed", limit=200)
    return Page("pulse/missed.html", "Not run", {"found": found, "tab": "missed"}, topics="pulse")


async def run(visit: Visit) -> Shown:
    """One run: what it was asked, what it said, how it went."""
    return await _run_page(visit)


async def _run_page(visit: Visit, refusal: DorkError | None = None) -> Page:
    found = await visit.ask("pulse.runs.get", id=visit.path["id"])
    schedule = await visit.find("pulse.schedules.get", found["scheduleId"])
    chunks, last, cut = await _output(visit, found["id"], 0)
    view = {
        "run": found,
        "schedule": schedule,
        "agent": await visit.find("mesh.get", found["agentId"]),
        "chunks": chunks,
        "seq": last,
        "cut": cut,
        "lasted": _lasted(visit, found),
        "asked": await _asked(visit, found),
        "goes_on": found["sessionId"] and found["state"] not in _AT_WORK,
        "said": visit.form.get("answer", ""),
        "picked": visit.form.get("picked"),
        "refused": None if refusal is None else Refused.of(refusal),
    }
    title = f"Run of {schedule['name']}" if schedule else f"Run {found['id'][-6:]}"
    status = 200 if refusal is None else refusal.http_status
    return Page("pulse/run.html", title, view, "pulse", status, f"/pulse/runs/{found['id']}")


async def _asked(visit: Visit, run: dict[str, Any]) -> Any:
    """What became of the question of a run that has one."""
    if not run["question"]:
        return None
    found = await visit.ask("pulse.approvals.list", runId=run["id"], limit=1)
    return found[0] if found else None


async def run_output(visit: Visit) -> Shown:
    """What a run printed behind a place, for a page that is open already."""
    chunks, last, cut = await _output(visit, visit.path["id"], _number(visit.query.get("after")))
    return Fragment("pulse/output.html", {"chunks": chunks, "seq": last, "cut": cut})


async def cancel(visit: Visit) -> Shown:
    """End a run."""
    run_id = visit.path["id"]
    try:
        done = await visit.ask("pulse.runs.cancel", id=run_id)
    except DorkError as refusal:
        return GoTo(f"/pulse/runs/{run_id}", f"refused-{refusal.code.value}")
    return GoTo(f"/pulse/runs/{run_id}", f"cancel-{done['outcome']}")


async def resume(visit: Visit) -> Shown:
    """Go on with the session of a run: with what was typed, else with the answer that was picked."""
    said = visit.form.get("answer", "").strip() or visit.form.get("picked", "")
    try:
        done = await visit.ask("pulse.runs.resume", id=visit.path["id"], prompt=said)
    except DorkError as refusal:
        return await _run_page(visit, refusal)
    return GoTo(f"/pulse/runs/{done['runId']}", "answered")


async def trigger(visit: Visit) -> Shown:
    """Run a schedule now."""
    done = await visit.ask("pulse.schedules.trigger", id=visit.path["id"])
    return GoTo(f"/pulse/runs/{done['runId']}", "started")


async def test(visit: Visit) -> Shown:
    """Try a schedule out."""
    done = await visit.ask("pulse.schedules.test", id=visit.path["id"])
    return GoTo(f"/pulse/runs/{done['runId']}", "tested")


async def switch(visit: Visit) -> Shown:
    """Pause a schedule, or let it go on."""
    schedule_id, is_on = visit.path["id"], visit.form.get("to") == "active"
    change: dict[str, Any] = {"id": schedule_id, "status": "active" if is_on else "paused"}
    if is_on:
        change["enabled"] = True
    await visit.send("pulse.schedules.update", change)
    return GoTo(f"/pulse/schedules/{schedule_id}", "resumed" if is_on else "paused", schedule_id)


async def delete(visit: Visit) -> Shown:
    """Delete a schedule."""
    await visit.ask("pulse.schedules.delete", id=visit.path["id"])
    return GoTo("/pulse", "deleted")


async def _output(visit: Visit, run_id: str, after: int) -> tuple[list[dict[str, Any]], int, bool]:
    """Chunks behind `after`, neighbours of one stream joined; where they end; and whether there are more."""
    joined: list[dict[str, Any]] = []
    for _ in range(_OUTPUT_PAGES):
        found = await visit.ask("pulse.runs.output", id=run_id, after=after, limit=_OUTPUT_PAGE)
        for chunk in found["chunks"]:
            after = chunk["seq"]
            if joined and joined[-1]["stream"] == chunk["stream"]:
                joined[-1]["text"] += chunk["text"]
            else:
                joined.append({"stream": chunk["stream"], "text": chunk["text"]})
        if len(found["chunks"]) < _OUTPUT_PAGE:
            return joined, after, False
    return joined, after, True


def _lasted(visit: Visit, run: dict[str, Any]) -> int | None:
    if run["durationMs"] is not None or run["startedAt"] is None:
        took: int | None = run["durationMs"]
        return took
    return visit.times.since_ms(run["startedAt"])


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0


ROUTES = (
    ("GET", "/pulse", schedules),
    ("GET", "/pulse/missed", missed),
    ("GET", "/pulse/runs", runs),
    ("GET", "/pulse/runs/{id}", run),
    ("GET", "/pulse/runs/{id}/output", run_output),
    ("POST", "/pulse/runs/{id}/cancel", cancel),
    ("POST", "/pulse/runs/{id}/resume", resume),
    ("GET", "/pulse/schedules/{id}", schedule),
    ("POST", "/pulse/schedules/{id}/trigger", trigger),
    ("POST", "/pulse/schedules/{id}/test", test),
    ("POST", "/pulse/schedules/{id}/switch", switch),
    ("POST", "/pulse/schedules/{id}/delete", delete),
)
