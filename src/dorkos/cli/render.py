"""What commands print: JSON as the server said it, or tables and sentences from the same data.

The answer goes to standard output, notices and errors to standard error. Colour appears on a terminal
only. On a terminal a table is cut to its width, but never an id; in a pipe nothing is cut.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from dorkos.cli.options import Options

if TYPE_CHECKING:
    from rich.text import Text

Row = Mapping[str, Any]

_GAP = "  "
_LEAST_SHRUNK = 8

# How a state looks. Words that are not here are plain.
_STYLES = {
    "active": "green",
    "connected": "green",
    "starting": "yellow",
    "error": "red",
    "auth_failed": "red",
    "completed": "green",
    "delivered": "green",
    "ok": "green",
    "ready": "green",
    "running": "cyan",
    "queued": "yellow",
    "pending": "yellow",
    "paused": "yellow",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "pending_approval": "yellow",
    "needs_attention": "red",
    "backpressure": "red",
    "blocked": "red",
    "failed": "red",
    "inactive": "yellow",
    "stale": "yellow",
    "unreachable": "red",
    "stuck": "red",
    "timeout": "red",
}

# Control characters as pictures: what agents wrote must not move the cursor, ring or rename the window.
_VISIBLE = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Marks that turn the direction of text could make a line read as something else.
_VISIBLE |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
_VISIBLE_LINES = {code: shown for code, shown in _VISIBLE.items() if code not in (0x09, 0x0A)}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading and what a row shows in it.

    `shrinks` says that it may be cut on a narrow terminal; an id never is. `keeps_end` cuts it at the
    front, as suits a path. `state` colours known words.
    """

    heading: str
    cell: Callable[[Row], str | None]
    shrinks: bool = False
    keeps_end: bool = False
    right: bool = False
    state: bool = False


def show(options: Options, answer: Any, tell: Callable[[Any], None]) -> None:
    """Print an answer: as one JSON document if that was asked for, else by `tell`."""
    if options.json:
        print_json(answer)
    else:
        tell(answer)


def print_json(answer: Any) -> None:
    """One JSON document, indented."""
    _write(json.dumps(answer, indent=2, ensure_ascii=not _speaks_utf8()))


def print_json_line(answer: Any) -> None:
    """One JSON document on a line of its own, visible at once: for commands that follow something."""
    _write(json.dumps(answer, ensure_ascii=not _speaks_utf8()))
    sys.stdout.flush()


def say(text: str, style: str = "", *, flush: bool = False) -> None:
    """One line of the answer; `flush` makes it visible at once in a pipe as well."""
    if style and _is_terminal(sys.stdout):
        from rich.text import Text

        _print_text(Text(visible(text), style=style))
    else:
        _write(visible(text))
    if flush:
        sys.stdout.flush()


def say_pieces(*pieces: tuple[str, str]) -> None:
    """One line of the answer, made of texts that each have a style of their own."""
    if _is_terminal(sys.stdout):
        from rich.text import Text

        _print_text(Text.assemble(*((visible(text), style) for text, style in pieces)))
    else:
        _write("".join(visible(text) for text, _ in pieces).rstrip())


def raw(text: str, *, error: bool = False) -> None:
    """A program's output, unchanged into a pipe or file; on a terminal, control characters are shown."""
    stream = sys.stderr if error else sys.stdout
    if _is_terminal(stream):
        # A lone return starts a new line, since it could otherwise write over what was shown.
        text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_VISIBLE_LINES)
    stream.write(text)
    stream.flush()


def notice(text: str) -> None:
    """A remark beside the answer, on standard error."""
    sys.stderr.write(visible(text) + "\n")
    sys.stderr.flush()


def visible(text: str) -> str:
    """The text on one line, with control characters shown instead of obeyed."""
    return text.replace("\r\n", " ").replace("\n", " ").replace("\t", " ").translate(_VISIBLE)


def preview(value: Any, length: int = 200) -> str:
    """A payload or prompt on one line: text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def count(number: int, one: str, several: str | None = None) -> str:
    """`1 run`, `2 runs`; `several` is the plural if that is not the same with an s."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def byte_size(size: int) -> str:
    """`512 bytes`, `48 kB`, `1.2 MB`."""
    if size < 1000:
        return f"{size} bytes"
    if size < 1_000_000:
        return f"{size // 1000} kB"
    return f"{size / 1_000_000:.1f} MB"


def print_table(rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
    """A table, or the sentence `empty`, which says what to do next."""
    if not rows:
        say(empty)
        return
    cells = [[visible(column.cell(row) or "") for column in columns] for row in rows]
    widths = _widths(columns, cells)
    _print_row([column.heading.upper() for column in columns], columns, widths, heading=True)
    for line in cells:
        _print_row(line, columns, widths, heading=False)


def print_more(cursor: str | None) -> None:
    """How to see the next page, if there is one."""
    if cursor is not None:
        say("")
        say(f"There are more: --cursor {cursor}")


def print_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Names and values, one pair a line, the values aligned. A value of None is left out."""
    known = [(name, visible(value)) for name, value in facts if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        _write(f"{name.ljust(width)}{_GAP}{value}")


def state_style(word: str) -> str:
    """The colour of a state, empty for none."""
    return _STYLES.get(word, "")


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    widths = [
        max(len(column.heading), *(cell_len(line[index]) for line in cells))
        for index, column in enumerate(columns)
    ]
    if not _is_terminal(sys.stdout):
        return widths
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - shutil.get_terminal_size().columns
    shrinking = [index for index, column in enumerate(columns) if column.shrinks]
    while excess > 0:
        widest = max(shrinking, key=lambda index: widths[index], default=None)
        if widest is None or widths[widest] <= _LEAST_SHRUNK:
            break
        widths[widest] -= 1
        excess -= 1
    return widths


def _print_row(
    cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, heading: bool
) -> None:
    from rich.text import Text

    line = Text(end="")
    last = len(columns) - 1
    for index, (text, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        style = "bold" if heading else state_style(text) if column.state else ""
        cell = Text(_cut_front(text, width) if column.keeps_end else text, style=style)
        cell.truncate(width, overflow="ellipsis")
        if column.right:
            cell.align("right", width)
        elif index != last:
            cell.pad_right(max(0, width - cell.cell_len))
        line.append_text(cell)
        if index != last:
            line.append(_GAP)
    if _is_terminal(sys.stdout):
        _print_text(line)
    else:
        _write(line.plain.rstrip())


def _cut_front(text: str, width: int) -> str:
    from rich.cells import cell_len

    kept = text
    while cell_len(kept) > width:
        # One character for the mark, the rest from the end.
        kept = "…" + kept.removeprefix("…")[1:]
    return kept


def _print_text(text: Text) -> None:
    from rich.console import Console

    console = Console(
        highlight=False, markup=False, emoji=False, soft_wrap=True, no_color=bool(os.environ.get("NO_COLOR"))
    )
    console.print(text, end="\n")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def _is_terminal(stream: IO[str]) -> bool:
    return stream.isatty()


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
