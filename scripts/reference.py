"""Writes the reference pages of docs/reference from the code. Run it as `make docs`.

What the code knows is never typed a second time: settings, error codes, event kinds, operations and
commands each have one table in the code, and the page is that table in words. A test compares the pages
on disk with what this file would write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from dorkos.cli.main import app
from dorkos.errors import ERRORS
from dorkos.events import EVENT_KINDS
from dorkos.operation import Operation
from dorkos.server.operations import OPERATIONS
from dorkos.settings import SETTINGS, Settings

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"

# Typer's own options of the top command.
_COMPLETION = ("install_completion", "show_completion")

Schema = Mapping[str, Any]


def settings_page() -> str:
    """Every setting with its key in config.json, its environment variable, its default and its bounds."""
    schema = Settings.model_json_schema()
    rows = []
    for row in SETTINGS:
        section, name = row.key.split(".", 1)
        field = _properties(_properties(schema)[section], schema)[name]
        rows.append(
            (f"`{row.key}`", f"`{row.env}`", _code(row.default), _allowed(field, schema), row.meaning)
        )
    return _page(
        "Settings",
        "A flag on the command line wins over the environment, which wins over `config.json` in the data "
        "directory, which wins over the default. A key such as `server.port` stands in the file as "
        '`{"server": {"port": 4242}}`. The data directory itself is `--home`, else `DORK_HOME`, '
        "else `~/.dork`.",
        _table(("Key", "Environment", "Default", "Allowed", "Meaning"), rows),
    )


def errors_page() -> str:
    """Every error code with its HTTP status and exit code."""
    rows = [
        (f"`{code.value}`", str(row.http_status), str(row.exit_code), row.meaning)
        for code, row in ERRORS.items()
    ]
    return _page(
        "Error codes",
        "Every refusal is a JSON object `{error, code, details?, hint?}`; `code` is one of these, and a code "
        "never changes its meaning. The exit code groups them by what a script does next: 2 mend the call, "
        "3 it does not exist, 4 somebody else holds or changed it, 5 get other credentials, 6 start or free "
        "something, 7 look at the database, 70 report a fault.",
        _table(("Code", "HTTP status", "Exit code", "Meaning"), rows),
    )


def events_page() -> str:
    """Every kind of event, by topic."""
    topics: dict[str, list[tuple[str, str]]] = {}
    for kind, meaning in EVENT_KINDS.items():
        topics.setdefault(kind.split(".", 1)[0], []).append((f"`{kind}`", meaning))
    return _page(
        "Events",
        "An event is committed together with the change it tells of. `/api/events` streams them in order; "
        "the part of the kind before the first dot is its topic.",
        *(f"## {topic}\n\n{_table(('Kind', 'Meaning'), rows)}" for topic, rows in topics.items()),
    )


def api_page() -> str:
    """Every operation with its address, its scope and its input."""
    parts: dict[str, list[Operation[Any, Any, Any]]] = {}
    for operation in OPERATIONS:
        parts.setdefault(operation.name.split(".", 1)[0], []).append(operation)
    return _page(
        "Operations",
        "All addresses stand under `/api`. Every answer is JSON. Send the token as `Authorization: Bearer`; "
        "the scope says which tokens an operation takes, and the operator's token is taken by all.",
        *(f"## {part}\n\n" + "\n\n".join(map(_operation, members)) for part, members in parts.items()),
    )


def cli_page() -> str:
    """Every command with its arguments and options, as `--help` shows them."""
    return _page(
        "Commands",
        "Every command takes `--help`. Exit codes are explained in [errors](errors.md).",
        *_commands(typer.main.get_command(app), ("dorkos",)),
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "events.md": events_page,
    "api.md": api_page,
    "cli.md": cli_page,
}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}")


def _operation(operation: Operation[Any, Any, Any]) -> str:
    model: type[BaseModel] = operation.input
    schema = model.model_json_schema()
    required = schema.get("required", ())
    rows = [
        (
            f"`{name}`",
            "yes" if name in required else "",
            _code(field["default"]) if field.get("default") is not None else "",
            _allowed(field, schema),
            field.get("description", ""),
        )
        for name, field in _properties(schema, schema).items()
    ]
    heading = (
        f"### {operation.name}\n\n`{operation.method} {operation.path}` · scope `{operation.scope.value}` · "
        f"answers {operation.status}\n\n{operation.summary}"
    )
    if not rows:
        return heading
    return f"{heading}\n\n{_table(('Field', 'Required', 'Default', 'Allowed', 'Meaning'), rows)}"


def _commands(command: Any, path: tuple[str, ...]) -> Iterable[str]:
    """The sections of a command and of all below it, in the order of `--help`."""
    if command.hidden:
        return
    context = typer.Context(command, info_name=path[-1])
    members = getattr(command, "commands", {})
    heading = f"{'##' if members else '###'} `{' '.join((*path, *command.collect_usage_pieces(context)))}`"
    parts = [heading, (command.help or "").split("\f")[0].strip()]
    rows = [
        (f"`{record[0]}`", record[1])
        for parameter in command.params
        if (record := parameter.get_help_record(context)) and parameter.name not in _COMPLETION
    ]
    if rows:
        parts.append(_table(("Parameter", "Meaning"), rows))
    yield "\n\n".join(parts)
    for name, member in members.items():
        yield from _commands(member, (*path, name))


def _properties(schema: Schema, root: Schema | None = None) -> Schema:
    found: Schema = _resolve(schema, root or schema).get("properties", {})
    return found


def _resolve(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target: Schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return target


def _allowed(field: Schema, root: Schema) -> str:
    """The type and bounds of a field in words: `1 to 100`, `text, at most 200 characters`."""
    field = _resolve(field, root)
    if "anyOf" in field:
        return " or ".join(_allowed(option, root) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    word = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "object": "object",
        "null": "null",
    }.get(field.get("type", ""), "any JSON value")
    if field.get("type") == "array":
        word = f"list of {_allowed(field.get('items', {}), root)}"
    word = {"path": "path", "date-time": "instant in ISO 8601"}.get(field.get("format", ""), word)
    return ", ".join((word, *_bounds(field)))


def _bounds(field: Schema) -> Iterable[str]:
    if "minimum" in field and "maximum" in field:
        yield f"{field['minimum']} to {field['maximum']}"
    elif "minimum" in field:
        yield f"at least {field['minimum']}"
    elif "maximum" in field:
        yield f"at most {field['maximum']}"
    if field.get("minLength"):
        yield "not empty" if field["minLength"] == 1 else f"at least {field['minLength']} characters"
    if "maxLength" in field:
        yield f"at most {field['maxLength']} characters"
    if "maxItems" in field:
        yield f"at most {field['maxItems']} of them"
    if "pattern" in field:
        yield f"matching `{field['pattern']}`"


def _code(value: object) -> str:
    if value is None or value == []:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _NOTICE, *parts)) + "\n"


if __name__ == "__main__":
    main()
