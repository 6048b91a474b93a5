"""How the answers of `dorkos db` read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dorkos.cli.instants import duration
from dorkos.cli.render import byte_size, count, print_facts, say


def tell_status(answer: Any) -> None:
    """Where the database is, and which migrations it has."""
    size = answer.get("sizeBytes")
    print_facts(
        (
            ("database", answer["location"]),
            ("engine", " ".join(filter(None, (answer["dialect"], answer.get("engineVersion"))))),
            ("size", None if size is None else byte_size(size)),
            *((_heading(number, "applied"), row["id"]) for number, row in enumerate(answer["migrations"])),
            *((_heading(number, "pending"), name) for number, name in enumerate(answer.get("pending", ()))),
        )
    )
    if answer.get("pending"):
        say("")
        say("The next start applies what is pending; `dorkos db migrate` does it now.")


def _heading(number: int, word: str) -> str:
    return word if number == 0 else ""


def tell_migrated(answer: Any) -> None:
    """What each migration did, and where the snapshot is."""
    for applied in answer["applied"]:
        say(f"{applied['id']}  {duration(applied['duration_ms'])}")
        for note in applied["notes"]:
            say(f"  {note}")
    for note in answer["notes"]:
        say(note)
    if answer["snapshot"]:
        say(f"Snapshot: {answer['snapshot']}")
    if answer.get("adopted"):
        say("The database of DorkOS for Node was taken over.", "green")
    elif not answer["applied"]:
        say("The database is up to date; nothing was changed.", "green")


def tell_rehearsed(answer: Any) -> None:
    """What each migration did to the rows of the copy."""
    for applied in answer["applied"]:
        say(f"{applied['id']}  {duration(applied['duration_ms'])}")
        for line in _changes(applied["rows"]):
            say(f"  {line}")
        for note in applied["notes"]:
            say(f"  {note}")
    for note in answer["notes"] if answer.get("adopted") else ():
        say(note)
    if answer["applied"] or answer.get("adopted"):
        say("This happened to a copy, which is gone. The database was not changed.", "green")
    else:
        say("The database is up to date; there is nothing to migrate.", "green")


def tell_backup(answer: Any) -> None:
    """Where the backup is, and what is in it."""
    print_facts(
        (
            ("backup", answer["file"]),
            ("size", byte_size(answer["sizeBytes"])),
            ("rows", str(answer["rows"])),
            ("migration", answer["migration"]),
        )
    )
    say("It was read back and is sound.", "green")


def tell_drafted(answer: Any) -> None:
    """What was written, what is missing in it, and what to do next."""
    say(f"Wrote {answer['file']}")
    for difference in answer["differences"]:
        say(f"  {difference}")
    for missing in answer["missing"]:
        say(f"missing: {missing}", "yellow")
    say("")
    say("It is a draft, tried on SQLite only. Next:")
    say("1. Read it, finish it for both engines, and format it with `make fmt`.")
    say("2. `dorkos db check` spells out its line for ledger.lock: add it when the file is final.")
    say("3. `make test` runs it on SQLite and PostgreSQL.")


def _changes(rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """Every table with rows before or after, the changed ones by both numbers."""
    for row in rows:
        before, after = row["before"], row["after"]
        if after is None:
            yield f"{row['table']}: the table is gone, it had {count(before, 'row')}"
        elif before is None:
            yield f"{row['table']}: a new table with {count(after, 'row')}"
        elif before != after:
            yield f"{row['table']}: {count(before, 'row')} before, {count(after, 'row')} after"
        elif after:
            yield f"{row['table']}: {count(after, 'row')}, as before"
