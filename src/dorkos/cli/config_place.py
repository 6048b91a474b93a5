"""Settings through the server where one runs, else through the file itself: the same answers either way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dorkos.cli.connection import connect
from dorkos.cli.options import Options
from dorkos.cli.target import data_directory, recorded_url
from dorkos.errors import DorkError, ErrorCode

T = TypeVar("T")

_SETTINGS = "/api/config/settings"
_CONFIG = "/api/config"


def config_path(options: Options) -> Path:
    """The settings file of the data directory, whether or not there is one."""
    return data_directory(options, os.environ) / "config.toml"


def settings_list(options: Options) -> Any:
    """Every setting with its value and source."""
    return _either(options, lambda: _ask(options, "GET", _SETTINGS), lambda: _listed_here(options))


def change_config(options: Options, edits: Mapping[str, object]) -> Any:
    """Give settings these values by their dotted keys, None to take one out. The answer says what changed."""
    return _either(
        options,
        lambda: _ask(options, "PATCH", _CONFIG, _nested(edits)),
        lambda: _changed_here(options, edits),
    )


def refuse_in_run(what: str) -> None:
    """Raise `forbidden` inside a run: what an agent may not do through the server it may not do beside it."""
    if os.environ.get("DORKOS_RUN_ID"):
        raise DorkError(
            ErrorCode.FORBIDDEN,
            f"A run may not {what}.",
            hint="Settings are for whoever runs the server. Ask the operator.",
        )


def _either(options: Options, there: Callable[[], T], here: Callable[[], T]) -> T:
    """The server's answer, or this process's where none runs and none was named."""
    named = bool(options.url or os.environ.get("DORKOS_URL") or os.environ.get("DORKOS_RUN_ID"))
    if named:
        return there()
    if recorded_url(data_directory(options, os.environ)) is not None:
        try:
            return there()
        except DorkError as refusal:
            # The address may be left over from a server that was killed.
            if refusal.code is not ErrorCode.NOT_RUNNING:
                raise
    return here()


def _ask(options: Options, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    with connect(options) as client:
        return client.get(path) if method == "GET" else client.patch(path, body or {})


def _listed_here(options: Options) -> Any:
    from dorkos.config_view import rows
    from dorkos.settings import load_settings

    loaded = load_settings(config_path(options), environment=os.environ)
    return rows(loaded, loaded)


def _changed_here(options: Options, edits: Mapping[str, object]) -> Any:
    from dorkos.config_change import change_settings
    from dorkos.config_view import document_of
    from dorkos.home import Home
    from dorkos.settings import load_settings

    path = config_path(options)
    Home(path.parent).prepare()
    done = change_settings(path, edits, environment=os.environ)
    answer: dict[str, Any] = {
        "success": True,
        "config": document_of(load_settings(path, environment={}).values),
        "changed": list(done.changed),
        "restartNeeded": [],
    }
    return {**answer, "warnings": list(done.remarks)} if done.remarks else answer


def _nested(edits: Mapping[str, object]) -> dict[str, object]:
    nested: dict[str, Any] = {}
    for key, value in edits.items():
        section, dot, name = key.partition(".")
        if dot:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return nested
