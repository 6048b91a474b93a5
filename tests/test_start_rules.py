"""What a start would be refused for, told before."""

from __future__ import annotations

from pathlib import Path

import pytest

from dorkos.settings import settings_of
from dorkos.start_rules import problem_of, start_problems


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scheduler.timezone", "Mars/Olympus_Mons"),
        ("server.boundary", "relative/folder"),
        ("server.boundary", "/no/such/folder"),
        ("database.url", "mysql://h/n"),
        ("database.url", "h/n"),
        ("server.host", "0.0.0.0"),
    ],
)
def test_each_rule_of_a_start_is_told(key: str, value: str) -> None:
    """Under the key that somebody would have to change, alone."""
    assert set(start_problems(settings_of({key: value}))) == {key}


def test_what_a_server_starts_with_is_no_problem(tmp_path: Path) -> None:
    """Nor is what was left at its default."""
    assert start_problems(settings_of({})) == {}
    settings = {
        "scheduler.timezone": "europe/berlin",
        "server.boundary": str(tmp_path),
        "server.host": "0.0.0.0",
        "server.allowedHosts": ["box.example"],
        "database.url": "postgresql+psycopg://u:p@h/n",
    }
    assert start_problems(settings_of(settings)) == {}


def test_a_password_is_not_repeated() -> None:
    """The message goes to terminals and logs."""
    assert "swordfish" not in (problem_of("database.url", "mysql://u:swordfish@h/n") or "")
