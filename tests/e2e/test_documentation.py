"""The commands in the documentation do what the documentation says."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dorkos.testing import empty_postgres
from tests.cli.terminal import call
from tests.db.legacy.relay_kit import FIXTURES
from tests.server_process import ServerProcess

_COMING = "Coming from DorkOS for Node"
_PLAIN = re.compile(r"dorkos [^$`\\|&;<>()~*?\[\]{}#!]*")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(page: str, *, section: str = "") -> list[str]:
    """The lines that begin with `$ ` in console blocks, of the whole page or of one section."""
    text = (DOCS / page).read_text(encoding="utf-8")
    if section:
        _, heading, after = text.partition(f"## {section}\n")
        assert heading, f"{page} has no section {section}"
        text = after.partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def run_all(lines: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run the lines in order in one folder; each has to succeed.

    Where a shell has nothing to do but to part the words, the command is called in this process: starting
    one takes longer than most commands do.
    """
    environment = environment | {"PATH": f"{Path(sys.executable).parent}:{environment['PATH']}"}
    for line in lines:
        if _PLAIN.fullmatch(line):
            with contextlib.chdir(folder):
                called = call(*shlex.split(line)[1:], environment=environment)
            assert called.code == 0, f"{line}\n{called.out}\n{called.err}"
            continue
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def example_manifest(page: str) -> str:
    """The manifest that the page shows."""
    found = re.search(r"```json\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_stopping_everything_works_as_written(tmp_path: Path) -> None:
    """Every command of the section succeeds, in order, on a fresh server."""
    lines = commands("operating.md", section="Stopping everything for a while")
    assert len(lines) == 3

    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        run_all(lines, tmp_path, server.environment)


def test_the_page_on_pulse_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, on a fresh server."""
    lines = commands("pulse.md")
    assert len(lines) == 12

    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        run_all(lines, tmp_path, server.environment)


def test_the_page_on_mesh_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, on a fresh server, with the manifest that it shows."""
    lines = commands("mesh.md")
    assert len(lines) == 16
    folder = tmp_path / "my projects"
    manifest = folder / "agents" / "scout" / ".dork" / "agent.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(example_manifest("mesh.md"), encoding="utf-8")

    with ServerProcess(tmp_path / "home", boundary=folder) as server:
        run_all(lines, folder, server.environment)


def test_getting_started_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, on a fresh server."""
    folder = tmp_path / "my projects"
    manifest = folder / "agents" / "echo" / ".dork" / "agent.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(example_manifest("getting-started.md"), encoding="utf-8")
    lines = commands("getting-started.md")
    assert len(lines) > 8

    with ServerProcess(tmp_path / "home", boundary=folder) as server:
        run_all(lines, folder, server.environment)


@pytest.mark.timeout(300)
def test_the_page_on_relay_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, on a fresh server."""
    lines = commands("relay.md")
    assert len(lines) > 7

    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        run_all(lines, tmp_path, server.environment)


@pytest.mark.timeout(480)  # Some twenty programs, one after the other.
def test_the_page_on_the_database_works_as_written(tmp_path: Path) -> None:
    """First beside a running server, then without one; the server starts on what was put back."""
    folder = tmp_path / "anywhere"
    folder.mkdir()
    page = "database.md"
    sections = ("While a server runs", "Without a server", "Moving data")
    beside, alone, moving = (commands(page, section=name) for name in sections)
    assert len(beside) > 4
    assert len(alone) > 5
    assert len(moving) > 5
    # A command in no section would not be run; those of the last one are in the next test.
    assert beside + alone + moving + commands(page, section=_COMING) == commands(page)
    with ServerProcess(tmp_path / "home", boundary=folder) as server:
        run_all(beside, folder, server.environment)
        environment = server.environment
    del environment["DORKOS_URL"]
    run_all(alone, folder, environment)
    with empty_postgres() as url:
        run_all(moving, folder, environment | {"POSTGRES_URL": url})
    with ServerProcess(tmp_path / "home", boundary=folder) as server, server.client() as client:
        assert client.get("/api/db/status").status_code == 200


def test_coming_from_node_works_as_written(tmp_path: Path) -> None:
    """Into another home, and then in the old home itself, where the log of a crash still lies."""
    lines = commands("database.md", section=_COMING)
    assert len(lines) > 4
    shutil.copytree(FIXTURES / "home-wal", tmp_path / ".dork")
    others = {name: value for name, value in os.environ.items() if not name.startswith("DORK")}
    run_all(lines, tmp_path, {**others, "HOME": str(tmp_path)})


async def test_the_example_of_a_test_works_as_written() -> None:
    """The page on the database shows how a user's own test gets a database."""
    found = re.search(r"```python\n(.*?)```", (DOCS / "database.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found.group(1), names)
    await names["test_mine"]()


def test_the_page_on_adapters_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds on a fresh server, and its program's request becomes a message."""
    lines = commands("adapters.md")
    assert len(lines) == 12
    found = re.search(r"```python\n(.*?)```", (DOCS / "adapters.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None

    with ServerProcess(tmp_path / "home", boundary=tmp_path) as server:
        run_all(lines, tmp_path, server.environment)
        done = subprocess.run(
            [sys.executable, "-c", found.group(1)],
            env=server.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert '"ok":true' in done.stdout
        with server.client() as client:
            inbox = client.get("/api/relay/endpoints/relay.human.ada/inbox").json()
        # Before or after the file that was dropped, for which the server looks once a second.
        payloads = [message["payload"] for message in inbox["messages"]]
        assert {"build": "green"} in [payload.get("data") for payload in payloads]
