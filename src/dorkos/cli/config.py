"""`dorkos config`: the settings, each with where it comes from."""

from __future__ import annotations

import functools
from typing import Annotated

import typer

from dorkos.cli import config_text
from dorkos.cli.config_place import change_config, config_path, settings_list
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import say, show
from dorkos.errors import DorkError, ErrorCode

app = typer.Typer(cls=Noun, invoke_without_command=True)
command = functools.partial(app.command, cls=Command)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as server.port.")]


@app.callback()
def config(context: typer.Context) -> None:
    """The settings: what holds, where it comes from, and changes.

    Alone it lists them. A flag wins over the environment, which wins over `config.toml`
    in the data directory, which wins over what DorkOS for Node left in `config.json`.

    Example:

        dorkos config
        dorkos config set scheduler.timezone Europe/Berlin
    """
    if context.invoked_subcommand is None:
        list_settings(context)


@command("list")
def list_settings(context: typer.Context) -> None:
    """Show every setting with its value and where that comes from. A secret is shown as [redacted].

    Example:

        dorkos config list
    """
    options = options_of(context)
    show(options, settings_list(options), config_text.settings)


@command("get")
def get(context: typer.Context, key: KeyArgument) -> None:
    """Print the value of one setting, and nothing else; an empty line if it has none.

    Example:

        dorkos config get server.port
    """
    options = options_of(context)
    found = next((row for row in settings_list(options) if row["key"] == key), None)
    if found is None:
        from dorkos.config_view import no_setting

        raise DorkError(
            ErrorCode.NOT_FOUND, f"{key}: {no_setting(key)}", hint="`dorkos config list` shows all."
        )
    show(options, found, lambda row: say(config_text.value_of(row["value"])))


@command("set")
def set_value(
    context: typer.Context,
    key: KeyArgument,
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="Several for a list.")],
) -> None:
    """Write a setting into config.toml. `null` takes it out, so that its default holds again.

    Most settings hold from the next start of the server; the answer says which.

    Example:

        dorkos config set server.port 4243
        dorkos config set mesh.scanRoots ~/work ~/play
    """
    options = options_of(context)
    value: object = None if values == ["null"] else _as_typed(key, values)
    show(options, change_config(options, {key: value}), config_text.changed)


@command("unset")
def unset(
    context: typer.Context,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Settings, such as server.port.")],
) -> None:
    """Take settings out of config.toml, so that their defaults hold again.

    Example:

        dorkos config unset server.port
    """
    options = options_of(context)
    show(options, change_config(options, dict.fromkeys(keys)), config_text.changed)


@command("path")
def path(context: typer.Context) -> None:
    """Print where the settings file is, whether or not there is one.

    Example:

        dorkos config path
    """
    options = options_of(context)
    place = config_path(options)
    show(options, {"path": str(place), "exists": place.exists()}, lambda answer: say(answer["path"]))


def _as_typed(key: str, values: list[str]) -> object:
    from dorkos.settings import SETTING_BY_KEY

    row = SETTING_BY_KEY.get(key)
    if row is not None and isinstance(row.default, list):
        return values
    if len(values) > 1:
        raise DorkError(
            ErrorCode.USAGE,
            f"{key} takes one value, and {len(values)} were given.",
            hint="Put quotes around a value with spaces in it.",
        )
    return values[0]
