"""The runtimes page: its commands work as written, and its example is a runtime."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.cli.terminal import call
from tests.e2e.test_documentation import DOCS, commands, run_all
from tests.server_process import ServerProcess


def example() -> str:
    """The runtime that the page shows."""
    found = re.search(r"```python\n(.*?)```", (DOCS / "runtimes.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_page_and_its_runtime_work_as_written(tmp_path: Path) -> None:
    """In under sixty lines it answers, tells its tool and its tokens, and is found by its name."""
    assert len(example().splitlines()) < 60
    home = tmp_path / "home"
    (home / "runtimes").mkdir(parents=True)
    (home / "runtimes" / "counter.py").write_text(example())
    environment = {**os.environ, "DORK_HOME": str(home), "HOME": str(tmp_path)}
    with ServerProcess(home, boundary=tmp_path, environment={"HOME": str(tmp_path)}):
        run_all(commands("runtimes.md"), tmp_path, environment)

        place = {"DORK_HOME": str(home)}
        listed = {row["name"]: row for row in call("runtime", "list", "--json", environment=place).json}
        assert listed["counter"]["usable"]
        run = call("pulse", "runs", "--limit", "1", "--json", environment=place).json[0]
        assert (run["runtime"], run["state"], run["model"]) == ("counter", "completed", "wc")
        assert run["usage"] == {"inputTokens": 3, "outputTokens": 1}
        assert run["outputSummary"] == "3 words, 0 before.\n"
        output = call("pulse", "logs", run["id"], "--json", environment=place).json["chunks"]
        assert any("tool wc completed" in chunk["text"] for chunk in output)
