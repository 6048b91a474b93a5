"""The options that every command takes, before or after its name: --json, --home, --url and --token."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from dorkos.errors import DorkError, ErrorCode


@dataclass(slots=True)
class Options:
    """What the person asked of every command. None means: not given on the command line."""

    home: str | None = None
    url: str | None = None
    token: str | None = None
    json: bool = False


def options_of(context: typer.Context) -> Options:
    """The options of this call; `main` makes them and hands them to the outermost command."""
    found = context.obj
    assert isinstance(found, Options)
    return found


def _remember(context: typer.Context, parameter: typer.CallbackParam, value: object) -> None:
    # The same option may stand before and after the command's name: the one that was given wins over
    # the one that was not, and of two given ones the inner, which is parsed later.
    if value and parameter.name is not None:
        setattr(context.obj, parameter.name, value)


def _given(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> None:
    if value is None:
        return
    if not value.strip():
        raise typer.BadParameter("it must not be empty.", ctx=context, param_hint=f"--{parameter.name}")
    _remember(context, parameter, value)


JsonOption = Annotated[
    bool,
    typer.Option("--json", callback=_remember, expose_value=False, help="Answer in JSON."),
]
HomeOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        callback=_given,
        expose_value=False,
        help="Data directory; else DORK_HOME, else ~/.dork.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        callback=_given,
        expose_value=False,
        help="Address of the server; else DORKOS_URL, else the server of the data directory.",
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        callback=_given,
        expose_value=False,
        help="Token to show the server; else DORKOS_TOKEN, else the operator's in the data directory.",
    ),
]
# The same three below a command: they work there too, but its help is about the command.
_InnerHome = Annotated[str | None, typer.Option("--home", callback=_given, expose_value=False, hidden=True)]
_InnerUrl = Annotated[str | None, typer.Option("--url", callback=_given, expose_value=False, hidden=True)]
_InnerToken = Annotated[str | None, typer.Option("--token", callback=_given, expose_value=False, hidden=True)]

_template = typer.Typer(add_completion=False)


@_template.command()
def _shared(
    json: JsonOption = False, home: _InnerHome = None, url: _InnerUrl = None, token: _InnerToken = None
) -> None:
    """Only the parameters of this command are used: each `Command` gets them."""


_SHARED = typer.main.get_command(_template).params
_HIDDEN: list[Any] = [copy.copy(parameter) for parameter in _SHARED]
for _parameter in _HIDDEN:
    _parameter.hidden = True


def _plain(parameters: Sequence[Any]) -> list[Any]:
    """The parameters, flags without the `<bool>` that the help would print beside each."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return list(parameters)


class Command(typer.core.TyperCommand):
    """A command that also takes the shared options. Every command of ours is declared with it."""

    def __init__(self, name: str | None, *, params: Sequence[Any], **settings: Any) -> None:
        """The settings are those of Typer, which makes the command."""
        super().__init__(name, params=_plain([*params, *_SHARED]), **settings)


class Noun(typer.core.TyperGroup):
    """A group of commands about one thing. The shared options may stand right after it, too."""

    def __init__(self, *, params: Sequence[Any], **settings: Any) -> None:
        """The settings are those of Typer, which makes the group."""
        super().__init__(params=_plain([*params, *_HIDDEN]), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer does, but with --json a noun without a verb is answered by JSON, not by the help."""
        _refuse_silence(self, ctx, args)
        return super().parse_args(ctx, args)


class Top(typer.core.TyperGroup):
    """The `dorkos` command itself."""

    def __init__(self, *, params: Sequence[Any], **settings: Any) -> None:
        """The settings are those of Typer, which makes the group."""
        super().__init__(params=_plain(params), **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As Typer does; see `Noun`."""
        _refuse_silence(self, ctx, [word for word in args if word != "--json"])
        return super().parse_args(ctx, args)


def _refuse_silence(group: typer.core.TyperGroup, ctx: Any, args: list[str]) -> None:
    # A shell that asks what could come next reads the words without anybody's options.
    if args or not group.no_args_is_help or ctx.resilient_parsing or not options_of(ctx).json:
        return
    commands = group.list_commands(ctx)
    raise DorkError(
        ErrorCode.USAGE,
        f"{ctx.command_path} needs a command.",
        hint=f"One of {', '.join(commands)}; `{ctx.command_path} --help` says what each does.",
        details={"commands": commands},
    )
