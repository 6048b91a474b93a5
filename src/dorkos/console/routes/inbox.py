"""What waits on a person: schedules that agents propose, and what blocked runs want to know."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import Any

from dorkos.console.views.differences import differences
from dorkos.console.visit import GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError

_ANSWERED = 20


async def inbox(visit: Visit) -> Shown:
    """The longest waiting first, and what was answered lately."""
    waiting, answered, attention = await asyncio.gather(
        visit.ask("pulse.approvals.list", status="pending", limit=100),
        visit.ask("pulse.approvals.list", limit=_ANSWERED * 2),
        visit.ask("pulse.schedules.list", status="needs_attention"),
    )
    view = {
        "waiting": waiting,
        "answered": [each for each in answered if each["status"] != "pending"][:_ANSWERED],
        "attention": attention,
    }
    return Page("inbox/list.html", "Inbox", view, topics="pulse")


async def approval(visit: Visit) -> Shown:
    """Everything that has to be judged. What a run asks is answered on the page of the run."""
    found = await visit.ask("pulse.approvals.get", id=visit.path["id"])
    return GoTo(f"/pulse/runs/{found['runId']}") if found["runId"] else await _page(visit)


async def approve(visit: Visit) -> Shown:
    """Let it run, as it was shown."""
    return await _answer(visit, "approve", contentHash=visit.form.get("hash", ""))


async def reject(visit: Visit) -> Shown:
    """Refuse a schedule, or leave a run without an answer."""
    found = await visit.ask("pulse.approvals.get", id=visit.path["id"])
    if not found["runId"]:
        return await _answer(visit, "reject")
    run = f"/pulse/runs/{found['runId']}"
    try:
        await visit.ask("pulse.approvals.reject", id=found["id"])
    except DorkError as refusal:
        return GoTo(run, f"refused-{refusal.code.value}")
    return GoTo(run, "unanswered")


async def _answer(visit: Visit, verb: str, **given: str) -> Shown:
    words = visit.form.get("answer", "").strip() or None
    try:
        done = await visit.ask(f"pulse.approvals.{verb}", id=visit.path["id"], answer=words, **given)
    except DorkError as refusal:
        return await _page(visit, refusal)
    return GoTo("/inbox", "approved" if verb == "approve" else "rejected", done["scheduleId"])


async def _page(visit: Visit, refusal: DorkError | None = None) -> Page:
    found = await visit.ask("pulse.approvals.get", id=visit.path["id"])
    everything = await visit.ask("pulse.approvals.list", status="approved", kind="schedule", limit=500)
    before = next((each for each in everything if each["scheduleId"] == found["scheduleId"]), None)
    runs = await visit.ask("pulse.runs.list", scheduleId=found["scheduleId"], limit=20)
    view = {
        "approval": found,
        "shown": _shown(found["content"]),
        "agent": await visit.find("mesh.get", found["content"].get("agentId")),
        "before": before,
        "changes": differences(_shown(before["content"]), _shown(found["content"])) if before else None,
        "tests": [run for run in runs if run["trigger"] == "test"][:3],
        "refused": None if refusal is None else Refused.of(refusal),
    }
    status = 200 if refusal is None else refusal.http_status
    return Page(
        "inbox/approval.html",
        f"Approve {found['content'].get('name', '')}",
        view,
        "pulse",
        status,
        f"/inbox/{found['id']}",
    )


def _shown(content: dict[str, Any]) -> dict[str, str]:
    """Each field that the answer is bound to, as text."""
    shown = {}
    for name, value in content.items():
        if name == "command" and isinstance(value, list):
            shown[name] = shlex.join(value)
        elif isinstance(value, str):
            shown[name] = value
        elif value is not None:
            shown[name] = json.dumps(value, ensure_ascii=False)
    return shown


ROUTES = (
    ("GET", "/inbox", inbox),
    ("GET", "/inbox/{id}", approval),
    ("POST", "/inbox/{id}/approve", approve),
    ("POST", "/inbox/{id}/reject", reject),
)
