"""What went wrong in the lineage does not come back: what the source must not say, import or pass over."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from functools import cache

import pytest

from dorkos import vocabulary
from dorkos.db.drift import declared_sqlite
from dorkos.db.schema.tables import metadata
from dorkos.db.types import Choice, Ulid
from tests.tidy.rules import ROOT

# The source is read once, by one process.
pytestmark = pytest.mark.xdist_group("source")

_SOURCE = ROOT / "src" / "dorkos"
_DRIVERS = {"sqlite3", "pysqlite3", "psycopg", "psycopg_pool", "psycopg2", "aiosqlite", "asyncpg"}

# Texts that the program could run or store, why they are gone, and the only folder that may know them.
_GONE = (
    (r"\bjulianday\b", "whole seconds and floats told quick deliveries as zero", ""),
    (r"\buser_version\b", "migrations are a set of ids and checksums, not a number", ""),
    (
        r"\bOR\s+REPLACE\b|\bREPLACE\s+INTO\b",
        "it deletes and inserts, which no delete rule sees",
        "db/lint_text.py",
    ),
    (r"\bmanifest_json\b", "columns hold what a manifest says", "db/legacy/"),
    (
        r"\b(?:uuid[1-8]?|gen_random_uuid|uuid_generate_v4)\b",
        "ids are ULIDs",
        ("db/legacy/", "workspace/transcripts"),
    ),
)

_ANY_GONE = re.compile("|".join(pattern for pattern, *_ in _GONE), re.IGNORECASE)

# The shape of these is somebody else's; a body need not use all of it.
_DICTATED = {
    "__exit__": "the language",
    "connection_lost": "asyncio",
    "load_dialect_impl": "SQLAlchemy",
    "process_bind_param": "SQLAlchemy",
    "process_result_value": "SQLAlchemy",
    "send_400_response": "uvicorn",
    "words": "a migration that landed calls it so",
    **dict.fromkeys(
        (
            *("session_update", "request_permission", "create_elicitation", "read_text_file"),
            *("write_text_file", "create_terminal", "terminal_output", "wait_for_terminal_exit"),
            *("kill_terminal", "release_terminal", "ext_method"),
        ),
        "the Agent Client Protocol",
    ),
}


@cache
def _trees() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (path.relative_to(_SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(_SOURCE.rglob("*.py"))
    )


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each module that is imported, also by its name as a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            texts = (argument for argument in node.args if isinstance(argument, ast.Constant))
            yield from ((node.lineno, str(text.value)) for text in texts)


def _texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Strings that are no docstrings, and names."""
    remarks = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in remarks:
            yield node.lineno, node.value
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id


def _unused(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Parameters that a body never reads. An underscore excuses only what is handed on as a value."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    handed_on = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called
    } | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in called}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name in _DICTATED:
            continue
        body = [line for line in function.body if not _says_nothing(line)]
        is_callback = bool(function.decorator_list) or function.name in handed_on
        read = {node.id for line in body for node in ast.walk(line) if isinstance(node, ast.Name)}
        for parameter in _parameters(function.args) if body else ():
            excused = is_callback and parameter.startswith("_")
            if parameter not in read | {"self", "cls"} and not excused:
                yield function.lineno, function.name, parameter


def _says_nothing(line: ast.stmt) -> bool:
    """A docstring, an ellipsis, a `pass`: the body of a protocol, or of what has nothing to do."""
    return isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))


def _parameters(arguments: ast.arguments) -> list[str]:
    lone = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *lone)]


def _gone(path: str, tree: ast.Module) -> list[str]:
    suspects = [(line, text) for line, text in _texts(tree) if _ANY_GONE.search(text)]
    return [
        f"{path}:{line}: {text!r}: {why}"
        for pattern, why, known_by in _GONE
        for line, text in suspects
        if not (known_by and path.startswith(known_by)) and re.search(pattern, text, re.IGNORECASE)
    ]


def test_no_word_of_the_faults_is_in_the_source() -> None:
    """Neither in SQL nor as a name: each was a fault of the lineage."""
    assert [found for path, tree in _trees() for found in _gone(path, tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        'run("SELECT julianday(sent_at)")',
        'run("PRAGMA user_version = 3")',
        'run("insert or replace into agents values (1)")',
        'statement.prefix_with("OR REPLACE")',
        'run("REPLACE INTO agents VALUES (1)")',
        'row["manifest_json"]',
        "row.id = uuid4()",
        'sa.text("gen_random_uuid()")',
    ],
)
def test_each_word_would_be_seen(line: str) -> None:
    """In a line of its own, anywhere in the package."""
    assert _gone("pulse/store.py", ast.parse(line))


def test_ids_come_from_one_place() -> None:
    """Nothing imports `uuid`: a second kind of id would not sort by time."""
    assert [path for path, tree in _trees() for _, name in _imported(tree) if name == "uuid"] == []


def test_no_driver_is_imported_outside_the_database_package() -> None:
    """One place opens connections and sets what they need; a second one would forget half of it."""
    found = [
        f"{path}:{line}: {name}"
        for path, tree in _trees()
        for line, name in _imported(tree)
        if name.partition(".")[0] in _DRIVERS and not path.startswith("db/")
    ]
    assert found == []


def test_the_words_of_a_delivery_are_pending_delivered_failed() -> None:
    """In the vocabulary, in the table's CHECK, and in no other list of words stands `new` or `cur`."""
    words = ["pending", "delivered", "failed"]
    assert [word.value for word in vocabulary.DeliveryStatus] == words
    check = declared_sqlite(metadata)["relay_index"]["check ck_relay_index_status"]
    assert re.findall(r"'(\w+)'", check) == words
    lists = [
        kind for kind in vars(vocabulary).values() if isinstance(kind, type) and issubclass(kind, StrEnum)
    ]
    assert len(lists) > 10
    assert [kind.__name__ for kind in lists if {"new", "cur"} & {word.value for word in kind}] == []


def test_every_list_of_words_is_held_by_a_check() -> None:
    """A column of words takes no other word, whoever writes it."""
    catalogue = declared_sqlite(metadata)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, Choice):
                check = catalogue[table.name][f"check ck_{table.name}_{column.name}"]
                assert re.findall(r"'([\w-]+)'", check) == [word.value for word in column.type.enum]


def test_ids_and_references_are_declared_as_ulids() -> None:
    """Every `id` but two that people choose, and every reference to one."""
    chosen = {"relay_adapters.id", "schema_ledger.id"}
    for table in metadata.sorted_tables:
        for column in table.columns:
            name = f"{table.name}.{column.name}"
            targets = {key.target_fullname for key in column.foreign_keys}
            if (column.name == "id" and name not in chosen) or (targets and not targets & chosen):
                assert isinstance(column.type, Ulid), name


def test_no_parameter_is_unused() -> None:
    """What a function takes it reads. The lineage silenced one, and limited everybody for what one sent."""
    found = [
        f"{path}:{line}: {name}({argument})"
        for path, tree in _trees()
        for line, name, argument in _unused(tree)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("def count(_sender, since):\n    return since", ["_sender"]),
        ("class Store:\n    def count(self, sender, since):\n        return since", ["sender"]),
        ("def count(*, sender=None):\n    return 1", ["sender"]),
        ("def _handle(part, _caller):\n    return part\nOPERATION = dict(handler=_handle)", []),
        ("def _handle(part, caller):\n    return part\nOPERATION = dict(handler=_handle)", ["caller"]),
        ('class Port:\n    def send(self, message):\n        """Send it."""\n        ...', []),
    ],
)
def test_an_unused_parameter_would_be_seen(text: str, unused: list[str]) -> None:
    """Also behind an underscore, unless the shape is a callback's."""
    assert [argument for _, _, argument in _unused(ast.parse(text))] == unused
