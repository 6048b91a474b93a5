"""Settings as they are shown: no password, and every unknown key by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.config_view import document_of, hidden, meant, no_setting, shown, unknown_keys
from dorkos.settings import SETTINGS, load_settings, settings_of


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:pw@h:5433/n", "postgresql://u:[redacted]@h:5433/n"),
        ("postgresql://u@h/n", "postgresql://u@h/n"),
        ("postgresql://h/n?password=pw&user=u", "postgresql://h/n?[redacted]"),
        ("postgresql://u:pw@[::1]:5/n", "postgresql://u:[redacted]@[::1]:5/n"),
        ("postgresql://u:p@h:pw/n", "[redacted]"),
        ("host=h password=pw", "[redacted]"),
        ("pw", "[redacted]"),
        ("postgresql:pw", "[redacted]"),
    ],
)
def test_a_password_is_hidden_wherever_it_stands_in_the_url(url: str, told: str) -> None:
    """Only what is known to be harmless is let through."""
    assert told == hidden("database.url", url)
    assert document_of(settings_of({"database.url": url}))["database"]["url"] == told


def test_of_a_list_of_secrets_only_their_number_is_told() -> None:
    """What must not stand in a run's output must not stand in an answer either."""
    assert hidden("scheduler.redactPatterns", ["swordfish", "sk-*"]) == ["[redacted]", "[redacted]"]
    assert hidden("scheduler.redactPatterns", []) == []


def test_every_setting_is_shown_with_its_value_and_its_source(tmp_path: Path) -> None:
    """In the order of the reference."""
    config = tmp_path / "config.toml"
    config.write_text("[server]\nport = 1\n", "utf-8")
    rows = shown(load_settings(config, environment={"DORKOS_HOST": "::1"}))
    assert [one.row for one in rows] == list(SETTINGS)
    told = {one.row.key: (one.value, one.source) for one in rows}
    assert told["server.port"] == (1, f"file {config}")
    assert told["server.host"] == ("::1", "environment")
    assert told["logging.level"] == ("info", "default")


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("server.Port", "server.port"),
        ("port", "server.port"),
        ("mesh.scan_roots", "mesh.scanRoots"),
        ("scheduler.timezon", "scheduler.timezone"),
        ("completely.different.thing", None),
        ("enabled", None),
    ],
)
def test_a_key_is_guessed_where_one_is_likely(typed: str, key: str | None) -> None:
    """And none where several would be."""
    assert meant(typed) == key
    assert (f"did you mean {key}?" in no_setting(typed)) is (key is not None)


def test_what_nothing_reads_is_told_by_file(tmp_path: Path) -> None:
    """A mistyped key is the reason that a setting has no effect; the lineage's own are told as such."""
    (tmp_path / "config.json").write_text(
        '{"version": 1, "ui": {"theme": "dark"}, "__internal__": {"migrations": {"version": "1.0.0"}}}',
        "utf-8",
    )
    config = tmp_path / "config.toml"
    config.write_text("version = 1\n[server]\nprot = 1\nport = 2\n", "utf-8")
    found = unknown_keys(config)
    assert [(one.key, one.meant, one.is_lineage) for one in found] == [
        ("ui.theme", None, True),
        ("server.prot", "server.port", False),
    ]
    assert found[1].source == f"file {config}"
    assert "DorkOS for Node had this" in no_setting("ui.theme")
