"""What is wrong with a field, in the words of a form instead of those of a parser."""

from __future__ import annotations

import re
from collections.abc import Callable

from dorkos.console.words import grouped

_MISSING = re.compile(r"Field required|String should have at least 1 character")
_LONG = re.compile(r"String should have at most (\d+) characters")
_MOST = re.compile(r"Input should be less than or equal to (\d+)")
_LEAST = re.compile(r"Input should be greater than or equal to (\d+)")
_NUMBER = re.compile(r"Input should be a valid integer.*", re.DOTALL)
_WORD = re.compile(r"String should match pattern '\^\[0-9A-Za-z_-\]\{1,(\d+)\}\$'")


def plainly(said: str, limit: Callable[[int], str] = grouped) -> str:
    """`said` as somebody would say it who looks at the form; what is none of the usual stays as it is.

    `limit` writes a number as the field takes it.
    """
    if _MISSING.fullmatch(said):
        return "Fill this in."
    if _NUMBER.fullmatch(said):
        return "Write a whole number."
    if found := _LONG.fullmatch(said):
        return f"Write at most {grouped(int(found[1]))} characters."
    if found := _MOST.fullmatch(said):
        return f"It may be at most {limit(int(found[1]))}."
    if found := _LEAST.fullmatch(said):
        return f"It must be at least {limit(int(found[1]))}."
    if found := _WORD.fullmatch(said):
        return f"Use letters, digits, - and _ only, at most {found[1]} of them."
    return said
