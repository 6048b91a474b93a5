"""How the answers of `dorkos db digest`, `export`, `import` and `transfer` read."""

from __future__ import annotations

from typing import Any

from dorkos.cli.render import Column, byte_size, count, print_facts, print_table, say

_COLUMNS = (
    Column("table", lambda row: str(row["table"])),
    Column("rows", lambda row: str(row["rows"]), right=True),
    Column("digest", lambda row: str(row["digest"])),
)


def tell_digest(answer: Any) -> None:
    """Each table, and one digest for all."""
    print_table([{"table": name, **found} for name, found in answer["tables"].items()], _COLUMNS, empty="")
    say("")
    print_facts((("migration", answer["migration"]), ("digest", answer["digest"])))


def tell_exported(answer: Any) -> None:
    """Where the file is, what is in it, and who must not see it."""
    print_facts(
        (
            ("export", answer["file"]),
            ("size", byte_size(answer["sizeBytes"])),
            ("rows", _rows(answer)),
            ("migration", answer["migration"]),
            ("digest", answer["digest"]),
        )
    )
    say("Keep it to yourself: it holds the secrets of adapters and the hashes of tokens.", "yellow")


def tell_imported(answer: Any) -> None:
    """What came in, and what to do next."""
    print_facts(
        (
            ("written by", answer["writtenBy"]),
            ("exported at", answer["exportedAt"]),
            ("rows", _rows(answer)),
            ("digest", answer["digest"]),
        )
    )
    say("Every row is in, and the digests are those of the export.", "green")
    _tell_hold()


def tell_transferred(answer: Any) -> None:
    """What is where now, and what to do next."""
    resumed = answer["resumedRows"]
    print_facts(
        (
            ("rows", _rows(answer)),
            ("resumed", count(resumed, "row was in already", "rows were in already") if resumed else None),
            ("digest", answer["digest"]),
        )
    )
    say("Every row is in PostgreSQL, and the digests of all tables are equal.", "green")
    _tell_hold()
    say("Start the server with `dorkos up --database URL`, or set `database.url`.")
    say("The SQLite file is as it was: keep it until you trust the other, and let no server run on it.")


def tell_discarded(answer: Any) -> None:
    """What went."""
    say(f"The target is empty again: {count(answer['discarded'], 'row')} of an unfinished transfer went.")


def _rows(answer: Any) -> str:
    return str(sum(found["rows"] for found in answer["tables"].values()))


def _tell_hold() -> None:
    say("The fleet is on hold there: nothing fires until you lift it with `dorkos fleet resume`.", "yellow")
