"""Settings: one precedence for all of them, and a refusal that names the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.settings import SETTINGS, SettingRow, default_home, load_settings


def write(path: Path, text: str) -> Path:
    """A settings file with this content."""
    path.write_text(text, encoding="utf-8")
    return path


def test_a_flag_beats_the_environment_which_beats_the_files_which_beat_the_default(tmp_path: Path) -> None:
    """Each layer is seen once everything above it is gone, and each value tells its source."""
    config = write(tmp_path / "config.toml", "[server]\nport = 1\n")
    lineage = write(tmp_path / "config.json", '{"server": {"port": 9}}')
    environment = {"DORKOS_PORT": "2"}
    flags = {"server.port": 3}

    loaded = [
        load_settings(config, environment=environment, flags=flags),
        load_settings(config, environment=environment),
        load_settings(config, environment={}),
    ]
    config.unlink()
    loaded.append(load_settings(config, environment={}))
    lineage.unlink()
    loaded.append(load_settings(config, environment={}))

    assert [one.values.server.port for one in loaded] == [3, 2, 1, 9, 4242]
    assert ["flag", "environment", f"file {config}", f"file {lineage}", "default"] == [
        one.sources["server.port"] for one in loaded
    ]


def test_false_in_the_environment_beats_true_in_the_file(tmp_path: Path) -> None:
    """Off is a value like any other."""
    config = write(tmp_path / "config.toml", "[scheduler]\nenabled = true\n")

    loaded = load_settings(config, environment={"DORKOS_PULSE_ENABLED": "false"})

    assert loaded.values.scheduler.enabled is False


@pytest.mark.parametrize(
    ("environment", "setting"),
    [
        ({"DORKOS_PORT": "70000"}, "server.port"),
        ({"DORKOS_PORT": "4242x"}, "server.port"),
        ({"DORKOS_PULSE_ENABLED": "perhaps"}, "scheduler.enabled"),
        ({"DORKOS_LOG_LEVEL": "loud"}, "logging.level"),
        ({"DORKOS_MAX_CONCURRENT_RUNS": "0"}, "scheduler.maxConcurrentRuns"),
        ({"DORKOS_MESSAGE_TTL_SECONDS": "99999999999999"}, "relay.messageTtlSeconds"),
        ({"DORKOS_MAX_MAILBOX_SIZE": "99999999999999999999"}, "relay.maxMailboxSize"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_source(
    tmp_path: Path, environment: dict[str, str], setting: str
) -> None:
    """The person learns which setting to mend and where it was set."""
    with pytest.raises(DorkError) as refusal:
        load_settings(tmp_path / "absent.toml", environment=environment)

    assert refusal.value.code == ErrorCode.INVALID_SETTING
    assert {"setting": setting, "source": "environment"} == refusal.value.details


def test_keys_of_another_version_are_ignored(tmp_path: Path) -> None:
    """A newer build's settings neither stop nor change this one."""
    config = write(tmp_path / "config.toml", 'version = 1\n[ui]\ntheme = "dark"\n[server]\ncolour = 1\n')

    assert load_settings(config, environment={}).values.server.port == 4242


@pytest.mark.parametrize("text", ["server = 5\n", "server = []\n", "[[server]]\nport = 1\n"])
def test_a_section_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    """Passed over, its settings would have their defaults, and nobody would know."""
    config = write(tmp_path / "config.toml", text)
    with pytest.raises(DorkError, match=r"server .*must be a table") as refusal:
        load_settings(config, environment={})
    assert refusal.value.code is ErrorCode.INVALID_SETTING


@pytest.mark.parametrize(
    "text", ["[server]\nport = true\n", "[backups]\nkeep = false\n", '[server]\nhost = "evil\\nx"\n']
)
def test_what_python_would_take_for_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """True is no port 1, and no address has a line break in it."""
    with pytest.raises(DorkError) as refusal:
        load_settings(write(tmp_path / "config.toml", text), environment={})
    assert refusal.value.code is ErrorCode.INVALID_SETTING


def test_a_refused_value_is_shown_unless_a_password_may_stand_in_it(tmp_path: Path) -> None:
    """The message may end in a log or in a bug report."""
    config = write(tmp_path / "config.toml", "[database]\nurl = 17\n[server]\nport = 70000\n")

    with pytest.raises(DorkError) as of_port:
        load_settings(config, environment={"DORKOS_DATABASE_URL": "postgresql://h/n"})
    with pytest.raises(DorkError) as of_url:
        load_settings(config, environment={"DORKOS_PORT": "1"})

    assert "server.port = 70000" in of_port.value.message
    assert "17" not in of_url.value.message


def test_every_setting_has_its_own_environment_variable() -> None:
    """Two settings on one variable would be changed together."""
    names = [row.env for row in SETTINGS]

    assert len(names) == len(set(names))


def test_the_data_directory_comes_from_dork_home_and_expands_the_tilde(tmp_path: Path) -> None:
    """The one place that decides it."""
    assert tmp_path == default_home({"DORK_HOME": str(tmp_path)})
    assert Path.home() / "x" == default_home({"DORK_HOME": "~/x"})
    assert Path.home() / ".dork" == default_home({})


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS if type(row.default) is int], ids=lambda row: row.key
)
def test_every_number_has_an_upper_bound(tmp_path: Path, row: SettingRow) -> None:
    """A number beyond what the database or the calendar takes is refused here, not later in a change."""
    with pytest.raises(DorkError) as refusal:
        load_settings(tmp_path / "absent.toml", environment={row.env: str(2**63)})

    assert refusal.value.code is ErrorCode.INVALID_SETTING


@pytest.mark.parametrize("pattern", ["", "*", "ab*", "abc", "a*b*c*d", "abcd**"])
def test_a_pattern_that_would_hide_everything_is_refused(tmp_path: Path, pattern: str) -> None:
    """A `*` stands at the end alone, behind three characters or more."""
    config = write(tmp_path / "config.toml", f'[scheduler]\nredactPatterns = ["swordfish", "{pattern}"]\n')
    with pytest.raises(DorkError) as refusal:
        load_settings(config, environment={})

    assert refusal.value.code is ErrorCode.INVALID_SETTING
