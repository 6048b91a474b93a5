"""`DailyBackup`: copies the SQLite database while the server runs, and rehearses what it would restore.

Copying reads one snapshot in a thread of its own: it holds up neither the writer nor the event loop. A
copy counts only after it was read back, and only then older ones may go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from dorkos.clock import Clock
from dorkos.db.backup_facts import BackupNote, note_failed, note_made, note_rehearsed, read_backup_facts
from dorkos.db.copying import CopyError, CopyHaltedError, place_copy
from dorkos.db.database import Database, Transaction
from dorkos.db.rehearse import newest_backup, rehearse
from dorkos.db.retention import CopyKind, KeptCopy, copy_names, evict, sound_copies, sweep
from dorkos.db.schema.system import schema_ledger
from dorkos.errors import DorkError
from dorkos.lifecycle import Loop
from dorkos.setting_groups.database import BackupSettings

log = logging.getLogger("dorkos.backups")

# How often it looks. A machine that slept wakes with an old backup, and its timers stood still meanwhile.
_INTERVAL_S = 300.0
# After a start everything else comes first.
_SETTLE_S = 10.0
_RETRY = timedelta(hours=1)


class DailyBackup(Loop):
    """Makes a verified copy whenever the newest is too old, keeps a few, and rehearses the newest weekly."""

    def __init__(
        self,
        database: Database,
        path: Path,
        backups: Path,
        *,
        clock: Clock,
        settings: BackupSettings,
        settle_s: float = _SETTLE_S,
    ) -> None:
        """`path` is the file of `database`; on another engine the loop has nothing to do and never starts."""
        super().__init__("backups", interval_s=_INTERVAL_S)
        self._database = database
        self._path = path
        self._backups = backups
        self._clock = clock
        self._settings = settings
        self._settle_s = settle_s
        self._is_settled = False
        self._not_before: datetime | None = None

    async def start(self) -> None:
        """Begin to look, unless there is nothing to do."""
        every = self._settings.every_hours, self._settings.rehearse_days
        if self._database.dialect == "sqlite" and any(every):
            await super().start()

    async def work(self) -> float | None:
        """Back up if that is due, then rehearse if that is due."""
        if not self._is_settled:
            self._is_settled = True
            return self._settle_s
        try:
            await self._back_up_if_due()
            if self._settings.rehearse_days:
                await self._rehearse_if_due()
        except CopyHaltedError:
            log.info("the server stops: the backup under way was given up")
        return None

    async def _is_backup_due(self) -> bool:
        hours, now = self._settings.every_hours, self._clock.now()
        # After a failure it waits; a clock that was set back ends the wait.
        waiting = self._not_before is not None and now < self._not_before <= now + _RETRY
        if not hours or waiting:
            return False
        newest = await asyncio.to_thread(self._newest, now)
        return newest is None or now - newest.at >= timedelta(hours=hours)

    def _newest(self, now: datetime) -> KeptCopy | None:
        return next(sound_copies(self._backups, CopyKind.DAILY, now=now), None)

    async def _back_up_if_due(self) -> None:
        try:
            if not await self._is_backup_due():
                return
            last_id = await self._database.read(_last_migration)
            note = await asyncio.to_thread(self._copy, last_id)
        except CopyHaltedError:
            raise
        except (OSError, CopyError) as fault:
            self._not_before = self._clock.now() + _RETRY
            log.error("the daily backup failed: %s", fault)
            await self._store(note_failed, BackupNote(self._clock.now(), False, problem=str(fault)))
            return
        self._not_before = None
        await self._store(note_made, note)
        try:
            await asyncio.to_thread(
                evict, self._backups, CopyKind.DAILY, keep=self._settings.keep, now=self._clock.now()
            )
        except OSError as fault:  # There is a backup; that an old one stays is only untidy.
            log.warning("an old backup could not be deleted: %s", fault)

    def _copy(self, last_id: str) -> BackupNote:
        now = self._clock.now()
        self._backups.mkdir(mode=0o700, exist_ok=True)
        sweep(self._backups, now)
        names = copy_names(CopyKind.DAILY, now, last_id)
        made = place_copy(self._path, self._backups, names, halt=self._halt)
        return BackupNote(now, True, made.path.name, sum(made.rows.values()))

    async def _rehearse_if_due(self) -> None:
        last = (await self._database.read(read_backup_facts)).rehearsed
        try:
            file = await asyncio.to_thread(newest_backup, self._backups)
        except OSError:  # The folder cannot be read, of which the backup has told.
            return
        if file is None or not self._is_rehearsal_due(last, file):
            return
        note = await asyncio.to_thread(
            partial(rehearse, file, scratch=self._backups, clock=self._clock, say=log.debug, halt=self._halt)
        )
        if not note.ok:
            log.error("the rehearsal of %s failed: %s", file, note.problem)
        await self._store(note_rehearsed, note)

    def _is_rehearsal_due(self, last: BackupNote | None, file: Path) -> bool:
        if last is None or not last.ok:
            # Of one that failed the same is to be expected; the next backup may be better.
            return last is None or last.file != file.name
        age = self._clock.now() - last.at
        return not timedelta() <= age < timedelta(days=self._settings.rehearse_days)

    def _halt(self) -> bool:
        return self.stopping

    async def _store(self, change: Callable[[Transaction, BackupNote], None], note: BackupNote) -> None:
        try:
            await self._database.write(lambda tx: change(tx, note))
        except DorkError as refusal:
            # Where the disk is full nothing can be noted either; the log has it.
            log.error("what became of a backup could not be stored: %s", refusal.message)


def _last_migration(connection: sa.Connection) -> str:
    last: str = connection.execute(sa.select(sa.func.max(schema_ledger.c.id))).scalar_one()
    return last
