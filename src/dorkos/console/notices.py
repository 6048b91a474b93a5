"""What a page says after a change was made, and how it is undone, where it can be.

The address names only the word, never the text, and what the change was made to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

NOTICES = {
    "fleet": "The fleet's mode was set.",
    "created": "The schedule was created.",
    "saved": "The schedule was saved.",
    "deleted": "The schedule was deleted.",
    "paused": "The schedule is paused: it does not fire until you resume it.",
    "resumed": "The schedule fires again from its next instant on.",
    "started": "The run was queued; it starts as soon as a place is free.",
    "tested": "The test run was queued. It grants nothing.",
    "cancel-stopping": "The run was asked to stop.",
    "cancel-finished": "The run was cancelled before it had begun.",
    "cancel-unconfirmed": "Its server gives no sign of life: whether its program still runs cannot be told.",
    "refused-run_not_active": "The run had finished already.",
    "answered": "Your answer was given: the session goes on in this run.",
    "unanswered": "The question is closed. The run stays as it ended; it may still be resumed.",
    "refused-approval_decided": "That question had been closed already.",
    "approved": "Approved. It fires from its next instant on.",
    "rejected": "Rejected. The schedule is kept, paused.",
    "opened": "The mailbox is open.",
    "closed": "The mailbox is closed; what waited in it are dead letters now.",
    "circuit-closed": "The mailbox takes messages again.",
    "rule-added": "The rule was added; it binds every message from now on.",
    "rule-contradicts": "The rule was added. Another rule says the opposite about some of the same messages.",
    "rule-removed": "The rule was removed.",
    "sent": "The message is stored for every recipient.",
    "sent-stopped": "The message is stored, but not every recipient took it; see below.",
    "adapter-added": "The adapter was added.",
    "adapter-saved": "The settings were saved; it starts anew with them.",
    "adapter-removed": "The adapter was removed; what waited in its mailbox became dead letters.",
    "adapter-enabled": "The adapter was switched on.",
    "adapter-disabled": "The adapter was switched off.",
    "redriven": "The message was sent again.",
    "redrive-stopped": "The message was tried again, and stopped again; see its reason.",
    "purged": "The dead letter was purged.",
    "unregistered": "The agent was removed, with its mailbox, rules, token and schedules.",
    "denied": "The path is kept out.",
    "allowed": "The denial was lifted.",
    "backup": "",
    "session-ended": "The browser was logged out.",
}


@dataclass(frozen=True)
class Undo:
    """A form with one button. In `action` and `fields` `{of}` is what the change was made to."""

    label: str
    action: str
    fields: Mapping[str, str] = field(default_factory=dict)


_SCHEDULE = "/pulse/schedules/{of}/switch"
_ADAPTER = "/relay/adapters/{of}/switch"
_UNDOS = {
    "paused": Undo("Resume it", _SCHEDULE, {"to": "active"}),
    "resumed": Undo("Pause it again", _SCHEDULE, {"to": "paused"}),
    "approved": Undo("Pause it", _SCHEDULE, {"to": "paused"}),
    "adapter-enabled": Undo("Switch it off again", _ADAPTER, {"to": "off"}),
    "adapter-disabled": Undo("Switch it on again", _ADAPTER, {"to": "on"}),
    "closed": Undo("Open it again", "/relay/mailboxes", {"subject": "{of}"}),
    "rule-added": Undo("Remove it again", "/relay/rules/{of}/remove"),
    "rule-contradicts": Undo("Remove it again", "/relay/rules/{of}/remove"),
    "denied": Undo("Lift it again", "/mesh/allowed", {"path": "{of}"}),
    "allowed": Undo("Keep it out again", "/mesh/denied", {"path": "{of}"}),
}


def undo(notice: str, of: str) -> Undo | None:
    """How a change is undone; None for one that cannot be."""
    if not of:
        return None
    if notice == "rule-removed":  # Made anew, from all that it was.
        return Undo("Put it back", "/relay/rules", dict(parse_qsl(of)))
    found = _UNDOS.get(notice)
    if found is None:
        return None
    fields = {name: value.replace("{of}", of) for name, value in found.fields.items()}
    return Undo(found.label, found.action.replace("{of}", quote(of, safe="")), fields)
