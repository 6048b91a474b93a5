"""Reading the settings files: what cannot be read is a refusal, and nothing is changed by looking."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.config_file import read_layers
from dorkos.errors import DorkError, ErrorCode


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\ufeff{}", "[" * 100_000])
def test_a_lineage_file_that_is_not_a_json_object_is_refused_and_left_alone(
    tmp_path: Path, text: str
) -> None:
    """Starting with defaults instead would look like a loss of settings, and then cause one."""
    config = tmp_path / "config.json"
    config.write_text(text, encoding="utf-8")

    with pytest.raises(DorkError) as refusal:
        read_layers(tmp_path / "config.toml")

    assert refusal.value.code == ErrorCode.INVALID_SETTING
    assert text == config.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"[server\n", "line 1"),
        (b"port = \n", "line 1"),
        (b"\xff", "cannot be read"),
        (b"version = 2\n", "version 2"),
        (b'version = "1"\n', "version"),
        (b"version = true\n", "version"),
        (b"version = 0\n", "version"),
        (b"a = " + b"[" * 100_000, "not TOML"),
    ],
)
def test_a_file_that_is_damaged_or_newer_is_refused_and_left_alone(
    tmp_path: Path, text: bytes, told: str
) -> None:
    """The message names the file and the place."""
    config = tmp_path / "config.toml"
    config.write_bytes(text)

    with pytest.raises(DorkError) as refusal:
        read_layers(config)

    assert refusal.value.code == ErrorCode.INVALID_SETTING
    assert told in refusal.value.message
    assert str(config) in refusal.value.message
    assert config.read_bytes() == text


def test_an_empty_file_and_none_at_all_say_nothing(tmp_path: Path) -> None:
    """Somebody may take every line out."""
    config = tmp_path / "config.toml"
    assert read_layers(config) == ()
    config.write_text("", "utf-8")
    assert [layer.values for layer in read_layers(config)] == [{}]


def test_a_null_in_the_lineage_file_is_no_value(tmp_path: Path) -> None:
    """The lineage wrote null for what was never set."""
    (tmp_path / "config.json").write_text('{"server": {"boundary": null, "port": 7}}', "utf-8")
    assert [layer.values for layer in read_layers(tmp_path / "config.toml")] == [{"server.port": 7}]
