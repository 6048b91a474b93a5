"""Schedules as their pages show them: the form and what it means."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from dorkos.console.views import triggers
from dorkos.console.views.triggers import wrong

POLICIES = {
    "overlap": (
        ("skip", "Leave it out"),
        ("queue", "Wait its turn"),
        ("cancel_previous", "End the earlier one"),
        ("allow", "Run both"),
    ),
    "catchUp": (
        ("latest", "Run the newest one late"),
        ("skip", "Do not run late"),
        ("all", "Run each of them late"),
    ),
    "permissionMode": (
        ("default", "Ask before tools are used"),
        ("plan", "Plan only"),
        ("acceptEdits", "Edit files without asking"),
        ("bypassPermissions", "Do everything without asking"),
    ),
}
DURATIONS = ("maxRuntime", "catchUpWindowMs", "jitterMs", "retryDelayMs", "idleTimeoutMs", "alarmAfterMs")
_NUMBERS = ("maxActive", "catchUpMax", "maxAttempts", "pauseAfterFailures")
_TEXTS = ("description", "timezone", "cwd", "runtime", "reason")
# Where an empty field means the least there can be, not "none".
_LEAST = {"jitterMs": 0, "maxAttempts": 1}


def empty(query: Mapping[str, str], agents: list[dict[str, Any]]) -> dict[str, Any]:
    """A new form."""
    return {
        "name": "",
        "prompt": "",
        "target": "agent" if agents else "command",
        "agentId": query.get("agent", agents[0]["id"] if agents else ""),
        "command": "",
        "overlap": "skip",
        "catchUp": "latest",
        "permissionMode": "acceptEdits",
        "enabled": True,
        "repeatable": False,
        **dict.fromkeys((*DURATIONS, *_NUMBERS, *_TEXTS), ""),
        "trigger": triggers.Trigger(),
    }


def of_schedule(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The form of a schedule there is."""
    command = schedule["command"]
    return {
        "name": schedule["name"],
        "prompt": schedule["prompt"],
        "target": "command" if command is not None else "agent",
        "agentId": schedule["agentId"] or "",
        "command": "" if command is None else shlex.join(command),
        **{name: schedule[name] for name in (*POLICIES, "enabled", "repeatable")},
        **{name: triggers.short(schedule[name]) for name in DURATIONS},
        **{name: "" if schedule[name] is None else str(schedule[name]) for name in _NUMBERS},
        **{name: schedule[name] or "" for name in _TEXTS},
        "trigger": triggers.fields_of(schedule["cron"]),
    }


def as_given(form: Mapping[str, str]) -> dict[str, Any]:
    """The form as somebody filled it in, to be shown again beside what is wrong with it."""
    texts = ("name", "prompt", "target", "agentId", "command", *POLICIES, *DURATIONS, *_NUMBERS, *_TEXTS)
    return {
        **{name: form.get(name, "") for name in texts},
        "enabled": "enabled" in form,
        "repeatable": "repeatable" in form,
        "trigger": triggers.given(form),
    }


def body_of(form: Mapping[str, str]) -> dict[str, Any]:
    """What the form asks of the API. Raises `validation_failed` for what it cannot say at all."""
    body: dict[str, Any] = {
        "name": form.get("name", ""),
        "prompt": form.get("prompt", ""),
        "cron": triggers.words_of(form),
        "enabled": "enabled" in form,
        "repeatable": "repeatable" in form,
        **{name: form[name] for name in POLICIES if form.get(name)},
        **{name: form.get(name, "").strip() or None for name in _TEXTS},
    }
    for names, read in ((DURATIONS, triggers.milliseconds), (_NUMBERS, triggers.whole)):
        for name in names:
            value = read(form, name)
            body[name] = _LEAST.get(name) if value is None else value
    if form.get("target") == "command":
        body["command"] = _argv(form.get("command", ""))
    else:
        body["agentId"] = form.get("agentId") or None
        if body["agentId"] is None:
            raise wrong("agentId", "Choose an agent, or a program instead.")
    return body


def _argv(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as fault:
        raise wrong("command", f"Write it as in a shell: {fault}.") from fault
    if not words:
        raise wrong("command", "Name the program to run.")
    return words
