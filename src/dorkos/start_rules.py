"""What a start is refused for though every setting has the right type: told before, by whoever sets one."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Mapping
from pathlib import Path

from dorkos.errors import DorkError
from dorkos.exposure import check_exposure
from dorkos.settings import Settings, value_of

_POSTGRESQL = ("postgresql", "postgres")


def problem_of(key: str, value: object) -> str | None:
    """Why no server would start with this value of a setting, as JSON has it; None if one would."""
    rule = _RULES.get(key)
    return None if rule is None or value is None else rule(value)


def start_problems(settings: Settings) -> dict[str, str]:
    """For each key that keeps a server from starting with these settings, why."""
    found = {key: problem_of(key, value_of(settings, key)) for key in _RULES}
    problems = {key: problem for key, problem in found.items() if problem is not None}
    try:
        check_exposure(settings.server)
    except DorkError as refusal:
        problems["server.host"] = f"{refusal.message} {refusal.hint}"
    return problems


def _zone_problem(value: object) -> str | None:
    known = {name.lower() for name in zoneinfo.available_timezones()}
    return None if str(value).lower() in known else f"{value!r} is not an IANA time zone"


def _folder_problem(value: object) -> str | None:
    path = Path(str(value)).expanduser()
    if not path.is_absolute():
        return "the path must be absolute: a service has another working directory"
    return None if path.is_dir() else f"there is no directory {path}"


def _url_problem(value: object) -> str | None:
    # The value is not repeated: it may hold a password.
    scheme, mark, _ = str(value).partition("://")
    if mark and scheme.split("+", 1)[0] in _POSTGRESQL:
        return None
    return "it is no URL of a PostgreSQL database, such as postgresql://user@host/name"


_RULES: Mapping[str, Callable[[object], str | None]] = {
    "scheduler.timezone": _zone_problem,
    "server.boundary": _folder_problem,
    "database.url": _url_problem,
}
