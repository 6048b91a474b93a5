"""What is no sound export is refused with the line and the reason, and nothing of it is stored."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dorkos.db.verify import verify_sqlite
from dorkos.errors import DorkError, ErrorCode
from dorkos.testing import create_sqlite_file, empty_postgres
from tests.db.any_rows import any_rows, filled_sqlite, stored
from tests.db.moves import Spoil, changed, export_of, import_into, signed
from tests.db.room import no_room_beyond


@pytest.fixture
def export(tmp_path: Path) -> bytes:
    """An export of a database with odd rows in every table."""
    (tmp_path / "source").mkdir()
    return export_of(filled_sqlite(tmp_path / "source" / "dork.db", any_rows(0)))


def _replaced(number: int, line: bytes) -> Spoil:
    return lambda lines: [*lines[:number], line, *lines[number:][1:]]


def _in_row(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Change the first row of `pulse_schedules`, and count and digest everything anew."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        number = next(n for n, line in enumerate(lines) if line.startswith(b'{"table":"pulse_schedules"'))
        return signed(changed(number, lambda fields: change(fields["row"]))(lines))

    return spoil


def _doubled(lines: list[bytes]) -> list[bytes]:
    return signed([*lines[:3], lines[2], *lines[3:]])


def _without_parent(lines: list[bytes]) -> list[bytes]:
    return signed([line for line in lines if not line.startswith(b'{"table":"pulse_schedules"')])


_BAD: dict[str, tuple[Spoil, str]] = {
    "nothing at all": (lambda lines: [], "empty"),
    "another file": (lambda lines: [b"hello"], "Line 1 is not JSON"),
    "another JSON": (lambda lines: [b'{"a":1}'], "Line 1 is not the header"),
    "a list": (lambda lines: [b"[]"], "Line 1 is not a JSON object"),
    "a header alone": (lambda lines: lines[:1], "without a footer"),
    "no footer": (lambda lines: lines[:-1], "without a footer"),
    "no header": (lambda lines: lines[1:], "Line 1 is not the header"),
    "a row is missing": (lambda lines: [*lines[:4], *lines[5:]], "the footer counts"),
    "a row is changed": (changed(2, lambda f: f["row"].update(reason="x")), "was changed after"),
    "rows changed places": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "was changed after"),
    "a newer format": (changed(0, lambda f: f.update(version=2)), "format 2"),
    "a format that is true": (changed(0, lambda f: f.update(version=True)), "format True"),
    "an unknown migration": (changed(0, lambda f: f.update(migration="0001_other")), "does not know"),
    "a header with more": (changed(0, lambda f: f.update(more=1)), "not known here: 'more'"),
    "a header without tables": (changed(0, lambda f: f.pop("tables")), "lacks tables"),
    "a header without text": (changed(0, lambda f: f.update(epoch=1)), "holds no text as epoch"),
    "a table twice": (changed(0, lambda f: f["tables"].append(f["tables"][0])), "describes a table twice"),
    "a table less": (changed(0, lambda f: f["tables"].pop()), "is not described as it was"),
    "a table more": (
        changed(0, lambda f: f["tables"].append({"name": "x", "key": ["a"], "columns": {"a": "text"}})),
        "'x' is not described",
    ),
    "a column less": (changed(0, lambda f: f["tables"][0]["columns"].pop("reason")), "is not described"),
    "another kind": (
        changed(0, lambda f: f["tables"][0]["columns"].update(reason="integer")),
        "is not described",
    ),
    "an unknown kind": (changed(0, lambda f: f["tables"][0]["columns"].update(reason="blob")), "badly"),
    "a key of no column": (changed(0, lambda f: f["tables"][0].update(key=["x"])), "badly"),
    "garbage": (_replaced(3, b"garbage"), "Line 4 is not JSON"),
    "half a line": (_replaced(3, b'{"table":"agents","row":{"id'), "Line 4 is not JSON"),
    "bytes that are not text": (_replaced(3, b'{"table":"\xff"}'), "Line 4 is not UTF-8"),
    "an empty line": (_replaced(3, b""), "Line 4 is not JSON"),
    "too deep": (_replaced(3, b"[" * 200_000), "Line 4 is not JSON"),
    "too many digits": (_replaced(3, b'{"table":"agents","row":' + b"1" * 9000 + b"}"), "Line 4 is not JSON"),
    "a key twice": (_replaced(3, b'{"table":"agents","table":"agents","row":{}}'), "names a key twice"),
    "an unknown table": (_replaced(3, b'{"table":"schema_ledger","row":{}}'), "a table that the header"),
    "a table that is a list": (_replaced(3, b'{"table":[],"row":{}}'), "a table that the header"),
    "a row that is none": (_replaced(3, b'{"table":"agents","row":[]}'), "holds no row"),
    "a local fact": (
        _replaced(3, b'{"table":"system_state","row":{"key":"epoch","value":"x"}}'),
        "Line 4 holds the fact 'epoch'",
    ),
    "an unknown column": (_in_row(lambda row: row.update(more=1)), "not known here: 'more'"),
    "a missing column": (_in_row(lambda row: row.pop("name")), "lacks name"),
    "a number as text": (_in_row(lambda row: row.update(name=1)), "holds no text as name"),
    "a text as number": (_in_row(lambda row: row.update(revision="1")), "holds no integer as revision"),
    "a fraction": (_in_row(lambda row: row.update(revision=1.0)), "holds no integer as revision"),
    "a flag as number": (_in_row(lambda row: row.update(revision=True)), "holds no integer as revision"),
    "a number as flag": (_in_row(lambda row: row.update(enabled=1)), "holds no flag as enabled"),
    "beyond 64 bits": (_in_row(lambda row: row.update(revision=2**63)), "beyond 64 bits"),
    "not a number": (_in_row(lambda row: row.update(revision=float("nan"))), "holds no integer"),
    "U+0000": (_in_row(lambda row: row.update(name="a\0b")), "holds no text as name"),
    "half a character": (_in_row(lambda row: row.update(name="\ud800")), "holds no text as name"),
    "another time": (
        _in_row(lambda row: row.update(created_at="2026-03-01T09:00:00Z")),
        "no instant as created_at",
    ),
    "no such day": (_in_row(lambda row: row.update(created_at="2026-02-30T09:00:00.000Z")), "no instant"),
    "JSON that is none": (_in_row(lambda row: row.update(command="[")), "holds no json as command"),
    "empty where it must not be": (
        _in_row(lambda row: row.update(name=None)),
        "pulse_schedules that cannot be stored",
    ),
    "a word that is none": (
        _in_row(lambda row: row.update(status="new")),
        "pulse_schedules that cannot be stored",
    ),
    "a row twice": (_doubled, "Line 4 holds a row"),
    "a child without its parent": (_without_parent, "cannot be stored"),
    "a changed row with a new footer": (
        _in_row(lambda row: row.update(prompt="x")),
        "is not what the footer says",
    ),
    "another footer": (changed(-1, lambda f: f.update(end="other")), "is not a footer"),
    "a footer of another count": (changed(-1, lambda f: f.update(rows=1)), "the footer counts 1 rows"),
    "a footer without a table": (changed(-1, lambda f: f["tables"].pop("agents")), "It differs in agents"),
    "a footer of text": (changed(-1, lambda f: f.update(rows="1")), "holds no count as rows"),
    "a line after the footer": (lambda lines: [*lines, lines[2]], "comes after the footer"),
    "two exports": (lambda lines: [*lines, *lines], "comes after the footer"),
}


@pytest.mark.parametrize("name", _BAD)
def test_a_bad_file_is_refused_with_its_line(name: str, export: bytes, tmp_path: Path) -> None:
    """Code `import_invalid`, the reason in words, and an empty target that the sound file then fills."""
    spoil, words = _BAD[name]
    bad = b"".join(line + b"\n" for line in spoil(export.splitlines()))
    place = tmp_path / "dork.db"
    create_sqlite_file(place)
    empty = stored(place)
    with pytest.raises(DorkError) as refusal:
        import_into(place, bad)
    assert (refusal.value.code, refusal.value.hint is not None) == (ErrorCode.IMPORT_INVALID, True)
    assert words in refusal.value.message
    assert "Nothing was imported" in refusal.value.message
    assert stored(place) == empty
    import_into(place, export)


@pytest.mark.parametrize("name", ["a row twice", "a child without its parent", "a word that is none",
                                  "empty where it must not be"])  # fmt: skip
def test_postgresql_names_the_line_as_well(name: str, export: bytes) -> None:
    """What a constraint refuses is found in the batch that held it."""
    spoil, words = _BAD[name]
    bad = b"".join(line + b"\n" for line in spoil(export.splitlines()))
    with empty_postgres() as url:
        with pytest.raises(DorkError) as refusal:
            import_into(url, bad)
        assert refusal.value.code is ErrorCode.IMPORT_INVALID
        assert words in refusal.value.message
        assert not any(stored(url).values())


def test_a_file_cut_anywhere_is_refused(export: bytes, tmp_path: Path) -> None:
    """After any byte, compressed or not: the file is incomplete, and that is what is said."""
    packed = gzip.compress(export)
    for whole in (export, packed):
        for size in range(1, len(whole) - 1, len(whole) // 23):
            with pytest.raises(DorkError) as refusal:
                import_into(tmp_path / "dork.db", whole[:size])
            assert refusal.value.code is ErrorCode.IMPORT_INVALID, size
    with pytest.raises(DorkError) as damaged:
        import_into(tmp_path / "dork.db", packed[:900] + b"\0\0\0\0" + packed[904:])
    assert damaged.value.code is ErrorCode.IMPORT_INVALID
    # A file that lost nothing but its last line end lost nothing.
    import_into(tmp_path / "dork.db", export[:-1])


@pytest.mark.parametrize("spare", [0, 2, 8, 20])
def test_a_disk_that_fills_leaves_the_target_empty(spare: int, tmp_path: Path) -> None:
    """Code `disk_full`, wherever the room ends; with room the same import succeeds."""
    (tmp_path / "source").mkdir()
    export = export_of(filled_sqlite(tmp_path / "source" / "dork.db", any_rows(0, per_table=30)))
    target = tmp_path / "dork.db"
    create_sqlite_file(target)
    pages = target.stat().st_size // 4096
    with no_room_beyond(pages + spare), pytest.raises(DorkError) as refusal:
        import_into(target, export)
    assert refusal.value.code is ErrorCode.DISK_FULL
    assert refusal.value.hint
    assert not any(stored(target).values())
    assert verify_sqlite(target) == []
    import_into(target, export)
