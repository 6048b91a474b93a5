"""The lines of an export: what each holds, and reading them back with suspicion. No database here.

`docs/export-format.md` is the same in words. A file is a header, one line a row, and a footer that counts
and digests everything before it, so that a file which lost its end is never mistaken for a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dorkos.db.digest import TableDigest
from dorkos.db.rows import Kind, PlainRow, Shape, Value, is_local_fact
from dorkos.db.schema.system import system_state
from dorkos.db.soundness import is_instant, is_json
from dorkos.errors import DorkError, ErrorCode

FORMAT = "dorkos-export"
VERSION = 1

_BITS = 63
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Header:
    """The first line. `migration` is the last that the database had, `tables` what follows, in order."""

    written_by: str
    migration: str
    epoch: str
    at: str
    tables: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Footer:
    """The last line. `sha256` is over the bytes of all lines before it."""

    rows: int
    sha256: str
    tables: Mapping[str, TableDigest]


class LineError(Exception):
    """What is wrong with a line, as half a sentence."""


def header_line(header: Header) -> bytes:
    """The header as it is written."""
    tables = [
        {
            "name": shape.table,
            "key": list(shape.key),
            "columns": {name: kind.value for name, kind in shape.columns},
        }
        for shape in header.tables
    ]
    return _line(
        {
            "format": FORMAT,
            "version": VERSION,
            "writtenBy": header.written_by,
            "migration": header.migration,
            "epoch": header.epoch,
            "at": header.at,
            "tables": tables,
        }
    )


def row_lines(shape: Shape, rows: Sequence[PlainRow]) -> bytes:
    """The lines of some rows of one table."""
    names = shape.names
    start = f'{{"table":{_encode(shape.table)},"row":'
    return "".join(f"{start}{_encode(dict(zip(names, row, strict=True)))}}}\n" for row in rows).encode()


def footer_line(footer: Footer) -> bytes:
    """The footer as it is written."""
    tables = {name: {"rows": found.rows, "digest": found.digest} for name, found in footer.tables.items()}
    return _line({"end": FORMAT, "rows": footer.rows, "sha256": footer.sha256, "tables": tables})


def parse_line(line: bytes) -> dict[str, Any]:
    """The object on a line. Raises `LineError`."""
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=_without_doubles)
    except UnicodeDecodeError as fault:
        raise LineError("is not UTF-8") from fault
    except (ValueError, RecursionError) as fault:
        raise LineError("is not JSON") from fault
    if not isinstance(found, dict):
        raise LineError("is not a JSON object")
    return found


def parse_header(line: bytes) -> Header:
    """Read the first line. Raises `LineError`, or `import_invalid` for a format that is newer than this."""
    fields = parse_line(line)
    if fields.get("format") != FORMAT:
        raise LineError("is not the header of an export of DorkOS")
    version = fields.get("version")
    if version != VERSION or isinstance(version, bool):
        raise DorkError(
            ErrorCode.IMPORT_INVALID,
            f"The export has format {version!r}, written by {fields.get('writtenBy')!r}; this version reads "
            f"format {VERSION}. Nothing was imported.",
            hint="Install the version of DorkOS that wrote it, or a later one.",
        )
    _expect(fields, "format", "version", "writtenBy", "migration", "epoch", "at", "tables")
    tables = fields["tables"]
    if not isinstance(tables, list):
        raise LineError("has no list of tables")
    written_by, migration, epoch, at = (
        _text(fields, name) for name in ("writtenBy", "migration", "epoch", "at")
    )
    found = tuple(map(_shape, tables))
    if len({shape.table for shape in found}) != len(found):
        raise LineError("describes a table twice")
    return Header(written_by, migration, epoch, at, found)


def parse_row(fields: Mapping[str, Any], shapes: Mapping[str, Shape]) -> tuple[Shape, PlainRow]:
    """Read a line that holds a row: its table, and every column with a value of its kind."""
    _expect(fields, "table", "row")
    table, row = fields["table"], fields["row"]
    shape = shapes.get(table) if isinstance(table, str) else None
    if shape is None:
        raise LineError(f"names a table that the header does not: {table!r}")
    if not isinstance(row, dict):
        raise LineError("holds no row")
    _expect(row, *shape.names)
    if table == system_state.name and is_local_fact(row["key"]):
        raise LineError(f"holds the fact {row['key']!r}, which is never part of an export")
    return shape, tuple(_value(name, kind, row[name]) for name, kind in shape.columns)


def parse_footer(fields: Mapping[str, Any]) -> Footer:
    """Read the last line."""
    _expect(fields, "end", "rows", "sha256", "tables")
    tables = fields["tables"]
    if fields["end"] != FORMAT or not isinstance(tables, dict):
        raise LineError("is not a footer")
    found = {}
    for name, entry in tables.items():
        if not isinstance(entry, dict):
            raise LineError("is not a footer")
        _expect(entry, "rows", "digest")
        found[name] = TableDigest(_number(entry, "rows"), _text(entry, "digest"))
    return Footer(_number(fields, "rows"), _text(fields, "sha256"), found)


def _line(fields: Mapping[str, Any]) -> bytes:
    return (_encode(dict(fields)) + "\n").encode()


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise LineError("names a key twice")
    return found


def _expect(fields: Mapping[str, Any], *names: str) -> None:
    if fields.keys() == set(names):
        return
    missing, unknown = sorted(set(names) - fields.keys()), sorted(fields.keys() - set(names))
    if missing:
        raise LineError(f"lacks {', '.join(missing)}")
    if unknown:
        raise LineError(f"has what is not known here: {', '.join(map(repr, unknown))}")


def _shape(table: object) -> Shape:
    if not isinstance(table, dict):
        raise LineError("describes a table badly")
    _expect(table, "name", "key", "columns")
    columns, key = table["columns"], table["key"]
    if not isinstance(columns, dict) or not isinstance(key, list) or not key:
        raise LineError("describes a table badly")
    if any(not isinstance(name, str) or name not in columns for name in key):
        raise LineError("describes a table badly")
    try:
        kinds = tuple((name, Kind(kind)) for name, kind in columns.items())
    except ValueError as fault:
        raise LineError(f"describes a table badly: {fault}") from fault
    return Shape(_text(table, "name"), kinds, tuple(key))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise LineError(f"holds no text as {name}")
    return value


def _number(fields: Mapping[str, Any], name: str) -> int:
    value = fields[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LineError(f"holds no count as {name}")
    return value


def _value(name: str, kind: Kind, value: object) -> Value:
    """The value, if it is one of its kind that both engines can hold exactly."""
    if value is None:
        return None  # Whether the column may be empty is for the table to say.
    if kind is Kind.FLAG and isinstance(value, bool):
        return value
    if kind is Kind.INTEGER and isinstance(value, int) and not isinstance(value, bool):
        if -(1 << _BITS) <= value < 1 << _BITS:
            return value
        raise LineError(f"holds an integer beyond 64 bits as {name}")
    if kind in (Kind.TEXT, Kind.JSON, Kind.INSTANT) and isinstance(value, str) and _is_storable(kind, value):
        return value
    raise LineError(f"holds no {kind.value} as {name}")


def _is_storable(kind: Kind, text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    if kind is Kind.JSON:
        return is_json(text)
    if kind is Kind.INSTANT:
        return is_instant(text)
    return "\x00" not in text
