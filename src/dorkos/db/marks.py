"""The mark of a database whose rows are only partly in: a row of `system_state`, gone when all are.

It is written in the transaction that brings the first rows and updated in those that bring more, so it
always tells exactly how far the work came. A database that bears one is refused by every start: half a
fleet would look like a whole one that lost something.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dorkos.errors import DorkError, ErrorCode


class Move(StrEnum):
    """What can be unfinished. The value is the key in `system_state`."""

    IMPORT = "import"
    TRANSFER = "transfer"


MARKS = tuple(move.value for move in Move)


@dataclass(frozen=True, slots=True)
class Mark:
    """Which move it is of, by an id that only the very same content has, and how far that came.

    `table` is the one at work, None before the first, and `after` the key of its last row that is in.
    """

    id: str
    since: str
    table: str | None = None
    after: tuple[str | int, ...] | None = None
    rows: int = 0

    def text(self) -> str:
        """The mark as it is stored."""
        after = None if self.after is None else list(self.after)
        fields = {"id": self.id, "since": self.since, "table": self.table, "after": after, "rows": self.rows}
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Read a stored mark. Raises ValueError for anything else."""
        try:
            fields = json.loads(text)
            after = None if fields["after"] is None else tuple(fields["after"])
            return cls(fields["id"], fields["since"], fields["table"], after, fields["rows"])
        except (LookupError, TypeError) as fault:
            raise ValueError(text) from fault


def refuse_unfinished(facts: Mapping[str, str]) -> None:
    """Raise `move_unfinished` if the facts of `system_state` hold a mark."""
    for move in Move:
        if move in facts:
            raise unfinished(move)


def unfinished(move: Move) -> DorkError:
    """The refusal of a database that bears a mark."""
    if move is Move.IMPORT:
        hint = "Run the same `dorkos db import` again to finish it, or begin with an empty database."
    else:
        hint = (
            "Run the same `dorkos db transfer` again from the same data directory to finish it, or with "
            "--discard to empty the target. The database that it came from is as it was."
        )
    return DorkError(
        ErrorCode.MOVE_UNFINISHED,
        f"An {move.value} into this database was begun and is not finished: its rows are only partly in."
        if move is Move.IMPORT
        else "A transfer into this database was begun and is not finished: its rows are only partly in.",
        hint=hint,
        details={"move": move.value},
    )
