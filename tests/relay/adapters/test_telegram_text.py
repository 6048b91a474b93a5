"""What Telegram shows of a payload, and which chat an address names."""

from __future__ import annotations

import json

import pytest

from dorkos.relay.adapters.telegram_text import TEXT_MAX, chat_of, outgoing


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("plain", "plain"),
        ({"content": "said", "more": 1}, "said"),
        ({"content": 5}, '{"content": 5}'),
        ([1, "ü"], '[1, "ü"]'),
        ("x" * TEXT_MAX, "x" * TEXT_MAX),
        ("x" * (TEXT_MAX + 1), "x" * (TEXT_MAX - 3) + "..."),
        ("🙂" * TEXT_MAX, "🙂" * ((TEXT_MAX - 3) // 2) + "..."),
    ],
)
def test_a_payload_is_shown_as_text_that_fits(payload: object, text: str) -> None:
    """Counted as Telegram counts, and no character is cut in half."""
    shown = outgoing(json.dumps(payload))
    assert shown == text
    assert len(shown.encode("utf-16-le")) <= 2 * TEXT_MAX


def test_no_payload_is_no_text() -> None:
    """There is nothing to show."""
    assert outgoing(None) == ""


@pytest.mark.parametrize(
    ("subject", "chat"),
    [
        ("relay.telegram.bot.42", 42),
        ("relay.telegram.bot.-100123", -100123),
        ("relay.human.telegram.42", 42),
        ("relay.human.telegram.group.-7", -7),
        ("relay.telegram.bot", None),
        ("relay.telegram.bot.x", None),
        ("relay.telegram.bot.٤٢", None),
        ("relay.telegram.bot.1.2", None),
        ("relay.telegram.bot." + "9" * 30, None),
        ("relay.human.ada", None),
    ],
)
def test_an_address_names_a_chat_or_none(subject: str, chat: int | None) -> None:
    """Plain decimal numbers, negative ones for groups."""
    assert chat_of(subject, "relay.telegram.bot") == chat
