"""Settings as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dorkos.cli.render import Column, Row, count, notice, print_table, say, state_style


def settings(answer: Any) -> None:
    """The table of all settings, and which of them wait for a restart."""
    print_table(answer, _COLUMNS, empty="There are no settings.")
    waiting = [row for row in answer if row["restartNeeded"]]
    if waiting:
        say("")
        for row in waiting:
            say(f"{row['key']} becomes {value_of(row['coming'])} with the next start of the server.")


def changed(answer: Any) -> None:
    """What a change did."""
    if not answer["changed"]:
        say("The file says so already. Nothing was changed.")
    else:
        say(f"Changed {_names(answer['changed'])}.", state_style("ok"))
    if answer["restartNeeded"]:
        say(f"{_names(answer['restartNeeded'])}: from the next start of the server on.")
    for warning in answer.get("warnings", ()):
        notice(f"warning: {warning}")


def checked(answer: Any) -> None:
    """What a check of the file found."""
    if not answer["problems"]:
        say("The settings are sound.", state_style("ok"))
        return
    for problem in answer["problems"]:
        say(problem, state_style("failed"))
    say(f"{count(len(answer['problems']), 'problem')}; nothing was changed.")


def value_of(value: object) -> str:
    """A value on one line: text as it is, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)


def _names(keys: Iterable[str]) -> str:
    return ", ".join(keys)


def _source(row: Row) -> str:
    source = str(row["source"])
    if source == "environment":
        return f"environment {row['environment']}"
    return source.rsplit("/", 1)[-1] if source.startswith("file ") else source


_COLUMNS = (
    Column("Setting", lambda row: str(row["key"])),
    Column("Value", lambda row: value_of(row["value"]) or "-", shrinks=True),
    Column("From", _source, shrinks=True),
)
