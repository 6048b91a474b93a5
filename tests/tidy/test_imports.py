"""What a start loads."""

from __future__ import annotations

import subprocess
import sys

# Each costs a tenth of a second or more, and a client needs none of them.
_HEAVY = {"sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "psycopg", "pysqlite3"}
# What only some servers use, who load it then.
_RARE = {"httpx", "rich", "pygments", "jinja2", "mcp", "claude_agent_sdk", "acp", "psycopg"}


def _loaded_by(module: str) -> set[str]:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert module in loaded
    return loaded


def test_the_command_line_starts_light() -> None:
    """The command line loads neither the database nor the server, so that `dorkos status` is quick."""
    assert not _HEAVY.intersection(_loaded_by("dorkos.cli.main"))


def test_a_server_loads_what_it_needs() -> None:
    """A start reads no HTTP client for adapters that nobody has, and no driver of another engine."""
    assert not _RARE.intersection(_loaded_by("dorkos.serving"))
