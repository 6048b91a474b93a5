"""Files that people and other programs write: reading any of them ends with a result or with a refusal."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dorkos.db.export_format import LineError, parse_footer, parse_header, parse_line
from dorkos.db.export_reader import ExportReader
from dorkos.errors import DorkError, ErrorCode
from dorkos.settings import SETTINGS, LoadedSettings, load_settings

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([row.key for row in SETTINGS])
SCALARS = st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


def load(name: str, data: bytes, environment: dict[str, str] | None = None) -> LoadedSettings | DorkError:
    """The settings of a directory with such a file, or the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        try:
            return load_settings(Path(folder) / "config.toml", environment=environment or {})
        except DorkError as refusal:
            return refusal


def refusal_of(read: Callable[[Any], object], given: object) -> Exception | None:
    """How reading it is refused, if it is; whatever else goes wrong comes out here."""
    try:
        read(given)
    except (LineError, DorkError) as refusal:
        return refusal
    return None


def check(found: LoadedSettings | DorkError) -> None:
    """A refusal is of one kind, and can be shown."""
    if isinstance(found, DorkError):
        assert found.code is ErrorCode.INVALID_SETTING
        str(found.message).encode()


@given(st.sampled_from(["config.toml", "config.json"]), st.binary(max_size=60))
def test_any_bytes_are_settings_or_refused(name: str, data: bytes) -> None:
    """In either file."""
    check(load(name, data))


@given(JSON)
def test_any_json_is_settings_or_refused(document: object) -> None:
    """Of whatever kind, however deep."""
    check(load("config.json", json.dumps(document).encode()))


def test_settings_that_are_nested_without_end_are_refused() -> None:
    """Not even as deep as a reader of JSON goes."""
    for depth in (100, 300, 900, 100_000):
        check(load("config.json", b'{"server":' * depth + b"1" + b"}" * depth))
        check(load("config.toml", b"server = " + b"[" * depth + b"]" * depth))


@given(KEYS, JSON)
def test_any_value_of_a_setting_is_taken_or_refused(key: str, value: object) -> None:
    """None ends in another way, and none is taken for another."""
    section, name = key.split(".")
    check(load("config.json", json.dumps({section: {name: value}}).encode()))


@given(st.sampled_from(SETTINGS), st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_any_environment_is_taken_or_refused(row: Any, text: str) -> None:
    """A variable is text, whatever the setting is."""
    check(load("config.toml", b"", {row.env: text}))


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_of_an_export_is_read_or_refused(line: bytes) -> None:
    """As a header, as a row and as a footer."""
    for parse in (parse_header, lambda data: parse_footer(parse_line(data))):
        refusal = refusal_of(parse, line)
        assert refusal is None or str(refusal)


@given(st.lists(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()), max_size=4))
def test_any_file_is_an_export_or_refused(lines: list[bytes]) -> None:
    """The refusal names the line."""
    file = io.BufferedReader(io.BytesIO(b"\n".join(lines)))
    refusal = refusal_of(ExportReader, file)
    assert refusal is None or (isinstance(refusal, DorkError) and refusal.code is ErrorCode.IMPORT_INVALID)
