"""Where the state is kept, brought up to date: opening, migrating, rehearsing, taking over what was before.

It knows how Pulse judges an expression, because what is taken over is judged as if it were made today.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.clock import Clock, SystemClock
from dorkos.db.database import Database
from dorkos.db.engine import is_postgres, not_postgres
from dorkos.db.legacy.recognition import holds_only_older_stores, refuse_to_hide
from dorkos.db.migrate import MigrationReport, migrate_postgres, migrate_sqlite, rehearse_sqlite
from dorkos.db.postgres import PostgresDatabase
from dorkos.db.replace import finish_replacement
from dorkos.db.sqlite import SqliteDatabase
from dorkos.db.unused_files import unused_files
from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home
from dorkos.pulse import cron
from dorkos.pulse.zones import Zones
from dorkos.settings import load_settings

if TYPE_CHECKING:
    from dorkos.db.legacy.adopt import Adoption
    from dorkos.db.legacy.collecting import Rules


def be_up_to_date(home: Home, url: str | None, clock: Clock, echo: Callable[[str], None]) -> None:
    """Do what `migrate` does and tell its notes."""
    for note in migrate(home, url, clock, echo).notes:
        echo(note)


def migrate(home: Home, url: str | None, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Bring the database up to date, or refuse and change nothing. Whoever calls tells the notes."""
    if url is not None and is_postgres(url):
        report = migrate_postgres(url, clock=clock, progress=echo)
        unused = unused_files(home.path)
        if unused is not None:
            note = f"ATTENTION: {unused.message}. {unused.advice}"
            report = dataclasses.replace(report, notes=(*report.notes, note))
    elif url is None:
        finish_replacement(home.database_path)
        report = _migrate_file(home, clock, echo)
    else:
        raise not_postgres(url)
    return report


def _migrate_file(home: Home, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Bring the file in the data directory up to date, taking over what DorkOS for Node left there."""
    if not holds_only_older_stores(home.path):
        try:
            return migrate_sqlite(home.database_path, backups=home.backups_path, clock=clock, progress=echo)
        except DorkError as refusal:
            if refusal.code is not ErrorCode.DATABASE_LINEAGE:
                raise
    # Needed once in the life of a home.
    from dorkos.db.legacy.inplace import take_over

    adoption = take_over(home.path, backups=home.backups_path, clock=clock, rules=_rules(home), say=echo)
    return _taken_over(adoption)


def rehearse(home: Home, clock: Clock, echo: Callable[[str], None]) -> MigrationReport:
    """Do what `migrate` would do to the file in the data directory, to a copy that is thrown away."""
    if not holds_only_older_stores(home.path):
        try:
            return rehearse_sqlite(home.database_path, clock=clock, progress=echo)
        except DorkError as refusal:
            if refusal.code is not ErrorCode.DATABASE_LINEAGE:
                raise
    from dorkos.db.legacy import inplace

    return _taken_over(inplace.rehearse(home.path, clock=clock, rules=_rules(home), say=echo))


def adopt(home: Home, source: Path, url: str | None, clock: Clock, echo: Callable[[str], None]) -> Adoption:
    """Import what DorkOS for Node left in `source` into the database of `home`, or the one that `url` names.

    Takes the directory's lock. A refusal of the source comes before the directory is made.
    """
    from dorkos.db.legacy.adopt import adopt_into_postgres, adopt_into_sqlite, refuse_source

    refuse_source(source, home.path, is_target=url is None)
    home.prepare()
    home.lock()
    try:
        rules = _rules(home)
        if url is not None:
            return adopt_into_postgres(source, url, clock=clock, rules=rules, say=echo)
        refuse_to_hide(home.path)
        finish_replacement(home.database_path)
        return adopt_into_sqlite(
            source, home.database_path, backups=home.backups_path, clock=clock, rules=rules, say=echo
        )
    finally:
        home.unlock()


def _taken_over(adoption: Adoption) -> MigrationReport:
    from dorkos.db.legacy.summary import lines

    return MigrationReport(
        snapshot=adoption.snapshot,
        notes=tuple(lines(adoption.report)),
        adopted=adoption.report.answer(),
    )


def _rules(home: Home) -> Rules:
    """How an import is to judge schedules: as Pulse would if somebody made them today."""
    from dorkos.db.legacy.collecting import Rules

    zone = load_settings(home.config_path, environment=os.environ).values.scheduler.timezone
    zones, now = Zones(zone), SystemClock().now()

    def problem(expression: str, timezone: str | None) -> str | None:
        try:
            cron.check(expression, zones.resolve(timezone), now)
        except DorkError as refusal:
            return refusal.message
        return None

    return Rules(problem, zone)


def open_database(home: Home, url: str | None, clock: Clock) -> Database:
    """The database that the settings name; it still has to be opened."""
    if url is None:
        return SqliteDatabase(home.database_path, clock=clock)
    return PostgresDatabase(url)
