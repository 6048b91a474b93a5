"""Settings of adapters: what no adapter could run with is refused when it is given."""

from __future__ import annotations

import json

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.relay.adapters.configs import checked
from tests.relay.adapters.bench import SECRET


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("webhook", {}, "config"),
        ("webhook", {"outbound": {"url": "ftp://example.com", "secret": SECRET}}, "outbound.url"),
        ("webhook", {"outbound": {"url": "http://a:b@example.com", "secret": SECRET}}, "outbound.url"),
        ("webhook", {"outbound": {"url": "http://example.com:99999", "secret": SECRET}}, "outbound.url"),
        ("webhook", {"outbound": {"url": "https://example.com", "secret": "short"}}, "outbound.secret"),
        ("webhook", {"inbound": {"subject": "relay.>", "secret": SECRET}}, "inbound.subject"),
        ("webhook", {"inbound": {"subject": "relay human", "secret": SECRET}}, "inbound.subject"),
        ("webhook", {"inbound": "yes"}, "inbound"),
        (
            "webhook",
            {"outbound": {"url": "https://a.example", "secret": SECRET, "headers": {"X-Signature": "1"}}},
            "outbound.headers",
        ),
        (
            "webhook",
            {"outbound": {"url": "https://a.example", "secret": SECRET, "headers": {"X-A": "1\r\nB: 2"}}},
            "outbound.headers",
        ),
        (
            "webhook",
            {"outbound": {"url": "https://a.example", "secret": SECRET, "headers": {"X-A": "ü"}}},
            "outbound.headers",
        ),
        (
            "webhook",
            {
                "inbound": {
                    "subject": "relay.human.ada",
                    "secret": SECRET,
                    "previousSecret": SECRET,
                    "previousSecretUntil": "2026-01-01T00:00:00",
                }
            },
            "inbound.previousSecretUntil",
        ),
        ("telegram", {"token": ""}, "token"),
        ("telegram", {"token": "1:a", "mode": "webhook"}, "config"),
        ("maildir", {"path": "mail"}, "config"),
    ],
)
def test_settings_that_no_adapter_could_run_with_are_refused(
    kind: str, config: dict[str, object], field: str
) -> None:
    """By name, without repeating a value."""
    with pytest.raises(DorkError) as refused:
        checked(kind, config)
    assert refused.value.code is ErrorCode.VALIDATION_FAILED
    assert refused.value.details is not None
    assert field in refused.value.details["fieldErrors"]  # type: ignore[operator]  # A JSON object.
    assert SECRET not in json.dumps(refused.value.body())
