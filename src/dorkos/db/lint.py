"""What a migration does to data, as its text and two catalogues show it: each danger has a code.

A danger may be right. Then the migration says why, for the person who reads it years later:

    LOSS = {"D002": "Nothing wrote it since version 0.2; what it held is in `notes`."}

`LOSS = "reason"` answers for all of them. D006, D008 and D010 are never right. Text that a migration
computes is not seen here; the replay sees what became of the schema, and the runner counts the rows.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from dorkos.db.drift import Catalogue
from dorkos.db.ledger import Revision
from dorkos.db.lint_catalogue import seen_in_catalogues
from dorkos.db.lint_text import imports_in, renamed_in, seen_in_text


@dataclass(frozen=True, slots=True)
class Danger:
    """`does` says what a migration does to a subject, `instead` what to do about it."""

    does: str
    instead: str
    excusable: bool = True


DANGERS: Mapping[str, Danger] = {
    "D001": Danger("drops the table {}", "move its rows first, or rebuild it with dorkos.db.rebuild"),
    "D002": Danger("drops the column {}", "keep it, or carry its values to another"),
    "D003": Danger("deletes rows of {}", "keep them"),
    "D004": Danger("narrows {}", "keep every value legal that is legal now"),
    "D005": Danger("makes {} NOT NULL without a default", "give it a server_default, or allow NULL"),
    "D006": Danger(
        "touches foreign key enforcement",
        "leave it to the runner; SQLite ignores the switch inside a transaction",
        excusable=False,
    ),
    "D007": Danger("renames {}", "keep the name, which older copies and people's queries use"),
    "D008": Danger("was edited after it landed", "put it back and write a new one instead", excusable=False),
    "D009": Danger("asks of the rows of {} what they may not fulfil", "drop the rule"),
    "D010": Danger(
        "imports {}, which goes on changing", "write what it needs into the file itself", excusable=False
    ),
}

# Landed before there was a lint, and a landed file is never edited.
_LANDED_REASONS: Mapping[str, Mapping[str, str]] = {
    "0002_rate_limit_unique": {"D009": "Nothing of the lineage ever wrote a bucket, let alone one twice."},
    "0003_leases_and_mailboxes": {
        "D002": "Subject and payload of a delivery moved to relay_messages, its mailbox to relay_endpoints.",
        "D004": "What a strict column cannot hold is kept word for word in system_state.",
        "D005": "Every row is filled by the migration.",
    },
}

# What is frozen itself, or only ever grows.
_FROZEN = {
    "dorkos.clock",
    "dorkos.db.keeper",
    "dorkos.db.rebuild",
    "dorkos.db.step",
    "dorkos.db.types",
    "dorkos.ids",
}


def problems(revision: Revision, before: Catalogue | None, after: Catalogue | None) -> list[str]:
    """Each danger without a stated reason, in words. Without catalogues only the text is read."""
    try:
        tree = ast.parse(revision.path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as fault:
        return [f"migration {revision.id} is not Python that can be read: {fault}"]
    found = set(seen_in_text(tree))
    found |= {("D010", module) for module in imports_in(tree) if module not in _FROZEN}
    if before is not None and after is not None:
        known_as_renamed = renamed_in(tree)
        found |= {
            (code, subject)
            for code, subject in seen_in_catalogues(before, after)
            if code not in ("D001", "D002") or subject not in known_as_renamed
        }
    excused, wrong = _stated(revision, tree)
    return [f"migration {revision.id} {text}" for text in wrong] + [
        f"migration {revision.id} {sentence(code, subject)}"
        for code, subject in sorted(found)
        if code not in excused or not DANGERS[code].excusable
    ]


def sentence(code: str, subject: str = "") -> str:
    """What is done to `subject`, and what to do about it."""
    danger = DANGERS[code]
    text = f"{danger.does.format(subject)} ({code}): {danger.instead}"
    return f'{text}, or state why with LOSS = {{"{code}": "reason"}}' if danger.excusable else text


def _stated(revision: Revision, tree: ast.Module) -> tuple[set[str], list[str]]:
    """The codes that a reason is given for, and what is wrong with the reasons."""
    excused = set(_LANDED_REASONS.get(revision.id, ()))
    value = _loss(tree)
    if value is None:
        return excused, []
    try:
        stated = ast.literal_eval(value)
    except ValueError:
        stated = None
    if isinstance(stated, str) and stated.strip():
        return excused | DANGERS.keys(), []
    if not isinstance(stated, dict) or not stated:
        return excused, ['must state LOSS as a text, or as {"D001": "reason"} of plain texts']
    wrong = []
    for code, reason in stated.items():
        if code not in DANGERS or not DANGERS[code].excusable:
            wrong.append(f"states a reason for {code}, which cannot be excused")
        elif not isinstance(reason, str) or not reason.strip():
            wrong.append(f"states no reason for {code}: the text is empty")
        else:
            excused.add(code)
    return excused, wrong


def _loss(tree: ast.Module) -> ast.expr | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "LOSS" for target in targets):
            assert isinstance(node, ast.Assign)
            return node.value
    return None
