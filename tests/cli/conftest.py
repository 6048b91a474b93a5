"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

_HERE = Path(__file__).parent

# A command line of this server, as its operator: dorkos("pulse", "list").
Dorkos = Callable[..., Done]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks the shared server is in one group, so that there is one such server."""
    for item in items:
        if item.path.is_relative_to(_HERE) and "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("server of the command line"))


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """Something that answers HTTP as the test says, to see what the client makes of it."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory in which no server was ever started."""
    return tmp_path / "no home"


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the server may touch; its name holds a space and a letter beyond ASCII."""
    folder = tmp_path_factory.mktemp("cli") / "my prøjects"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def server(projects: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server in a process of its own. Tests share it: each uses names of its own."""
    with ServerProcess(tmp_path_factory.mktemp("home"), boundary=projects) as running:
        yield running


@pytest.fixture
def dorkos(server: ServerProcess) -> Dorkos:
    """Calls `dorkos` as the operator of the server, who found it by its data directory."""

    def call_it(*words: str, stdin: bytes = b"", **environment: str) -> Done:
        return call(*words, environment={"DORK_HOME": str(server.home), **environment}, stdin=stdin)

    return call_it
