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
from dorkos.events import AUDIT_KINDS, EVENT_KINDS
from dorkos.mesh.manifest import ManifestDocument
from dorkos.mesh.manifest_schema import PUBLISHED, schema_text
from dorkos.operation import NoTool, Operation
from dorkos.server.mcp.tools import Tool, tools_of
from dorkos.server.operations import OPERATIONS
from dorkos.server.paths import OTHER_PATHS
from dorkos.settings import SETTINGS, Settings

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
_NOTICE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->"

_CONNECT = """```sh
claude mcp add --transport http dorkos http://127.0.0.1:4242/mcp \\
    --header "Authorization: Bearer $(cat ~/.dork/token)"
```

```json
{"mcpServers": {"dorkos": {"command": "dorkos", "args": ["mcp"]}}}
```"""

# Typer's own options of the top command.
# Levels of fields in fields that are told.
_NESTED_MAX = 3
_COMPLETION = ("install_completion", "show_completion")

Schema = Mapping[str, Any]


def settings_page() -> str:
    """Every setting with its key in config.toml, its environment variable, its default and its bounds."""
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
        "A flag on the command line wins over the environment, which wins over `config.toml` in the data "
        "directory, which wins over a `config.json` that DorkOS for Node left there, which wins over the "
        "default. A key such as `server.port` is `port = 4242` below `[server]` in the file. The data "
        "directory itself is `--home`, else `DORK_HOME`, else `~/.dork`.",
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
    topics: dict[str, list[tuple[str, str, str]]] = {}
    for kind, meaning in EVENT_KINDS.items():
        kept = "audit" if kind in AUDIT_KINDS else "stream"
        topics.setdefault(kind.split(".", 1)[0], []).append((f"`{kind}`", meaning, kept))
    return _page(
        "Events",
        "An event is committed together with the change it tells of. `/api/events` streams them in order; "
        "the part of the kind before the first dot is its topic. Those of the stream are kept for "
        "`events.streamDays`, those of the audit for `events.auditDays`: for ever, unless it is set. Whoever "
        "goes on from a place that is older than what is kept gets `reset`.",
        *(f"## {topic}\n\n{_table(('Kind', 'Meaning', 'Kept as'), rows)}" for topic, rows in topics.items()),
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
        "## Streams, and what is no operation\n\n"
        + "\n\n".join(
            _other(path, method, entry)
            for path, entries in OTHER_PATHS.items()
            for method, entry in entries.items()
        ),
    )


def mcp_page() -> str:
    """How agents connect, and every tool with its scope and its parameters."""
    left_out = [
        (f"`{operation.name}`", operation.mcp.reason)
        for operation in OPERATIONS
        if isinstance(operation.mcp, NoTool)
    ]
    return _page(
        "Tools for agents",
        "Agents reach DorkOS by the Model Context Protocol. A server that is running speaks it at `/mcp` "
        "(Streamable HTTP) to whoever sends a token as `Authorization: Bearer`. Clients that start their "
        "servers themselves start `dorkos mcp`, which sends on what it reads: with `DORKOS_TOKEN` if it is "
        "set, else as the operator; inside a run only as that run. While no server runs it "
        "opens the data directory itself, for one call at a time.",
        _CONNECT,
        "- **Identity** comes from the token of each request and from nowhere else. The list shows the tools "
        "that the token allows; calling another is refused with `forbidden`.\n"
        "- **Answers** are JSON objects, as structured content and as text. A refusal has `isError` and the "
        "text `{error, code, details?, hint?}` with a [code](errors.md); an unknown tool is an error of the "
        "protocol.\n"
        "- **No sessions.** Each request stands by itself, in the revisions of the protocol with a handshake "
        "and in the one without. A restart of the server loses nothing, and there is no stream to open.\n"
        "- **Approval.** A schedule that is created with any token but the operator's waits as "
        "`pending_approval`, needs a `reason`, and never fires before a person has set it to `active`.\n"
        "- **Going away.** A claim that waits is broken off when its client cancels it or closes the "
        "connection, and takes nothing then.",
        *map(_tool, tools_of(OPERATIONS).values()),
        f"## Without a tool\n\n{_table(('Operation', 'Why'), left_out)}",
    )


def cli_page() -> str:
    """Every command with its arguments and options, as `--help` shows them."""
    return _page(
        "Commands",
        "Every command takes `--help`. Exit codes are explained in [errors](errors.md).",
        *_commands(typer.main.get_command(app), ("dorkos",)),
    )


def manifest_page() -> str:
    """Every field of an agent's manifest."""
    schema = ManifestDocument.model_json_schema()
    rows: list[tuple[str, ...]] = []
    for row in _fields(schema):
        name = row[0]
        field = _resolve(_properties(schema)[name.strip("`")], schema)
        rows.append(row)
        if "properties" in field:
            inner = _fields({**field, "$defs": schema["$defs"]})
            rows += [(f"{name[:-1]}.{key[1:]}", *facts) for key, *facts in inner]
    return _page(
        "Manifest",
        "What may stand in `.dork/agent.json` of a project. As JSON Schema: `dorkos mesh schema`, or "
        "`GET /api/mesh/manifest-schema`. A file that breaks a rule is reported with its path and the "
        "reason, and left alone. Fields that are not listed are kept when DorkOS writes the file.",
        _table(("Field", "Required", "Default", "Allowed", "Meaning"), rows),
    )


PAGES: Mapping[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "errors.md": errors_page,
    "events.md": events_page,
    "api.md": api_page,
    "mcp.md": mcp_page,
    "cli.md": cli_page,
    "manifest.md": manifest_page,
}


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}")
    PUBLISHED.write_text(schema_text(), encoding="utf-8")
    print(f"{PUBLISHED.parent.name}/{PUBLISHED.name}")


def _operation(operation: Operation[Any, Any, Any]) -> str:
    model: type[BaseModel] = operation.input
    schema = model.model_json_schema()
    rows = _all_fields(schema, schema)
    heading = (
        f"### {operation.name}\n\n`{operation.method} {operation.path}` · {_scope(operation)} · "
        f"answers {operation.status}\n\n{operation.summary}"
    )
    if not rows:
        return heading
    return f"{heading}\n\n{_table(('Field', 'Required', 'Default', 'Allowed', 'Meaning'), rows)}"


def _tool(tool: Tool) -> str:
    spec = tool.spec
    marks = [
        word
        for word, holds in (
            ("reads only", spec.read_only),
            ("destructive", spec.destructive),
            ("idempotent", spec.idempotent),
            ("reaches outside", spec.open_world),
        )
        if holds
    ]
    facts = " · ".join((f"`{tool.operation.name}`", _scope(tool.operation), *marks))
    section = f"## {tool.name}\n\n{facts}\n\n{spec.description}"
    rows = _all_fields(tool.takes, tool.takes)
    if not rows:
        return section
    return f"{section}\n\n{_table(('Parameter', 'Required', 'Default', 'Allowed', 'Meaning'), rows)}"


def _fields(schema: Schema, root: Schema | None = None) -> list[tuple[str, ...]]:
    """The properties of a schema as rows: name, required, default, allowed, meaning."""
    root = root or schema
    required = schema.get("required", ())
    return [
        (
            f"`{name}`",
            "yes" if name in required else "",
            _code(field["default"]) if field.get("default") is not None else "",
            _allowed(field, root),
            field.get("description", ""),
        )
        for name, field in _properties(schema, root).items()
    ]


def _all_fields(schema: Schema, root: Schema, prefix: str = "") -> list[tuple[str, ...]]:
    """The same with the fields of a field below it, as `budget.maxHops`."""
    rows: list[tuple[str, ...]] = []
    for name, row in zip(_properties(schema, root), _fields(schema, root), strict=True):
        rows.append((f"`{prefix}{name}`", *row[1:]))
        inner = _object_in(_properties(schema, root)[name], root)
        if inner is not None and prefix.count(".") < _NESTED_MAX:
            rows += _all_fields(inner, root, f"{prefix}{name}.")
    return rows


def _object_in(field: Schema, root: Schema) -> Schema | None:
    """The object that a field may be, or that a list of it holds."""
    for option in (field, *field.get("anyOf", ())):
        found = _resolve(option, root)
        found = _resolve(found.get("items", found), root) if found.get("type") == "array" else found
        if found.get("properties"):
            return found
    return None


def _other(path: str, method: str, entry: Schema) -> str:
    """An address that is no operation: a stream, health, the documents themselves."""
    kinds = [kind for answer in entry["responses"].values() for kind in answer.get("content", ())]
    facts = [f"`{method.upper()} {path}`", "no token" if entry.get("security") == [] else "a token"]
    facts += ["Server-Sent Events"] if "text/event-stream" in kinds else []
    rows = [
        (f"`{one['name']}`", one["in"], "yes" if one.get("required") else "", one.get("description", ""))
        for one in entry.get("parameters", ())
    ]
    section = f"### {entry['operationId']}\n\n{' · '.join(facts)}\n\n{entry['summary']}"
    return f"{section}\n\n{_table(('Parameter', 'In', 'Required', 'Meaning'), rows)}" if rows else section


def _scope(operation: Operation[Any, Any, Any]) -> str:
    return "any token" if operation.scope is None else f"scope `{operation.scope.value}`"


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
