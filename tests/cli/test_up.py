"""`dorkos up`, started as a person starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Dorkos
from tests.cli.terminal import call
from tests.server_process import ServerProcess


def test_flags_win_over_the_environment(tmp_path: Path) -> None:
    """A port in the environment that cannot be read does not matter when one is given by hand."""
    home = tmp_path / "home"
    with ServerProcess(home, boundary=tmp_path, environment={"DORKOS_PORT": "0"}) as server:
        environment = {**server.environment, "DORKOS_PORT": "nonsense", "DORK_HOME": str(tmp_path / "second")}
        words = [sys.executable, "-m", "dorkos", "up", "--json", "--port", "0", "--host", "127.0.0.1"]
        lines = []
        with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            for line in second.stdout:
                lines.append(json.loads(line)["message"])
                if lines[-1].startswith("DorkOS ready on "):
                    second.terminate()
            assert second.wait(timeout=30) == 0
    assert lines[-1] == "DorkOS stopped"


def test_a_setting_that_is_not_allowed_is_refused(home: Path) -> None:
    """As for every command: code, hint, exit code 2."""
    done = call("up", "--json", environment={"DORK_HOME": str(home), "DORKOS_PORT": "99999"})
    assert (done.code, done.json["code"]) == (2, "invalid_setting")


def test_other_commands_find_the_server_by_its_directory(dorkos: Dorkos, server: ServerProcess) -> None:
    """The server wrote its address there, whatever port it got."""
    assert json.loads((server.home / "server.json").read_text(encoding="utf-8"))["url"] == server.url
    assert dorkos("status").code == 0
