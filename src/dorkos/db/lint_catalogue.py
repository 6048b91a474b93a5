"""Dangers to data that show when the catalogues before and after a migration are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dorkos.db.drift import Catalogue

# As dorkos.db.drift_sqlite writes a CHECK made with `one_of`.
_WORDS = re.compile(r"(\w+) in \( ((?:'(?:[^']|'')*'(?: , )?)+) \)")
_STRING = re.compile(r"'(?:[^']|'')*'")
_NAME = re.compile(r"[a-z_]\w*")
_IN_PARENTHESES = re.compile(r"\(([^)]*)\)")


def seen_in_catalogues(before: Catalogue, after: Catalogue) -> Iterator[tuple[str, str]]:
    """Codes of `dorkos.db.lint.DANGERS` with the table or column they concern.

    A CHECK whose list of words only grew, or that concerns only columns which are new, is no danger.
    """
    for table, was in before.items():
        if table not in after:
            yield "D001", table
            continue
        yield from _columns(table, was, after[table])
        yield from _rules(table, was, after[table])


def _columns(table: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for fact in was.keys() | now.keys():
        kind, _, column = fact.partition(" ")
        if kind != "column":
            continue
        subject = f"{table}.{column}"
        if fact not in now:
            yield "D002", subject
            continue
        text, earlier = now[fact], was.get(fact, "")
        if " NOT NULL" in text and " NOT NULL" not in earlier and " DEFAULT " not in text:
            yield "D005", subject
        if earlier and earlier.split()[0] != text.split()[0]:
            yield "D004", subject


def _rules(table: str, was: Mapping[str, str], now: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    old_columns = _column_names(was)
    if "STRICT" in now["kind"] and "STRICT" not in was["kind"]:
        yield "D004", table
    for fact, text in now.items():
        kind, _, name = fact.partition(" ")
        if was.get(fact) == text:
            continue
        if kind == "check" and old_columns & _names(text) and not _grew(was.get(fact), text):
            yield "D004", f"{table} by the CHECK {name}"
        # A new column may refer to something: it is NULL in every row, or a default.
        if kind == "foreign" and old_columns & _names(fact.lower()) and not _same_target(was.get(fact), text):
            yield "D009", table
    # A uniqueness that names a new column, or widens an older one, holds for every row that is there.
    earlier = {*_uniques(was, partial=False), _primary_key(was)}
    asked = _uniques(dict(now.items() - was.items()), partial=True) | {_primary_key(now)}
    if any(key and key <= old_columns and not any(old and old <= key for old in earlier) for key in asked):
        yield "D009", table


def _column_names(facts: Mapping[str, str]) -> set[str]:
    return {name.lower() for kind, _, name in (fact.partition(" ") for fact in facts) if kind == "column"}


def _names(text: str) -> set[str]:
    return set(_NAME.findall(_STRING.sub("", text)))


def _grew(earlier: str | None, text: str) -> bool:
    """Whether a list of words has all that it had."""
    old, new = _WORDS.fullmatch(earlier or ""), _WORDS.fullmatch(text)
    if old is None or new is None or old[1] != new[1]:
        return False
    return set(_STRING.findall(old[2])) <= set(_STRING.findall(new[2]))


def _same_target(earlier: str | None, text: str) -> bool:
    # Another delete rule asks nothing of the rows that are there.
    return earlier is not None and earlier.partition(" ON UPDATE")[0] == text.partition(" ON UPDATE")[0]


def _uniques(facts: Mapping[str, str], *, partial: bool) -> set[frozenset[str]]:
    """The sets of columns that must differ between rows; `partial` adds those of some rows only."""
    return {
        frozenset(_names(_IN_PARENTHESES.findall(fact if fact.startswith("unique") else text)[0]))
        for fact, text in facts.items()
        if fact.startswith("unique (")
        or (text.startswith("unique on") and (partial or " where " not in text))
    }


def _primary_key(facts: Mapping[str, str]) -> frozenset[str]:
    return frozenset(
        fact.removeprefix("column ").lower() for fact, text in facts.items() if " PRIMARY KEY " in text
    )
