"""Relay: messages, mailboxes, what stopped, and the rules."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from dorkos.console.views.triggers import wrong
from dorkos.console.views.waterfall import waterfall
from dorkos.console.visit import GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError, ErrorCode
from dorkos.storable import parse_json

_PAGE = 50
_NOTHING_WRITTEN = {"subject": "", "payload": "", "replyTo": ""}
_SUBJECT_PLACES = dict.fromkeys(
    (ErrorCode.INVALID_SUBJECT, ErrorCode.WILDCARD_NOT_ALLOWED, ErrorCode.ENDPOINT_EXISTS), "subject"
)
_TAKERS = {"claim": "whoever claims", "run": "runs of its agent", "adapter": "an adapter"}


async def messages(visit: Visit) -> Shown:
    """The newest messages. Watching consumes nothing."""
    wanted = {name: visit.query.get(name) or None for name in ("text", "subject", "from", "status")}
    refused = None
    try:
        # Words are looked for everywhere; the other filters are those of the list.
        name = "relay.search" if wanted["text"] else "relay.messages"
        given = {"text": wanted["text"]} if wanted["text"] else {**wanted, "text": None}
        found = await visit.ask(name, cursor=visit.query.get("cursor"), limit=_PAGE, **given)
    except DorkError as refusal:
        found, refused = {"messages": []}, Refused.of(refusal)
    view = {
        "messages": found["messages"],
        "older": _older("/relay", visit, found.get("nextCursor")),
        "wanted": wanted,
        "refused": refused,
        "tab": "messages",
    }
    return Page("relay/messages.html", "Relay", view, topics="relay")


async def message(visit: Visit) -> Shown:
    """One message: envelope, deliveries, payload."""
    found = await visit.ask("relay.message", id=visit.path["id"])
    view = {"message": found, "parent": await visit.find("relay.message", found.get("parentId"))}
    return Page("relay/message.html", f"Message to {found['subject']}", view, topics="relay")


async def mailboxes(visit: Visit) -> Shown:
    """All mailboxes with what waits in them."""
    return await _mailboxes(visit)


async def _mailboxes(visit: Visit, refusal: DorkError | None = None) -> Page:
    found = await visit.ask("relay.endpoints")
    found.sort(key=lambda box: (box["breaker"] == "closed", -box["pressure"], box["subject"]))
    text = visit.query.get("text", "").strip()
    if text:
        found = [
            box for box in found if text.lower() in f"{box['subject']} {box['description'] or ''}".lower()
        ]
    shown, more = visit.part(found)
    view = {
        "boxes": shown,
        "total": len(found),
        "more": more,
        "text": text,
        "takers": _TAKERS,
        "given": visit.form,
        "refused": None if refusal is None else Refused.of(refusal, _SUBJECT_PLACES),
        "tab": "mailboxes",
    }
    status = 200 if refusal is None else refusal.http_status
    return Page("relay/mailboxes.html", "Mailboxes", view, "relay", status, "/relay/mailboxes")


async def mailbox(visit: Visit) -> Shown:
    """What lies in one mailbox. Looking takes nothing out."""
    subject = visit.path["subject"]
    status, cursor = visit.query.get("status") or None, visit.query.get("cursor")
    found, boxes = await asyncio.gather(
        visit.ask("relay.inbox", subject=subject, status=status, cursor=cursor, limit=_PAGE),
        visit.ask("relay.endpoints", includeClosed=True),
    )
    view = {
        "subject": subject,
        "box": next((box for box in boxes if box["subject"] == subject), None),
        "takers": _TAKERS,
        "messages": found["messages"],
        "status": status,
        "older": _older(f"/relay/mailboxes/{quote(subject, safe='')}", visit, found.get("nextCursor")),
    }
    return Page("relay/mailbox.html", subject, view, topics="relay")


async def open_mailbox(visit: Visit) -> Shown:
    """Open a mailbox."""
    try:
        made = await visit.ask(
            "relay.open",
            subject=visit.form.get("subject", "").strip(),
            description=visit.form.get("description") or None,
        )
    except DorkError as refusal:
        return await _mailboxes(visit, refusal)
    return GoTo(f"/relay/mailboxes/{quote(made['subject'], safe='')}", "opened")


async def close_mailbox(visit: Visit) -> Shown:
    """Close a mailbox; what waits in it stops."""
    await visit.ask("relay.close", subject=visit.path["subject"])
    return GoTo("/relay/mailboxes", "closed", visit.path["subject"])


async def close_circuit(visit: Visit) -> Shown:
    """Let a mailbox take messages again."""
    subject = visit.path["subject"]
    await visit.ask("relay.close_circuit", subject=subject)
    return GoTo(f"/relay/mailboxes/{quote(subject, safe='')}", "circuit-closed")


async def dead_letters(visit: Visit) -> Shown:
    """Messages that stopped, and why."""
    found = await visit.ask("relay.dead_letters", cursor=visit.query.get("cursor"), limit=_PAGE)
    listed = found if isinstance(found, list) else found["deadLetters"]
    cursor = listed[-1]["id"] if len(listed) == _PAGE else None
    view = {
        "letters": listed,
        "older": _older("/relay/dead", visit, cursor),
        "redrives": visit.desk.knows("relay.redrive"),
        "purges": visit.desk.knows("relay.purge"),
        "tab": "dead",
    }
    return Page("relay/dead.html", "Dead letters", view, topics="relay")


async def redrive(visit: Visit) -> Shown:
    """Put a dead letter back into its mailbox; the rules decide anew."""
    done = await visit.ask("relay.redrive", id=visit.path["id"])
    return GoTo("/relay/dead", "redriven" if done["outcome"] == "delivered" else "redrive-stopped")


async def purge(visit: Visit) -> Shown:
    """Take a dead letter away for good."""
    await visit.ask("relay.purge", id=visit.path["id"])
    return GoTo("/relay/dead", "purged")


async def chain(visit: Visit) -> Shown:
    """Everything that one cause led to."""
    chain_id = visit.path["id"]
    found: dict[str, Any] = {"spans": []}
    try:
        found = await visit.ask("relay.chain", id=chain_id)
    except DorkError as refusal:
        if refusal.http_status != HTTPStatus.NOT_FOUND:
            raise  # A chain without messages is one that a run began, and that went no further.
    spans = found["spans"]
    of = await _run_names(visit, spans)
    ago = visit.times.since_ms(min(span["sentAt"] for span in spans)) if spans else 0
    view = {"chain": chain_id, "bars": waterfall(spans, ago, of), "truncated": found.get("truncated")}
    return Page("relay/chain.html", "Trace", view, topics="relay pulse")


async def _run_names(visit: Visit, spans: list[dict[str, Any]]) -> dict[str, str]:
    """Schedules and agents of runs, by id; those that are gone have no name."""
    asked = {
        (operation, span[key])
        for span in spans
        for key, operation in (("scheduleId", "pulse.schedules.get"), ("agentId", "mesh.get"))
        if span["kind"] == "run" and span.get(key)
    }
    found = [(identity, await visit.find(operation, identity)) for operation, identity in sorted(asked)]
    return {identity: one["name"] for identity, one in found if one is not None}


async def rules(visit: Visit) -> Shown:
    """Who may send to whom; with an explanation, if one is asked for."""
    return await _rules(visit)


async def add_rule(visit: Visit) -> Shown:
    """Add a rule, which binds every publish from then on."""
    form = visit.form
    try:
        added = await visit.ask(
            "relay.add_rule",
            **{name: form.get(name, "").strip() or None for name in ("from", "to", "action", "priority")},
            description=form.get("description") or None,
        )
    except DorkError as refusal:
        return await _rules(visit, refusal)
    return GoTo("/relay/rules", "rule-contradicts" if added["contradicts"] else "rule-added", added["id"])


async def remove_rule(visit: Visit) -> Shown:
    """Remove a rule."""
    rules = await visit.ask("relay.rules")
    found: dict[str, Any] = next((rule for rule in rules if rule["id"] == visit.path["id"]), {})
    await visit.ask("relay.remove_rule", id=visit.path["id"])
    was = {
        name: found[name] for name in ("from", "to", "action", "priority", "description") if found.get(name)
    }
    return GoTo("/relay/rules", "rule-removed", urlencode(was))


async def compose(visit: Visit) -> Shown:
    """A message to write."""
    return await _compose(visit, {**_NOTHING_WRITTEN, "subject": visit.query.get("to", "")})


async def send(visit: Visit) -> Shown:
    """Send it; the page of the message is its receipt."""
    form = visit.form
    try:
        body: dict[str, Any] = {"subject": form.get("subject", "").strip(), "payload": _payload(form)}
        if form.get("replyTo", "").strip():
            body["replyTo"] = form["replyTo"].strip()
        receipt = await visit.send("relay.publish", body)
    except DorkError as refusal:
        return await _compose(visit, {**_NOTHING_WRITTEN, **form}, refusal)
    stopped = any(each["outcome"] != "delivered" for each in receipt["recipients"])
    notice = "sent-stopped" if stopped or not receipt["recipients"] else "sent"
    return GoTo(f"/relay/messages/{receipt['messageId']}", notice)


async def _compose(visit: Visit, given: Any, refusal: DorkError | None = None) -> Page:
    boxes = await visit.ask("relay.endpoints")
    view = {
        "subjects": sorted(box["subject"] for box in boxes)[:500],
        "given": given,
        "refused": None if refusal is None else Refused.of(refusal),
    }
    status = 200 if refusal is None else refusal.http_status
    return Page("relay/compose.html", "Write a message", view, status=status)


async def _rules(visit: Visit, refusal: DorkError | None = None) -> Page:
    shown, more = visit.part(await visit.ask("relay.rules"))
    explained = None
    refused = None if refusal is None else Refused.of(refusal)
    if visit.query.get("to"):
        try:
            explained = await visit.ask(
                "relay.explain", **{"from": visit.query.get("from") or None, "to": visit.query["to"]}
            )
        except DorkError as said:
            refused = Refused.of(said)
    view = {
        "rules": shown,
        "more": more,
        "explained": explained,
        "asked": {"from": visit.query.get("from", ""), "to": visit.query.get("to", "")},
        "given": visit.form,
        "refused": refused,
        "tab": "rules",
    }
    status = 200 if refusal is None else refusal.http_status
    return Page("relay/rules.html", "Rules", view, topics="relay", status=status)


def _payload(form: Any) -> Any:
    text = form.get("payload", "")
    if form.get("kind") != "json":
        return text
    try:
        return parse_json(text.encode())
    except DorkError as refusal:
        raise wrong("payload", f"{refusal.message} Write it as text instead, or mend it.") from refusal


def _older(path: str, visit: Visit, cursor: str | None) -> str | None:
    if not cursor:
        return None
    kept = {name: value for name, value in visit.query.items() if name not in ("cursor", "done") and value}
    return GoTo(path, more={**kept, "cursor": cursor}).address


ROUTES = (
    ("GET", "/relay", messages),
    ("GET", "/relay/messages/{id}", message),
    ("GET", "/relay/mailboxes", mailboxes),
    ("POST", "/relay/mailboxes", open_mailbox),
    ("GET", "/relay/mailboxes/{subject}", mailbox),
    ("POST", "/relay/mailboxes/{subject}/close", close_mailbox),
    ("POST", "/relay/mailboxes/{subject}/circuit", close_circuit),
    ("GET", "/relay/dead", dead_letters),
    ("POST", "/relay/dead/{id}/redrive", redrive),
    ("POST", "/relay/dead/{id}/purge", purge),
    ("GET", "/relay/chains/{id}", chain),
    ("GET", "/relay/rules", rules),
    ("POST", "/relay/rules", add_rule),
    ("POST", "/relay/rules/{id}/remove", remove_rule),
    ("GET", "/relay/send", compose),
    ("POST", "/relay/send", send),
)
