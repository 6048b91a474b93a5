"""What a call of the command line loads: it should start quickly, and a client needs little."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.server_process import ServerProcess

_PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
_SERVER_SIDE = ("sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "psycopg", "pysqlite3", "sqlite3")


def _loaded_by(*words: str, environment: dict[str, str]) -> set[str]:
    """The modules that are loaded when the command has ended."""
    program = (
        "import sys; from dorkos.cli.main import main; code = main(sys.argv[1:]);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        input=_PING,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("db", "status"),
        ("pulse", "list"),
        ("pulse", "runs"),
        ("relay", "messages"),
        ("relay", "endpoints"),
        ("mesh", "list"),
        ("mcp",),
        ("events", "--limit", "1"),
    ],
    ids=" ".join,
)
def test_a_client_loads_neither_database_nor_server(server: ServerProcess, words: tuple[str, ...]) -> None:
    """Not even once the command is through; and none of our own modules for them."""
    if words[0] == "events":
        with server.client() as client:
            epoch = client.get("/api/status").json()["eventCursor"].partition(":")[0]
        words = (*words, "--after", f"{epoch}:0")
    loaded = _loaded_by(*words, environment=server.environment)
    assert "httpx" in loaded
    assert not loaded.intersection((*_SERVER_SIDE, "mcp"))
    assert not {
        name
        for name in loaded
        if name.startswith(("dorkos.db", "dorkos.server", "dorkos.app", "dorkos.offline", "dorkos.serving"))
    }


@pytest.mark.parametrize("words", [("--version",), ("--json", "--version")], ids=" ".join)
def test_the_version_loads_next_to_nothing(server: ServerProcess, words: tuple[str, ...]) -> None:
    """It is what scripts and shells ask most; a package loaded here is time lost in every call."""
    loaded = _loaded_by(*words, environment=server.environment)
    assert not loaded.intersection(("httpx", "pydantic", "rich", *_SERVER_SIDE))
