"""Which database a command of `dorkos db` means."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dorkos.cli.options import Options
from dorkos.cli.target import data_directory
from dorkos.errors import DorkError, ErrorCode

if TYPE_CHECKING:
    from dorkos.home import Home

DatabaseOption = Annotated[
    str | None, typer.Option(metavar="URL", help="PostgreSQL URL; else as the settings say.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """The database that is meant: a PostgreSQL URL, or the file in the data directory."""

    home: Home
    url: str | None


def place_of(options: Options, database: str | None) -> Place:
    """The database that `--database` names, else the one that the settings name.

    Raises `invalid_setting` for a URL that is not of PostgreSQL.
    """
    from dorkos.db.engine import is_postgres, not_postgres
    from dorkos.home import Home
    from dorkos.settings import load_settings

    home = Home(data_directory(options, os.environ))
    settings = load_settings(home.config_path, environment=os.environ, flags={"database.url": database})
    url = settings.values.database.url
    if url is not None and not is_postgres(url):
        raise not_postgres(url)
    return Place(home, url)


def file_named(text: str) -> Path:
    """The file that an argument names, as an absolute path. Raises `usage` for one that names none."""
    if not text.strip():
        raise DorkError(ErrorCode.USAGE, "FILE is empty.", hint="Is a shell variable unset?")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as fault:
        raise DorkError(ErrorCode.USAGE, f"{text!r}: {fault}", hint="Write the file out in full.") from fault


def only_sqlite(message: str, hint: str) -> DorkError:
    """The refusal of a command that works on files."""
    return DorkError(ErrorCode.USAGE, f"{message} Nothing was changed.", hint=hint)
