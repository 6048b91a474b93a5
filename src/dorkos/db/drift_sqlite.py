"""SQLite's catalogue: the pragmas tell most of it, the stored CREATE TABLE text tells the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<string>[xX]?'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
  | (?P<word>[\w$]+(?:\.\d+)?)
  | (?P<sign><>|<=|>=|==|!=|\|\||->>|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)

_TEXT_OF = "SELECT sql FROM sqlite_schema WHERE type IN (?, ?) AND name = ?"


def catalogue(connection: sa.Connection) -> dict[str, dict[str, str]]:
    """The facts of every table, view and trigger, except SQLite's own.

    A virtual table may be of a module that is not there, and names may hold any character: whatever other
    programs left in the file must not keep ours from being looked at.
    """
    run = connection.exec_driver_sql
    found: dict[str, dict[str, str]] = {}
    for row in run("PRAGMA main.table_list").mappings().all():
        name = row["name"]
        if row["schema"] != "main" or name.startswith("sqlite_"):
            continue
        # The list says `virtual` and `shadow` of what is stored as a table like any other.
        sql = run(_TEXT_OF, ("table", "view", name)).scalar_one()
        facts = {"kind": f"{row['type']}{' STRICT' * row['strict']}{' WITHOUT ROWID' * row['wr']}"}
        if row["type"] == "table":
            facts |= dict(_columns(connection, name))
            facts |= dict(_foreign_keys(connection, name))
            facts |= dict(_indexes(connection, name))
            facts |= dict(_written(sql))
        else:
            facts["definition"] = normal(sql)
        found[name] = facts
    # A trigger is stored with the name of its table as somebody wrote it.
    tables = {name.lower(): name for name in found}
    for name, table, sql in run("SELECT name, tbl_name, sql FROM sqlite_schema WHERE type = 'trigger'"):
        if table.lower() in tables:
            found[tables[table.lower()]][f"trigger {name}"] = normal(sql)
    return found


def normal(sql: str) -> str:
    """SQL with one spelling: names unquoted and everything but strings in lower case, single spaces."""
    return " ".join(_tokens(sql))


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _columns(connection: sa.Connection, table: str) -> Iterator[tuple[str, str]]:
    for row in connection.exec_driver_sql(f"PRAGMA table_xinfo({_quoted(table)})").mappings():
        kind = row["type"].upper()
        parts = [kind]
        if row["notnull"]:
            parts.append("NOT NULL")
        if row["dflt_value"] is not None:
            parts.append(f"DEFAULT {_default(row['dflt_value'], kind)}")
        if row["pk"]:
            parts.append(f"PRIMARY KEY {row['pk']}")
        if row["hidden"]:
            parts.append(f"GENERATED {row['hidden']}")
        yield f"column {row['name']}", " ".join(parts)


def _default(text: str, kind: str) -> str:
    # SQLAlchemy quotes every literal; to an INTEGER column '0' and 0 are the same default.
    if kind == "INTEGER" and re.fullmatch(r"'-?\d+'", text):
        return text.strip("'")
    return normal(text)


def _foreign_keys(connection: sa.Connection, table: str) -> Iterator[tuple[str, str]]:
    keys: dict[int, list[sa.RowMapping]] = {}
    for row in connection.exec_driver_sql(f"PRAGMA foreign_key_list({_quoted(table)})").mappings():
        keys.setdefault(row["id"], []).append(row)
    for rows in keys.values():
        first = rows[0]
        columns = ", ".join(row["from"] for row in rows)
        targets = ", ".join(str(row["to"]) for row in rows)
        yield (
            f"foreign key ({columns})",
            f"to {first['table']} ({targets}) ON UPDATE {first['on_update']} ON DELETE {first['on_delete']}",
        )


def _indexes(connection: sa.Connection, table: str) -> Iterator[tuple[str, str]]:
    run = connection.exec_driver_sql
    for index in run(f"PRAGMA index_list({_quoted(table)})").mappings().all():
        if index["origin"] == "pk":
            continue
        columns = ", ".join(
            f"{row['name'] or 'expression'} {row['coll']}{' DESC' * row['desc']}"
            for row in run(f"PRAGMA index_xinfo({_quoted(index['name'])})").mappings()
            if row["key"]
        )
        if index["origin"] == "u":
            yield f"unique ({columns})", "unique"
            continue
        sql = run(_TEXT_OF, ("index", "index", index["name"])).scalar_one()
        # The text after ON holds expressions and the predicate of a partial index.
        _, _, rest = normal(sql).partition(" on ")
        yield f"index {index['name']}", f"{'unique ' * index['unique']}on {rest} by {columns}"


def _written(sql: str) -> Iterator[tuple[str, str]]:
    """What no pragma tells: CHECKs, names of constraints, deferral, collations, AUTOINCREMENT."""
    for item in _items(sql):
        subject = f"constraint of {item[0]}"
        name = ""
        for at, token in enumerate(item):
            if token == "constraint":
                name = item[at + 1]
                subject = f"constraint {name}"
            elif token == "check":
                expression = " ".join(_group(item, at + 1))
                yield (f"check {name}" if name else f"check {expression}"), expression
                name = ""
            elif token in ("unique", "foreign", "references") and name:
                yield subject, token
                name = ""
            elif token == "primary":
                name = ""
            elif token in ("deferrable", "collate"):
                yield f"{token} on {item[0]}", " ".join(item[at : at + 4])
            elif token == "autoincrement":
                yield "autoincrement", item[0]


def _items(sql: str) -> Iterator[list[str]]:
    """The column and constraint definitions of a CREATE TABLE, each as its tokens."""
    depth = 0
    item: list[str] = []
    for token in _tokens(sql):
        if token == ")":
            depth -= 1
        if depth == 0 and item:
            yield item
            return
        if depth == 1 and token == ",":
            yield item
            item = []
        elif depth >= 1:
            item.append(token)
        if token == "(":
            depth += 1


def _group(tokens: list[str], start: int) -> Iterator[str]:
    """The tokens of a group in parentheses, without the outer ones."""
    depth = 0
    for token in tokens[start:]:
        if token == ")":
            depth -= 1
            if depth == 0:
                return
        if depth > 0:
            yield token
        if token == "(":
            depth += 1


def _tokens(sql: str) -> Iterator[str]:
    for match in _TOKEN.finditer(sql):
        text = match.group()
        if match.lastgroup == "space":
            continue
        if match.lastgroup == "string":
            yield text
        elif match.lastgroup == "quoted":
            yield text[1:-1].replace(text[-1] * 2, text[-1]).lower()
        else:
            yield text.lower()
