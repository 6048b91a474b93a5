"""What a start loads."""

from __future__ import annotations

import subprocess
import sys

# Each costs a tenth of a second or more, and a client needs none of them.
_HEAVY = {"sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "psycopg", "pysqlite3"}


def test_the_command_line_starts_light() -> None:
    """The command line loads neither the database nor the server, so that `dorkos status` is quick."""
    program = "import sys, dorkos.cli.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "dorkos.cli.main" in loaded
    assert not _HEAVY.intersection(loaded)
