"""Reading the lines of an export from a file: plain or compressed, one at a time, each with its number."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, cast

from dorkos.db.export_format import (
    Footer,
    Header,
    LineError,
    parse_footer,
    parse_header,
    parse_line,
    parse_row,
)
from dorkos.db.rows import PlainRow, Shape
from dorkos.errors import DorkError, ErrorCode

_GZIP = b"\x1f\x8b"
# Far above what any row of ours can be: a file without line ends must not fill the memory.
_LINE_MAX = 512 * 1024 * 1024


class ExportReader:
    """The header at once, then each row with the number of its line, then the footer.

    Everything raises `import_invalid` that names the line, also for a file that breaks off.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        """Read the header. `file` is at its beginning, and is not closed here."""
        self._position = file.tell if file.seekable() else None
        packed = file.peek(2)[:2] == _GZIP
        self._lines = cast(IO[bytes], gzip.GzipFile(fileobj=file, mode="rb") if packed else file)
        self._read = hashlib.sha256()
        self._number = 0
        self._footer: Footer | None = None
        line = self._next()
        if not line:
            raise _invalid("The file is empty.")
        try:
            self.header: Header = parse_header(line)
        except LineError as fault:
            raise self._refusal(line, fault) from fault
        self._read.update(line)

    @property
    def footer(self) -> Footer:
        """What the whole file says of itself; known once all rows were read."""
        assert self._footer is not None
        return self._footer

    def position(self) -> int:
        """How many bytes of the file were read, for whoever shows progress; 0 for a stream."""
        return self._position() if self._position else 0

    def rows(self, shapes: Mapping[str, Shape]) -> Iterator[tuple[int, Shape, PlainRow]]:
        """Every row: line number, table, values. Ends when the footer agrees with what was read."""
        counts = dict.fromkeys(shapes, 0)
        while line := self._next():
            shape, row = self._understand(line, shapes, counts)
            if shape is None or row is None:
                return
            self._read.update(line)
            counts[shape.table] += 1
            yield self._number, shape, row
        raise _invalid(f"The file ends after line {self._number} without a footer: its end is missing.")

    def _understand(
        self, line: bytes, shapes: Mapping[str, Shape], counts: Mapping[str, int]
    ) -> tuple[Shape, PlainRow] | tuple[None, None]:
        """A row, or nothing for the footer, which was then found to agree."""
        try:
            fields = parse_line(line)
            if "end" not in fields:
                return parse_row(fields, shapes)
            footer = parse_footer(fields)
        except LineError as fault:
            raise self._refusal(line, fault) from fault
        self._finish(footer, counts)
        return None, None

    def _finish(self, footer: Footer, counts: Mapping[str, int]) -> None:
        wrong = sorted(
            name for name in counts.keys() | footer.tables.keys() if not _agrees(footer, counts, name)
        )
        rows = sum(counts.values())
        if wrong or footer.rows != rows:
            where = f" It differs in {', '.join(wrong)}." if wrong else ""
            raise _invalid(
                f"Line {self._number}: the footer counts {footer.rows} rows, the file has {rows}.{where}"
            )
        if footer.sha256 != self._read.hexdigest():
            raise _invalid(
                "The file was changed after it was written: its lines do not have the digest of the footer."
            )
        while line := self._next():
            if line.strip():
                raise _invalid(f"Line {self._number} comes after the footer.")
        self._footer = footer

    def _next(self) -> bytes:
        """The next line with its end, or nothing at the end of the file."""
        try:
            line = self._lines.readline(_LINE_MAX)
        except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
            raise _invalid(
                f"The compressed file is damaged or breaks off after line {self._number}: {fault}."
            ) from fault
        if line:
            self._number += 1
        if len(line) == _LINE_MAX:
            raise _invalid(f"Line {self._number} is longer than any row can be.")
        return line

    def _refusal(self, line: bytes, fault: LineError) -> DorkError:
        broken = "" if line.endswith(b"\n") else "; the file breaks off there"
        return _invalid(f"Line {self._number} {fault}{broken}.")


def _agrees(footer: Footer, counts: Mapping[str, int], table: str) -> bool:
    return table in footer.tables and footer.tables[table].rows == counts.get(table)


def _invalid(message: str) -> DorkError:
    return DorkError(
        ErrorCode.IMPORT_INVALID,
        f"{message} Nothing was imported.",
        hint="Copy the file again from where it was made, or make a new export.",
    )
