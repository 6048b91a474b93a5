"""What pages say to type: it has to be there."""

from __future__ import annotations

import re

import pytest
import typer.main

from dorkos.cli.main import app
from dorkos.console.render import template_folder

_SAID = re.compile(r'"dorkos ([a-z-]+(?: [a-z][a-z-]*)*)')
SHOWN = sorted(
    {found for page in template_folder().rglob("*.html") for found in _SAID.findall(page.read_text("utf-8"))}
)


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_that_a_page_shows_exists(command: str) -> None:
    """Down to its verb; what comes after is its argument."""
    found: object = typer.main.get_command(app)
    for word in command.split():
        commands = getattr(found, "commands", None)
        if commands is None:
            break
        assert word in commands, f"dorkos {command}"
        found = commands[word]
    # A noun alone only shows its help, unless it says something by itself.
    assert not hasattr(found, "commands") or getattr(found, "invoke_without_command", False)
