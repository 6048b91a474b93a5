"""`dorkos up` on a bad day: with a clock that jumps, without room on its disk, without rights to its files.

    python -m tests.crash.laboratory.server up

Everything else is the real program. What is bad stands in the environment and in a file, see below.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

import dorkos.db
from dorkos.cli.main import main
from dorkos.clock import SystemClock
from dorkos.db.engine import sqlite_driver

# A file that holds the seconds by which the wall clock is wrong. It may change at any time.
SKEW = "LABORATORY_SKEW"
# How many pages the database may have.
PAGES = "LABORATORY_PAGES"
# The number of the system user to be from the start, if this is the superuser.
USER = "LABORATORY_USER"


def _skew_the_clock(path: Path) -> None:
    real = SystemClock.now

    def now(clock: SystemClock) -> datetime:
        return real(clock) + timedelta(seconds=float(path.read_text("ascii") or "0"))

    SystemClock.now = now  # type: ignore[method-assign,assignment]  # On purpose.


def _leave_no_room(pages: int) -> None:
    def bound(raw: object, _record: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]  # A connection.

    sa.event.listen(sa.Engine, "connect", bound)


def _become(user: int) -> None:
    # Whatever is loaded later may lie where this user cannot come: a start would fail for want of that.
    for name in ("dorkos.serving", "alembic.operations", "alembic.runtime.migration", "filelock"):
        importlib.import_module(name)
    for module in pkgutil.iter_modules(dorkos.db.__path__, "dorkos.db."):
        importlib.import_module(module.name)
    sqlite_driver()
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


if __name__ == "__main__":
    if SKEW in os.environ:
        _skew_the_clock(Path(os.environ[SKEW]))
    if PAGES in os.environ:
        _leave_no_room(int(os.environ[PAGES]))
    if USER in os.environ:
        _become(int(os.environ[USER]))
    sys.exit(main())
