"""What commands print: on a terminal, into a pipe, and with what agents may have written into it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from unittest import mock

import pytest

from dorkos.cli.render import Column, byte_size, count, preview, print_facts, print_table, raw, say, visible

ROWS = (
    {
        "id": "01M85CY62M4GKWD7WT7GK28QX6",
        "name": "a name that is too long for a narrow window",
        "state": "failed",
    },
    {"id": "01M85CY6TN01WJT0MPYF3BJVC0", "name": "日本語", "state": "completed"},
)
COLUMNS = (
    Column("id", lambda row: row["id"]),
    Column("name", lambda row: row["name"], shrinks=True),
    Column("state", lambda row: row["state"], state=True),
)


class _Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def _printed(
    act: Callable[[], None], *, terminal: bool = False, columns: int = 80, **environment: str
) -> str:
    stream = _Screen() if terminal else io.StringIO()
    given = {"COLUMNS": str(columns), "TERM": "xterm", **environment}
    with mock.patch.dict(os.environ, given), mock.patch.object(sys, "stdout", stream):
        act()
    return stream.getvalue()


def _table() -> None:
    print_table(ROWS, COLUMNS, empty="Nothing.")


def test_a_table_in_a_pipe_is_whole_and_plain() -> None:
    """Every cell is there for the next program, without colour even if the environment forces it."""
    text = _printed(_table, columns=40, FORCE_COLOR="1", CLICOLOR_FORCE="1")
    heading, first, second = text.splitlines()
    assert "\x1b" not in text
    assert heading.split() == ["ID", "NAME", "STATE"]
    assert ROWS[0]["name"] in first
    assert second.startswith("01M85CY6TN01WJT0MPYF3BJVC0  日本語  ")


def test_a_table_on_a_terminal_fits_and_keeps_ids_whole() -> None:
    """What may shrink does, with a mark; an id can still be copied."""
    shown = _printed(_table, terminal=True, columns=60)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert "01M85CY62M4GKWD7WT7GK28QX6  a name that is too" in lines[1]
    assert "…" in lines[1]
    assert all(len(line) <= 60 for line in lines)


def test_wide_letters_count_as_two_columns() -> None:
    """The state stands in the same column whatever letters come before it."""
    _, first, second = _printed(_table, columns=80).splitlines()
    assert first.index("failed") == second.index("completed") + len("日本語")


def test_states_have_a_colour_on_a_terminal() -> None:
    """And lose it with NO_COLOR."""
    assert "\x1b[31mfailed" in _printed(_table, terminal=True)
    assert "\x1b[3" not in _printed(_table, terminal=True, NO_COLOR="1")


def test_a_path_is_cut_at_its_front() -> None:
    """The end of a path tells more than its beginning."""
    columns = (Column("path", lambda row: row["name"], shrinks=True, keeps_end=True),)
    rows = ({"name": "/srv/projects/that/lie/deep/down/scout"},)
    text = _printed(lambda: print_table(rows, columns, empty=""), terminal=True, columns=20, NO_COLOR="1")
    assert text.splitlines()[1] == "…lie/deep/down/scout"


def test_an_empty_table_says_what_to_do() -> None:
    """Instead of a heading over nothing."""
    assert _printed(lambda: print_table((), COLUMNS, empty="Nothing. Add one.")) == "Nothing. Add one.\n"


def test_facts_are_aligned_and_those_unknown_left_out() -> None:
    """One name and value a line."""
    text = _printed(lambda: print_facts((("id", "1"), ("exit code", None), ("state", "done"))))
    assert text == "id     1\nstate  done\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_agents_wrote_cannot_command_the_terminal(terminal: bool) -> None:
    """Escapes, returns and marks that turn the direction are shown instead of obeyed."""
    text = _printed(lambda: say("a\x1b]0;owned\x07b\rc\nd\x9b31m\u202e"), terminal=terminal)
    assert text == "a␛]0;owned␇b␍c d\ufffd31m\ufffd\n"


def test_output_of_programs_is_exact_in_a_pipe_and_harmless_on_a_terminal() -> None:
    """A file gets the bytes; a screen gets pictures, and lines where a program would overwrite one."""
    text = "50%\r100%\r\n\x1b[31mred\tend\n"
    assert _printed(lambda: raw(text)) == text
    assert _printed(lambda: raw(text), terminal=True) == "50%\n100%\n␛[31mred\tend\n"


def test_texts_from_outside_are_no_markup() -> None:
    """Brackets are letters, on a terminal too."""
    assert "[red]x[/red]" in _printed(lambda: say("[red]x[/red]", "green"), terminal=True)


def test_a_preview_is_one_line_of_bounded_length() -> None:
    """Texts as they are, other values as JSON, absent as null."""
    assert preview("a\n  b\tc") == "a b c"
    assert preview({"a": "ü"}) == '{"a": "ü"}'
    assert preview(None) == "null"
    assert len(preview("x" * 1000, 10)) == 10


def test_visible_keeps_ordinary_text() -> None:
    """Letters of any script, emoji and accents stay."""
    assert visible("naïve 日本語 🙂") == "naïve 日本語 🙂"


def test_numbers_read_well() -> None:
    """One run, two runs, and sizes in the unit that matters."""
    assert [count(number, "mailbox", "mailboxes") for number in (0, 1, 2)] == [
        "0 mailboxes",
        "1 mailbox",
        "2 mailboxes",
    ]
    assert [byte_size(size) for size in (0, 999, 48_999, 1_250_000)] == [
        "0 bytes",
        "999 bytes",
        "48 kB",
        "1.2 MB",
    ]
