"""Adapters: how each is, switching it, trying it, and its settings in a form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dorkos.console.views import adapter_settings as settings
from dorkos.console.visit import GoTo, Page, Refused, Shown, Visit
from dorkos.errors import DorkError

_LIST = "/relay/adapters"


async def adapters(visit: Visit) -> Shown:
    """Connections to the outside, and how they are."""
    found = await visit.ask("relay.adapters")
    return Page("relay/adapters.html", "Adapters", {"adapters": found, "tab": "adapters"}, topics="relay")


async def adapter(visit: Visit) -> Shown:
    """One of them."""
    return await _adapter(visit)


async def switch(visit: Visit) -> Shown:
    """Switch an adapter on or off."""
    verb = "enable" if visit.form.get("to") == "on" else "disable"
    try:
        await visit.ask(f"relay.{verb}_adapter", id=visit.path["id"])
    except DorkError as refusal:
        return await _adapter(visit, refusal=refusal)
    return GoTo(_place(visit.path["id"]), f"adapter-{verb}d", visit.path["id"])


async def test(visit: Visit) -> Shown:
    """Try it once, beside the one that may be running."""
    return await _adapter(visit, tried=await visit.ask("relay.test_adapter", id=visit.path["id"]))


async def remove(visit: Visit) -> Shown:
    """Remove an adapter."""
    await visit.ask("relay.remove_adapter", id=visit.path["id"])
    return GoTo(_LIST, "adapter-removed")


async def new(visit: Visit) -> Shown:
    """A form for one of a kind."""
    kind = visit.query.get("kind", "webhook")
    return _form(None, kind, {"enabled": "on"})


async def add(visit: Visit) -> Shown:
    """Add what the form says, or show it again with what is wrong."""
    form = visit.form
    kind = form.get("kind", "")
    try:
        body = {
            "id": form.get("id", "").strip(),
            "type": kind,
            "enabled": "enabled" in form,
            "config": settings.without_nothing(settings.body_of(kind, form, {})),
        }
        made = await visit.send("relay.add_adapter", body)
    except DorkError as refusal:
        return _form(None, kind, form, refusal)
    return GoTo(_place(made["config"]["id"]), "adapter-added")


async def edit(visit: Visit) -> Shown:
    """The form of one that there is."""
    found = (await visit.ask("relay.adapter", id=visit.path["id"]))["config"]
    return _form(found, found["type"], settings.shown(found["type"], found["config"]))


async def update(visit: Visit) -> Shown:
    """Store an edit, or show the form again with what is wrong."""
    found = (await visit.ask("relay.adapter", id=visit.path["id"]))["config"]
    try:
        config = settings.body_of(found["type"], visit.form, found["config"])
        await visit.send("relay.update_adapter", {"id": found["id"], "config": config})
    except DorkError as refusal:
        return _form(found, found["type"], visit.form, refusal)
    return GoTo(_place(found["id"]), "adapter-saved")


async def _adapter(visit: Visit, *, tried: Any = None, refusal: DorkError | None = None) -> Page:
    found = await visit.ask("relay.adapter", id=visit.path["id"])
    config, status = found["config"], found["status"]
    known = settings.fields_of(config["type"])
    view = {
        "adapter": config,
        "status": status,
        "settings": [(field.label, text) for field in known if (text := _told(field, config["config"]))],
        "other": None if known or not config["config"] else config["config"],
        "edits": bool(known),
        "mailbox": status.get("mailbox"),
        "inbound": f"/api/relay/webhooks/{config['id']}" if config["config"].get("inbound") else None,
        "tried": tried,
        "refused": None if refusal is None else Refused.of(refusal),
    }
    code = 200 if refusal is None else refusal.http_status
    return Page("relay/adapter.html", f"Adapter {config['id']}", view, "relay", code, _place(config["id"]))


def _told(field: settings.Field, config: Mapping[str, Any]) -> str:
    text = settings.text_of(field, config)
    return {"on": "yes"}.get(text, text) if field.kind == "flag" else text


def _form(
    adapter: Mapping[str, Any] | None,
    kind: str,
    given: Mapping[str, str],
    refusal: DorkError | None = None,
) -> Page:
    groups = settings.KINDS.get(kind)
    view = {
        "adapter": adapter,
        "kind": kind if groups is not None else "webhook",
        "kinds": settings.CHOICES,
        "groups": settings.KINDS["webhook"] if groups is None else groups,
        "given": given,
        "refused": None if refusal is None else Refused.of(refusal),
        "tab": "adapters",
    }
    title = "New adapter" if adapter is None else f"Edit {adapter['id']}"
    code = 200 if refusal is None else refusal.http_status
    return Page("relay/adapter_form.html", title, view, status=code)


def _place(adapter_id: str) -> str:
    return f"{_LIST}/{quote(adapter_id, safe='')}"


ROUTES = (
    ("GET", _LIST, adapters),
    ("GET", "/relay/new-adapter", new),
    ("POST", "/relay/new-adapter", add),
    ("GET", "/relay/adapters/{id}", adapter),
    ("POST", "/relay/adapters/{id}/switch", switch),
    ("POST", "/relay/adapters/{id}/test", test),
    ("POST", "/relay/adapters/{id}/remove", remove),
    ("GET", "/relay/adapters/{id}/edit", edit),
    ("POST", "/relay/adapters/{id}/edit", update),
)
