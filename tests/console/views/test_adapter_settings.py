"""Settings of an adapter as fields of a form."""

from __future__ import annotations

from typing import Any

import pytest

from dorkos.console.views.adapter_settings import KINDS, body_of, fields_of, shown, without_nothing
from dorkos.errors import DorkError
from dorkos.relay.adapters.configs import checked

WEBHOOK: dict[str, Any] = {
    "inbound": {"subject": "relay.human.kim", "secret": "env:HOOK_IN"},
    "outbound": {
        "url": "https://a.example/hook",
        "secret": "env:HOOK",
        "headers": {"X-Team": "a: b", "X-Other": "c"},
        "subjects": ["relay.human.*", "relay.x.>"],
        "allowPrivate": True,
        "timeoutSeconds": 3,
    },
}
TELEGRAM: dict[str, Any] = {"token": "env:BOT", "chats": [4711, -1001234], "subject": "relay.human.kim"}


@pytest.mark.parametrize(
    ("kind", "config"), [("webhook", WEBHOOK), ("telegram", TELEGRAM), ("maildir", {"path": "/srv/a b"})]
)
def test_what_a_form_shows_comes_back_as_it_was(kind: str, config: dict[str, Any]) -> None:
    """With its nesting and its types."""
    assert without_nothing(body_of(kind, shown(kind, config), config)) == config


def test_what_is_emptied_is_taken_away() -> None:
    """A setting, a header, and a whole side of a webhook."""
    form = {**shown("webhook", WEBHOOK), "inbound.subject": "", "inbound.secret": " "}
    form |= {"outbound.headers": "X-Other: c", "outbound.timeoutSeconds": "", "outbound.allowPrivate": ""}
    body = body_of("webhook", form, WEBHOOK)
    assert body["inbound"] is None
    assert body["outbound"]["headers"] == {"X-Team": None, "X-Other": "c"}
    assert (body["outbound"]["timeoutSeconds"], body["outbound"]["allowPrivate"]) == (None, None)


@pytest.mark.parametrize(
    ("kind", "field", "text"),
    [
        ("telegram", "chats", "4711\nfour"),
        ("webhook", "outbound.timeoutSeconds", "1e3"),
        ("webhook", "outbound.maxAttempts", "9" * 5000),
        ("webhook", "outbound.headers", "no colon"),
    ],
)
def test_what_a_setting_cannot_be_is_said_beside_its_field(kind: str, field: str, text: str) -> None:
    """Before the API is asked."""
    with pytest.raises(DorkError) as refused:
        body_of(kind, {field: text}, {})
    details: Any = refused.value.details
    assert list(details["fieldErrors"]) == [field]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if fields_of(kind)])
def test_every_field_is_a_setting_that_there_is(kind: str) -> None:
    """One that the API did not know would be kept and ignored."""
    known: dict[str, Any] = checked(
        kind, {"webhook": WEBHOOK, "telegram": TELEGRAM}.get(kind, {})
    ).model_dump(by_alias=True)
    for field in fields_of(kind):
        outer, _, inner = field.name.rpartition(".")
        assert inner in (known[outer] if outer else known), field.name
