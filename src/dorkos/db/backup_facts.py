"""What the database remembers of its backups: the last one made, why one failed, the last rehearsal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dorkos.clock import from_iso, iso
from dorkos.db.database import Transaction
from dorkos.db.schema.system import system_state
from dorkos.db.types import to_json

MADE_KEY = "backup:made"
FAILED_KEY = "backup:failed"
REHEARSED_KEY = "backup:rehearsed"


@dataclass(frozen=True, slots=True)
class BackupNote:
    """What became of one backup or rehearsal, and when. `file` is a name in the backups folder, or a path."""

    at: datetime
    ok: bool
    file: str | None = None
    rows: int | None = None
    problem: str | None = None

    def fields(self) -> dict[str, object]:
        """The note as JSON, in `system_state` and in events."""
        return {
            "at": iso(self.at),
            "ok": self.ok,
            "file": self.file,
            "rows": self.rows,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """All of it. `failed` is None again as soon as a backup was made."""

    made: BackupNote | None
    failed: BackupNote | None
    rehearsed: BackupNote | None


def read_backup_facts(connection: sa.Connection) -> BackupFacts:
    """What is remembered; a note that cannot be read counts as none."""
    keys = (MADE_KEY, FAILED_KEY, REHEARSED_KEY)
    rows = connection.execute(sa.select(system_state).where(system_state.c.key.in_(keys)))
    notes = {row.key: _note(row.value) for row in rows}
    return BackupFacts(*(notes.get(key) for key in keys))


def note_made(tx: Transaction, note: BackupNote) -> None:
    """Remember a backup that was made."""
    _forget(tx, FAILED_KEY)
    _remember(tx, MADE_KEY, note)
    tx.emit("system.backup.made", note.file or "", note.fields())


def note_failed(tx: Transaction, note: BackupNote) -> None:
    """Remember that no backup came about. The same problem again is no event again."""
    before = tx.execute(sa.select(system_state.c.value).where(system_state.c.key == FAILED_KEY)).scalar()
    known = None if before is None else _note(before)
    _remember(tx, FAILED_KEY, note)
    if known is None or known.problem != note.problem:
        tx.emit("system.backup.failed", "daily", note.fields())


def note_rehearsed(tx: Transaction, note: BackupNote) -> None:
    """Remember how a rehearsal went."""
    _remember(tx, REHEARSED_KEY, note)
    tx.emit("system.backup.rehearsed", note.file or "", note.fields())


def _remember(tx: Transaction, key: str, note: BackupNote) -> None:
    _forget(tx, key)
    tx.execute(system_state.insert(), {"key": key, "value": to_json(note.fields())})


def _forget(tx: Transaction, key: str) -> None:
    tx.execute(system_state.delete().where(system_state.c.key == key))


def _note(text: str) -> BackupNote | None:
    try:
        fields = json.loads(text)
        return BackupNote(
            from_iso(fields["at"]), bool(fields["ok"]), fields["file"], fields["rows"], fields["problem"]
        )
    except (ValueError, LookupError, TypeError):
        return None
