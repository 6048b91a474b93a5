"""Dangers to data that show in the text of a migration: its SQL, and its calls of Alembic and SQLAlchemy.

Comments and docstrings are no text here: only strings that the program could run count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

_COMPUTED = "a table whose name is computed"
_NAME = r"[\"`\[]?(\w+)[\"`\]]?"
_I = re.IGNORECASE
_SQL: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("D001", re.compile(rf"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:{_NAME})?", _I)),
    ("D002", re.compile(rf"\bALTER\s+TABLE\s+{_NAME}\s+DROP\s+(?:COLUMN\s+)?(?!CONSTRAINT){_NAME}", _I)),
    ("D003", re.compile(rf"\bDELETE\s+FROM\s+(?:ONLY\s+)?(?:{_NAME})?", _I)),
    ("D003", re.compile(rf"\bTRUNCATE\s+(?:TABLE\s+)?(?:{_NAME})?", _I)),
    ("D003", re.compile(rf"\b(?:INSERT\s+OR\s+REPLACE|REPLACE)\s+INTO\s+(?:{_NAME})?", _I)),
    ("D006", re.compile(r"foreign_keys|defer_foreign_keys|writable_schema|session_replication_role", _I)),
    (
        "D007",
        re.compile(
            rf"\bALTER\s+TABLE\s+{_NAME}\s+RENAME\s+(?:COLUMN\s+)?(?!TO\b|COLUMN\b){_NAME}\s+TO\b", _I
        ),
    ),
    ("D007", re.compile(rf"\bALTER\s+TABLE\s+{_NAME}\s+RENAME\s+TO\b", _I)),
)


def seen_in_text(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Codes of `dorkos.db.lint.DANGERS` with the table or column they concern."""
    for text in _strings(tree):
        for code, pattern in _SQL:
            for match in pattern.finditer(text):
                named = ".".join(name for name in match.groups() if name)
                yield code, "" if code == "D006" else named or _COMPUTED
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _call(node, node.func)


def renamed_in(tree: ast.Module) -> set[str]:
    """The tables and columns that the text renames: they are no longer there, but were not dropped."""
    return {subject for code, subject in seen_in_text(tree) if code == "D007"}


def imports_in(tree: ast.Module) -> Iterator[str]:
    """The modules of this project that the migration imports."""
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from dorkos import ids` names a module as well.
            lone = node.module in ("dorkos", "dorkos.db")
            names = [f"{node.module}.{alias.name}" for alias in node.names] if lone else [node.module]
        yield from (name for name in names if name.partition(".")[0] == "dorkos")


def _call(node: ast.Call, function: ast.Attribute) -> Iterator[tuple[str, str]]:
    texts = [_constant(argument) for argument in node.args]
    first = texts[0] if texts else ""
    column = f"{first}.{texts[1]}" if first and len(texts) > 1 and texts[1] else _COMPUTED
    keywords = {keyword.arg for keyword in node.keywords}
    match function.attr:
        case "drop_table" | "drop" | "drop_all":
            yield "D001", first or _COMPUTED
        case "drop_column":
            yield "D002", column
        case "delete":
            yield "D003", _COMPUTED
        case "rename_table":
            yield "D007", first or _COMPUTED
        case "alter_column" if "new_column_name" in keywords:
            yield "D007", column
        case "alter_column" if keywords & {"type_", "nullable"}:
            yield "D004", column


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _strings(tree: ast.Module) -> Iterator[str]:
    """Every string that is not a docstring; what an f-string computes is left out of it."""
    passed = {
        id(statement.value)
        for statement in ast.walk(tree)
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            passed |= {id(part) for part in parts}
            yield "\0".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.value
