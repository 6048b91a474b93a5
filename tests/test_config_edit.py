"""Changing `config.toml`: all or nothing, others' lines stay, and what cannot be read is never replaced."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dorkos.config_edit import SettingsRefusedError, change, checked, create, replace, set_aside
from dorkos.config_file import read_layers, read_text
from dorkos.errors import DorkError, ErrorCode

_WRITTEN = """\
# mine
version = 1

[server]   # where it listens
port = 4300  # not 4242: taken
colour = "blue"

[future]
thing = [1, 2]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A settings file with comments and with keys of another version."""
    path = tmp_path / "config.toml"
    path.write_text(_WRITTEN, "utf-8")
    return path


def test_comments_order_and_unknown_keys_stay(config: Path) -> None:
    """Only the line of the setting changes."""
    assert change(config, {"server.port": 5000}) == ("server.port",)
    assert config.read_text("utf-8") == _WRITTEN.replace("4300", "5000")


def test_a_value_is_added_and_taken_out_again(config: Path) -> None:
    """None takes the key out, so that the default holds again; a section is made where there is none."""
    change(config, {"mesh.scanRoots": ["/srv"], "scheduler.enabled": False})
    values = read_layers(config)[0].values
    assert (values["mesh.scanRoots"], values["scheduler.enabled"]) == (["/srv"], False)
    assert change(config, {"mesh.scanRoots": None, "server.port": None}) == ("mesh.scanRoots", "server.port")
    values = read_layers(config)[0].values
    assert "mesh.scanRoots" not in values
    assert "server.port" not in values
    assert values["future.thing"] == [1, 2]


def test_what_the_file_says_already_is_no_change(config: Path) -> None:
    """And the file is not written."""
    before = config.stat()
    assert change(config, {"server.port": "4300", "server.host": None}) == ()
    assert config.stat().st_mtime_ns == before.st_mtime_ns
    assert config.stat().st_ino == before.st_ino


def test_every_broken_rule_is_told_at_once_and_nothing_is_changed(config: Path) -> None:
    """A person mends them all in one go."""
    edits = {
        "server.port": 70000,
        "server.prot": 1,
        "ui.theme": "dark",
        "scheduler.timezone": "Mars/X",
        "server.boundary": "relative",
        "logging.level": "debug",
        "database.url": "postgresql://u:[redacted]@h/n",
        "server.host": "two words",
    }
    with pytest.raises(SettingsRefusedError) as refusal:
        change(config, edits)
    assert set(refusal.value.problems) == set(edits) - {"logging.level"}
    assert "server.port" in refusal.value.problems["server.prot"]
    assert config.read_text("utf-8") == _WRITTEN
    details = refusal.value.body()["details"]
    assert isinstance(details, list)
    assert all(isinstance(line, str) and ": " in line for line in details)


def test_values_are_checked_as_a_start_would(tmp_path: Path) -> None:
    """Text is taken for what it means; a folder must be there."""
    assert checked({"server.port": "5000", "scheduler.enabled": "off", "server.boundary": str(tmp_path)}) == {
        "server.port": 5000,
        "scheduler.enabled": False,
        "server.boundary": str(tmp_path),
    }
    with pytest.raises(SettingsRefusedError):
        checked({"server.boundary": str(tmp_path / "none")})


@pytest.mark.parametrize("text", ["[server\n", "version = 2\n", "\x00"])
def test_a_file_that_cannot_be_read_or_is_newer_is_never_replaced(config: Path, text: str) -> None:
    """By none of the four ways to change it."""
    config.write_text(text, "utf-8")
    for attempt in (
        lambda: change(config, {"server.port": 1}),
        lambda: replace(config, "version = 1\n", instead_of="other"),
    ):
        with pytest.raises(DorkError):
            attempt()
    assert create(config, {"server.port": 1}) is False
    assert config.read_text("utf-8") == text


def test_a_form_that_the_editor_does_not_get_right_is_left_alone(config: Path) -> None:
    """A section written as a plain value cannot take a key."""
    config.write_text("server = 1\n", "utf-8")
    with pytest.raises(DorkError, match="no table"):
        change(config, {"server.port": 1})
    assert config.read_text("utf-8") == "server = 1\n"


def test_the_file_is_its_owners_alone_and_a_link_keeps_leading(tmp_path: Path) -> None:
    """It may hold a password, and may lie among a person's other settings."""
    real = tmp_path / "dotfiles" / "dork.toml"
    real.parent.mkdir()
    real.write_text("", "utf-8")
    config = tmp_path / "home" / "config.toml"
    config.parent.mkdir()
    config.symlink_to(real)
    change(config, {"server.port": 1})
    assert config.is_symlink()
    assert "port = 1" in real.read_text("utf-8")
    assert real.stat().st_mode & 0o777 == 0o600


def test_writers_at_once_lose_nothing_of_each_other(config: Path) -> None:
    """Each reads, changes and writes in its turn."""
    edits: list[dict[str, object]] = [
        {"server.port": 5000},
        {"logging.level": "debug"},
        {"backups.keep": 3},
        {"relay.maxHops": 9},
    ]
    threads = [threading.Thread(target=change, args=(config, edit)) for edit in edits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    values = read_layers(config)[0].values
    assert [edit for edit in edits if any(values.get(key) != value for key, value in edit.items())] == []


def test_an_edit_by_hand_is_kept_only_if_a_server_would_start_with_it(config: Path) -> None:
    """And only instead of what was edited."""
    with pytest.raises(DorkError) as refusal:
        replace(config, "[server]\nport = 70000\n", instead_of=_WRITTEN)
    assert refusal.value.code is ErrorCode.INVALID_SETTING
    with pytest.raises(DorkError) as refusal:
        replace(config, "[server]\nport = 7\n", instead_of="what it said before")
    assert refusal.value.code is ErrorCode.CONFLICT
    assert config.read_text("utf-8") == _WRITTEN
    replace(config, "[server]\nport = 7\n[x]\ny = 1\n", instead_of=_WRITTEN)
    assert read_text(config) == "[server]\nport = 7\n[x]\ny = 1\n"


def test_a_file_is_made_once_and_can_be_set_aside(tmp_path: Path) -> None:
    """Setting aside keeps it under another name, and never takes another's place."""
    config = tmp_path / "config.toml"
    assert set_aside(config, "1") is None
    assert create(config, {"server.port": 5000}) is True
    assert create(config, {"server.port": 6000}) is False
    assert read_layers(config)[0].values == {"version": 1, "server.port": 5000}
    place = set_aside(config, "1")
    assert place == tmp_path / "config.toml.1.bak"
    assert read_text(config) is None
    create(config, {})
    with pytest.raises(DorkError, match="exists already"):
        set_aside(config, "1")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Nothing is made anywhere else."""
    (tmp_path / "home").write_text("no folder", "utf-8")
    with pytest.raises(DorkError) as refusal:
        change(tmp_path / "home" / "config.toml", {"server.port": 1})
    assert refusal.value.code is ErrorCode.INVALID_SETTING
