"""The settings of a running server: those it works with, those its next start would find, and changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dorkos.boundary import Boundary
from dorkos.config_change import Change, change_settings
from dorkos.config_view import document_of, rows, shown
from dorkos.logs import set_level
from dorkos.settings import SETTING_BY_KEY, SETTINGS, LoadedSettings, Settings, load_settings, value_of

# What a change does at once. Each of these settings is marked as live.
_AT_ONCE: Mapping[str, Callable[[Settings], None]] = {
    "logging.level": lambda settings: set_level(settings.logging.level)
}


@dataclass(frozen=True, slots=True)
class Done:
    """A change, and the keys of it that hold from the next start."""

    change: Change
    waiting: tuple[str, ...]


class Configuration:
    """Reads and changes the settings of one server. The file is read anew each time."""

    def __init__(
        self,
        path: Path,
        running: LoadedSettings,
        *,
        boundary: Boundary,
        url: Callable[[], str | None],
        uptime_s: Callable[[], float],
    ) -> None:
        """`running` is what the server was started with; `url` tells where it listens, if it does."""
        self.running = running
        self.boundary = boundary
        self.url = url
        self.uptime_s = uptime_s
        self._path = path

    @property
    def workplace(self) -> Path:
        """The working directory of the server, or the boundary where it is outside of it."""
        here = Path.cwd()
        return here if here.is_relative_to(self.boundary.root) else self.boundary.root

    async def rows(self) -> list[dict[str, object]]:
        """Every setting, in the order of the reference. Raises `invalid_setting` for an unreadable file."""
        return rows(self.running, await asyncio.to_thread(self._coming))

    async def document(self) -> dict[str, dict[str, object]]:
        """The settings as the file has them over the defaults, nested, secrets hidden."""
        loaded = await asyncio.to_thread(load_settings, self._path, environment={})
        return document_of(loaded.values)

    async def change(self, edits: Mapping[str, object]) -> Done:
        """Write these values into the file; see `change_settings`. What is live holds from now on."""
        done = await asyncio.to_thread(
            change_settings, self._path, edits, environment=os.environ, flags=self.running.flags
        )
        self._take(done.coming, done.changed)
        now = {one.row.key: one.value for one in shown(self.running)}
        then = {one.row.key: one.value for one in shown(done.coming)}
        return Done(done, tuple(key for key in done.changed if now[key] != then[key]))

    def _coming(self) -> LoadedSettings:
        return load_settings(self._path, environment=os.environ, flags=self.running.flags)

    def _take(self, coming: LoadedSettings, changed: tuple[str, ...]) -> None:
        live = [key for key in changed if SETTING_BY_KEY[key].live]
        if not live:
            return
        values = self.running.values.model_dump(by_alias=True)
        for key in live:
            section, name = key.split(".", 1)
            values[section][name] = value_of(coming.values, key)
        sources = {**self.running.sources, **{key: coming.sources[key] for key in live}}
        self.running = LoadedSettings(Settings.model_validate(values), sources, self.running.flags)
        for key in live:
            _AT_ONCE[key](self.running.values)


assert set(_AT_ONCE) == {row.key for row in SETTINGS if row.live}
