"""Typed settings. Precedence: flag, then environment, then `config.toml`, then the `config.json` of DorkOS
for Node, then default.

One function decides for every setting, and says which source won, so that "off" in the environment is
as good as "on". Keys unknown to this version are kept in the file and ignored; a file that cannot be
read is a refusal, never a reason to start with defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from dorkos.config_file import read_layers
from dorkos.errors import DorkError, ErrorCode
from dorkos.setting_groups.database import BackupSettings, DatabaseSettings
from dorkos.setting_groups.events import EventsSettings
from dorkos.setting_groups.group import Group
from dorkos.setting_groups.logs import LoggingSettings
from dorkos.setting_groups.mesh import MeshSettings
from dorkos.setting_groups.pulse import SchedulerSettings
from dorkos.setting_groups.relay import RelaySettings
from dorkos.setting_groups.runtimes import RuntimeSettings
from dorkos.setting_groups.server import ServerSettings

_HOME = ".dork"


class Settings(Group):
    """All settings of one process, immutable."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    backups: BackupSettings = BackupSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    relay: RelaySettings = RelaySettings()
    runtimes: RuntimeSettings = RuntimeSettings()
    mesh: MeshSettings = MeshSettings()
    events: EventsSettings = EventsSettings()
    logging: LoggingSettings = LoggingSettings()


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as documentation and `dorkos config` show it."""

    key: str
    env: str
    default: object
    meaning: str
    secret: bool = False
    live: bool = False
    separator: str = os.pathsep


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings together with where each value came from: flag, environment, file or default.

    `flags` are those that were given by hand; they hold as long as the process does.
    """

    values: Settings
    sources: Mapping[str, str]
    flags: Mapping[str, object] = field(default_factory=dict)


def given(values: Settings) -> LoadedSettings:
    """Settings that a program made: every one of them as if by a flag."""
    flags = {row.key: value_of(values, row.key) for row in SETTINGS}
    return LoadedSettings(values, dict.fromkeys(flags, "flag"), flags)


def _rows() -> tuple[SettingRow, ...]:
    rows = []
    for section_name, section in Settings.model_fields.items():
        model = section.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, entry in model.model_fields.items():
            extra = entry.json_schema_extra
            assert isinstance(extra, dict)
            rows.append(
                SettingRow(
                    f"{section_name}.{to_camel(name)}",
                    str(extra["env"]),
                    entry.default,
                    str(entry.description),
                    secret=bool(extra["secret"]),
                    live=bool(extra["live"]),
                    separator=str(extra["separator"]),
                )
            )
    return tuple(rows)


SETTINGS = _rows()
SETTING_BY_KEY: Mapping[str, SettingRow] = {row.key: row for row in SETTINGS}


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """The data directory: `DORK_HOME`, else `~/.dork`. The one place that decides it."""
    named = environment.get("DORK_HOME")
    return Path(named).expanduser() if named else Path.home() / _HOME


def load_settings(
    config_path: Path,
    *,
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """Read the settings. `config_path` is `config.toml`, beside which the lineage's `config.json` may lie.

    `flags` maps dotted keys such as `server.port` to values given by hand. Raises `invalid_setting`, naming
    the setting, its source and the rule it breaks.
    """
    layers: list[tuple[str, Mapping[str, object]]] = [
        *((layer.name, layer.values) for layer in read_layers(config_path)),
        ("environment", _from_environment(environment)),
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None}),
    ]
    values: dict[str, object] = {}
    sources = {row.key: "default" for row in SETTINGS}
    for source, layer in layers:
        for key, value in layer.items():
            if key in Settings.model_fields:
                raise _no_table(key, source)
            if key in SETTING_BY_KEY:
                values[key] = value
                sources[key] = source
    try:
        return LoadedSettings(_validated(values), sources, dict(layers[-1][1]))
    except ValidationError as fault:
        key, message = next(iter(_by_key(fault).items()))
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"{_shown(key, values.get(key))} (from {sources.get(key, 'default')}): {message}.",
            hint="See docs/reference/settings.md for the values that are allowed.",
            details={"setting": key, "source": sources.get(key, "default")},
        ) from fault


def _no_table(section: str, source: str) -> DorkError:
    # Passed over, the settings that somebody meant to make there would silently have their defaults.
    return DorkError(
        ErrorCode.INVALID_SETTING,
        f"{section} (from {source}) is a plain value, and must be a table of settings.",
        hint=f"Write the settings under [{section}]; `dorkos config list` shows those that there are.",
        details={"setting": section, "source": source},
    )


def settings_of(values: Mapping[str, object]) -> Settings:
    """The settings with these values by their dotted keys, and defaults for the others.

    Raises `invalid_setting`, whose details give a message for each key that breaks a rule.
    """
    try:
        return _validated(values)
    except ValidationError as fault:
        problems = _by_key(fault)
        key, message = next(iter(problems.items()))
        raise DorkError(
            ErrorCode.INVALID_SETTING,
            f"{_shown(key, values.get(key))}: {message}.",
            hint="See docs/reference/settings.md for the values that are allowed.",
            details=problems,
        ) from fault


def value_of(settings: Settings, key: str) -> object:
    """The value of a setting as JSON has it, by its dotted key."""
    section, name = key.split(".", 1)
    value: object = settings.model_dump(mode="json", by_alias=True)[section][name]
    return value


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for row in SETTINGS:
        text = environment.get(row.env)
        if text is None or text == "":
            continue
        found[row.key] = text.split(row.separator) if isinstance(row.default, list) else text
    return found


def _validated(values: Mapping[str, object]) -> Settings:
    nested: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        section, name = key.split(".", 1)
        nested.setdefault(section, {})[name] = value
    return Settings.model_validate(nested)


def _by_key(fault: ValidationError) -> dict[str, str]:
    """For each key the first rule that it breaks."""
    problems: dict[str, str] = {}
    for problem in fault.errors(include_url=False, include_context=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"][:2])
        problems.setdefault(key, problem["msg"].removeprefix("Value error, "))
    return problems


def _shown(key: str, value: object) -> str:
    """The setting with its value, unless a password may stand in it."""
    return key if SETTING_BY_KEY[key].secret else f"{key} = {value!r}"
