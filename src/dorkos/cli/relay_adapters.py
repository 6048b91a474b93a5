"""`dorkos relay adapters`: connections to the outside."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer

from dorkos.cli.connection import address, connect
from dorkos.cli.options import Command, Noun, options_of
from dorkos.cli.render import Column, notice, print_json, print_table, say, show
from dorkos.cli.typed import json_value, text_or_stdin
from dorkos.errors import DorkError, ErrorCode

_ADAPTERS = "/api/relay/adapters"

app = typer.Typer(cls=Noun, invoke_without_command=True)
command = functools.partial(app.command, cls=Command)

AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="Id of the adapter.")]
SettingArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SETTING=VALUE]...",
        help="Settings such as outbound.url=https://… or chats=[123]; `-` reads the value from stdin.",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--json-config", metavar="JSON", help="The settings as a JSON object; `-` reads it."),
]


@app.callback()
def adapters(context: typer.Context) -> None:
    """Show the adapters: webhooks, chats and folders, and how each is doing.

    Example:

        dorkos relay adapters
    """
    if context.invoked_subcommand is None:
        _show(context)


@command("list")
def list_adapters(context: typer.Context) -> None:
    """Show the adapters and how each is doing.

    Example:

        dorkos relay adapters list
    """
    _show(context)


@command("show")
def show_adapter(context: typer.Context, adapter: AdapterArgument) -> None:
    """Show one adapter with its settings. Secrets are never shown.

    Example:

        dorkos relay adapters show build-hook
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(address(_ADAPTERS, adapter)), _tell_one)


@command("add")
def add(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="An id of your choice: a-z, 0-9 and -.")],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="webhook, telegram, maildir or agent.")],
    settings: SettingArguments = None,
    *,
    json_config: ConfigOption = None,
    off: Annotated[bool, typer.Option("--off", help="Do not start it yet.")] = False,
) -> None:
    """Add an adapter. It starts at once, in the background.

    Give secrets as env:NAME or file:PATH, or let `-` read one, so that none is
    left in your shell's history.

    Examples:

        dorkos relay adapters add hook webhook outbound.url=https://example.com/ outbound.secret=env:HOOK
        dorkos relay adapters add drop maildir
    """
    options = options_of(context)
    body = {"id": adapter, "type": kind, "config": _config(settings, json_config), "enabled": not off}
    with connect(options) as client:
        show(options, client.post(_ADAPTERS, body), _told_added)


@command("set")
def set_settings(
    context: typer.Context,
    adapter: AdapterArgument,
    settings: SettingArguments = None,
    *,
    json_config: ConfigOption = None,
) -> None:
    """Change settings of an adapter, which starts anew. SETTING=null takes one away.

    Example:

        dorkos relay adapters set build-hook outbound.timeoutSeconds=20
    """
    options = options_of(context)
    body: dict[str, object] = {"config": _config(settings, json_config)}
    with connect(options) as client:
        show(options, client.patch(address(_ADAPTERS, adapter), body), _tell_one)


@command("remove")
def remove(context: typer.Context, adapter: AdapterArgument) -> None:
    """Remove an adapter; what waits in its mailbox becomes dead letters.

    Example:

        dorkos relay adapters remove build-hook
    """
    options = options_of(context)
    with connect(options) as client:
        show(options, client.delete(address(_ADAPTERS, adapter)), lambda _: say(f"Removed {adapter}."))


@command("enable")
def enable(context: typer.Context, adapter: AdapterArgument) -> None:
    """Switch an adapter on, or try again one that had failed.

    Example:

        dorkos relay adapters enable build-hook
    """
    _post(context, adapter, "enable", f"{adapter} is on. `dorkos relay adapters` shows how it does.")


@command("disable")
def disable(context: typer.Context, adapter: AdapterArgument) -> None:
    """Switch an adapter off; what waits in its mailbox goes on waiting.

    Example:

        dorkos relay adapters disable build-hook
    """
    _post(context, adapter, "disable", f"{adapter} is off.")


@command("reload")
def reload(context: typer.Context) -> None:
    """Start every adapter anew that is switched on.

    Example:

        dorkos relay adapters reload
    """
    options = options_of(context)
    with connect(options) as client:
        answer = client.post(f"{_ADAPTERS}/reload", {})
        show(options, answer, lambda done: say(f"Started anew: {done['adapterCount']}."))


@command("test")
def test(context: typer.Context, adapter: AdapterArgument) -> None:
    """Try an adapter once and say what came of it; the exit code is 1 if it failed.

    A webhook gets a signed request with the body {"type": "dorkos.test"}.

    Example:

        dorkos relay adapters test build-hook
    """
    options = options_of(context)
    with connect(options) as client:
        trial = client.post(address(_ADAPTERS, adapter, "test"), {}, wait_s=20)
    show(options, trial, lambda said: say(said["detail"], "green" if said["ok"] else "red"))
    if not trial["ok"]:
        raise typer.Exit(1)


def _config(settings: list[str] | None, json_config: str | None) -> dict[str, Any]:
    """The settings as an object, from `a.b=value` and from JSON; the single ones win."""
    config: dict[str, Any] = {}
    if json_config is not None:
        config = json_value(text_or_stdin(json_config))
        if not isinstance(config, dict):
            raise DorkError(ErrorCode.USAGE, "--json-config is no JSON object.", hint='Give {"name": …}.')
    for setting in settings or []:
        name, sign, text = setting.partition("=")
        if not sign or not all(name.split(".")):
            raise DorkError(
                ErrorCode.USAGE, f"{setting!r} is not SETTING=VALUE.", hint="Write outbound.url=https://…"
            )
        _put(config, name.split("."), _value(text))
    return config


def _put(config: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        inner = config.get(part)
        config[part] = inner if isinstance(inner, dict) else {}
        config = config[part]
    config[path[-1]] = value


def _value(text: str) -> object:
    """What was typed: JSON where it can be nothing else, else the text."""
    if text == "-":
        return text_or_stdin(text).strip()
    if text in ("true", "false", "null") or text[:1] in ("[", "{") or text.lstrip("-").isdecimal():
        return json_value(text)
    return text


def _post(context: typer.Context, adapter: str, verb: str, sentence: str) -> None:
    options = options_of(context)
    with connect(options) as client:
        show(options, client.post(address(_ADAPTERS, adapter, verb), {}), lambda _: say(sentence))


def _show(context: typer.Context) -> None:
    options = options_of(context)
    with connect(options) as client:
        show(options, client.get(_ADAPTERS), _tell)


def _tell(rows: Any) -> None:
    columns = (
        Column("ADAPTER", lambda row: row["config"]["id"]),
        Column("TYPE", lambda row: row["config"]["type"]),
        Column("STATE", _state, state=True),
        Column("IN", lambda row: str(row["status"]["messageCount"]["inbound"]), right=True),
        Column("OUT", lambda row: str(row["status"]["messageCount"]["outbound"]), right=True),
        Column("ERRORS", lambda row: str(row["status"]["errorCount"]), right=True),
        Column("LAST ERROR", lambda row: row["status"].get("lastError"), shrinks=True),
    )
    empty = "No adapters. Add one: dorkos relay adapters add ADAPTER TYPE SETTING=VALUE..."
    print_table(rows, columns, empty=empty)


def _state(row: Any) -> str:
    return str(row["status"]["state"]) if row["config"]["enabled"] else "off"


def _tell_one(row: Any) -> None:
    status = row["status"]
    say(f"{status['displayName']}  {_state(row)}", "bold")
    for words, value in (
        ("address", status.get("mailbox")),
        ("in", status["messageCount"]["inbound"]),
        ("out", status["messageCount"]["outbound"]),
        ("errors", status["errorCount"]),
        ("last error", status.get("lastError")),
    ):
        if value is not None:
            say(f"  {words}: {value}")
    say("  settings:")
    print_json(row["config"]["config"])


def _told_added(row: Any) -> None:
    _tell_one(row)
    if row["config"]["enabled"]:
        notice("It starts in the background: `dorkos relay adapters` shows how it does.")
