"""`dorkos db adopt`: bringing over what DorkOS for Node left in another directory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dorkos.cli.db_place import DatabaseOption, file_named, place_of
from dorkos.cli.options import options_of
from dorkos.cli.render import Column, count, notice, print_table, say, show

_MOST_SHOWN = 20


def adopt(
    context: typer.Context,
    old_home: Annotated[
        str, typer.Argument(metavar="HOME", help="The data directory of DorkOS for Node, such as ~/.dork.")
    ],
    database: DatabaseOption = None,
) -> None:
    """Import everything that DorkOS for Node left in HOME, into the database of this data directory.

    HOME is only read. All is read first, and then written at once or not at all; what cannot be read is
    reported and left out. Running it again adds nothing. Afterwards the fleet is on hold: nothing fires,
    runs or is delivered before `dorkos fleet resume`. Stop DorkOS for Node first, and the server of this
    directory.

    The exit code is 1 if something was left out.

    Example:

        dorkos db adopt ~/.dork --home ~/.dorkos
    """
    from dorkos.clock import SystemClock
    from dorkos.storage import adopt as bring_over

    options = options_of(context)
    place = place_of(options, database)
    source = file_named(old_home)
    adoption = bring_over(place.home, source, place.url, SystemClock(), notice)
    answer = {
        "home": str(source),
        "added": adoption.added,
        "snapshot": None if adoption.snapshot is None else str(adoption.snapshot),
        **adoption.report.answer(),
    }
    show(options, answer, tell_adopted)
    if answer["unreadable"]:
        raise typer.Exit(1)


def tell_adopted(answer: Any) -> None:
    """What was found and what became of it, part by part."""
    parts = [part for part in answer["parts"] if part["found"] or part["unreadable"]]
    print_table(parts, _COLUMNS, empty="There was nothing in it.")
    _list("Left out", [f"{item['where']}: {item['why']}" for item in answer["unreadable"]], "red")
    _list(
        "Kept aside",
        [f"{item['part']} {item['id']} {item['column']}: {item['why']}" for item in answer["kept"]],
    )
    for note in answer["notes"]:
        say("")
        say(note)
    say("")
    if answer["snapshot"]:
        say(f"Snapshot: {answer['snapshot']}")
    if answer["added"]:
        say(f"{count(answer['added'], 'row')} added.", "green")
        say("The fleet is on hold. Look at what came, then let it go: dorkos fleet resume")
    elif any(part["already"] for part in parts):
        say("Nothing was added: everything that could be read was there already.", "green")
    else:
        say("Nothing was added: there was nothing that could be read.", "yellow")


def _list(heading: str, lines: list[str], style: str = "") -> None:
    if not lines:
        return
    say("")
    say(f"{heading}:", style)
    for line in lines[:_MOST_SHOWN]:
        say(f"  {line}")
    if len(lines) > _MOST_SHOWN:
        say(f"  and {len(lines) - _MOST_SHOWN} more; --json shows all of them")


def _number(name: str) -> Column:
    return Column(name, lambda row: str(row[name]), right=True)


_COLUMNS = (
    Column("part", lambda row: row["part"]),
    *(_number(name) for name in ("found", "added", "already", "kept", "unreadable")),
)
