"""The commands in the documentation do what the documentation says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.server_process import ServerProcess

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(page: str) -> list[str]:
    """The lines that begin with `$ ` in console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def example_manifest(page: str) -> str:
    """The manifest that the page shows."""
    found = re.search(r"```json\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_getting_started_works_as_written(tmp_path: Path) -> None:
    """Every command of the page succeeds, in order, on a fresh server."""
    folder = tmp_path / "my projects"
    manifest = folder / "agents" / "echo" / ".dork" / "agent.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(example_manifest("getting-started.md"), encoding="utf-8")
    lines = commands("getting-started.md")
    assert len(lines) > 8

    with ServerProcess(tmp_path / "home", boundary=folder) as server:
        environment = server.environment | {
            "PATH": f"{Path(sys.executable).parent}:{server.environment['PATH']}",
        }
        for line in lines:
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
