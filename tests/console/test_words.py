"""Text of strangers made harmless, and values in words."""

from __future__ import annotations

import pytest

from dorkos.console import words


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10 %\r50 %\rdone", "done"),
        ("a\r\nb", "a\nb"),
        ("plain", "plain"),
    ],
)
def test_what_was_meant_for_a_terminal_is_left_out(text: str, left: str) -> None:
    """And a line that was written over is what it was at last."""
    assert left == words.plain(text)


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200f", "\x07", "\x00", "\x9b", "\ufeff"])
def test_hidden_characters_are_shown_by_their_number(hidden: str) -> None:
    """Each stands where it was; letters of every script stay."""
    shown = words.visible(f"a{hidden}مرحبا\tb\n")
    assert hidden not in shown
    assert f"{ord(hidden):04X}" in shown
    assert "مرحبا\tb\n" in shown


def test_a_line_is_cut_and_holds_no_break() -> None:
    """Payloads that are no text are shown as JSON."""
    assert words.line("a\n b", 10) == "a b"
    assert len(words.line("x" * 500)) == 160
    assert words.line({"a": 1}) == '{"a": 1}'


def test_a_cost_below_a_cent_is_not_shown_as_nothing() -> None:
    """A number that is shown is measured."""
    assert words.money(0.0004) == "< $0.01"
    assert words.money(0) == "$0.00"
    assert words.money(None) == "\u2013"
