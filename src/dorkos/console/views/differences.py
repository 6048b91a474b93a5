"""What changed between what was approved and what is asked for now, line by line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_CONTEXT = 2


@dataclass(frozen=True, slots=True)
class Changed:
    """A field that differs. Each line is of the kind `same`, `del` or `ins`."""

    field: str
    lines: list[tuple[str, str]]


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[Changed]:
    """Every field that is not the same, those of `after` in its order first."""
    names = [*after, *(name for name in before if name not in after)]
    return [
        Changed(name, list(_lines(before.get(name, ""), after.get(name, ""))))
        for name in names
        if before.get(name, "") != after.get(name, "")
    ]


def _lines(before: str, after: str) -> Iterator[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    for group in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_grouped_opcodes(_CONTEXT):
        for kind, a, b, c, d in group:
            if kind == "equal":
                yield from (("same", line) for line in old[a:b])
            else:
                yield from (("del", line) for line in old[a:b])
                yield from (("ins", line) for line in new[c:d])
