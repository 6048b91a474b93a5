"""The files by which a machine starts the server by itself, written below a home of the test's own."""

from __future__ import annotations

import json
import os
import plistlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dorkos.cli import service_files
from tests.cli.terminal import call

# Everything that a unit's file would read as something else.
_ODD = "a b\"c\\d%n$HOME'é"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home in which nothing is yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return {"HOME": str(tmp_path), "PATH": "/opt/my agents/bin:/usr/bin", "DORK_HOME": str(tmp_path / "dork")}


def answer(environment: dict[str, str], *words: str) -> Any:
    """What the command says in JSON."""
    done = call("service", *words, "--json", environment=environment)
    assert done.code == 0, done.err + done.out
    return json.loads(done.out)


def test_a_unit_is_written_found_and_taken_away(environment: dict[str, str]) -> None:
    """Nothing is switched on by it: what would do so is told."""
    made = answer(environment, "install", "--manager", "systemd")
    path = Path(environment["HOME"]) / ".config" / "systemd" / "user" / "dorkos.service"
    assert (made["path"], made["changed"], made["enabled"], made["ran"]) == (str(path), True, False, [])
    assert made["next"][-1] == "systemctl --user enable --now dorkos.service"
    text = path.read_text("utf-8")
    [start] = [line.removeprefix("ExecStart=") for line in text.splitlines() if line.startswith("ExecStart=")]
    assert shlex.split(start) == [sys.executable, "-m", "dorkos", "--home", environment["DORK_HOME"], "up"]
    assert f'Environment="PATH={environment["PATH"]}"' in text

    assert not answer(environment, "install", "--manager", "systemd")["changed"]
    found = answer(environment, "status", "--manager", "systemd")
    assert (found["installed"], found["current"]) == (True, True)
    path.write_text(text + "# mine\n", "utf-8")
    assert not answer(environment, "status", "--manager", "systemd")["current"]
    assert answer(environment, "uninstall", "--manager", "systemd")["changed"]
    assert not path.exists()
    assert not answer(environment, "uninstall", "--manager", "systemd")["changed"]
    assert not answer(environment, "status", "--manager", "systemd")["installed"]


def test_an_agent_of_launchd_is_a_whole_property_list(environment: dict[str, str]) -> None:
    """It starts at login, and again after a fault but not after a stop."""
    made = answer(environment, "install", "--manager", "launchd", "--name", "second")
    path = Path(environment["HOME"]) / "Library" / "LaunchAgents" / "dorkos.second.plist"
    assert made["path"] == str(path)
    values = plistlib.loads(path.read_bytes())
    assert values["Label"] == "dorkos.second"
    assert values["ProgramArguments"][-3:] == ["--home", environment["DORK_HOME"], "up"]
    assert values["EnvironmentVariables"] == {"PATH": environment["PATH"]}
    assert (values["RunAtLoad"], values["KeepAlive"]) == (True, {"SuccessfulExit": False})
    # launchd makes no folders, and starts nothing whose log it cannot open.
    assert Path(values["StandardOutPath"]).parent.stat().st_mode & 0o777 == 0o700
    assert answer(environment, "uninstall", "--manager", "launchd", "--name", "second")["changed"]
    assert not path.exists()


def test_both_managers_are_told_the_same(tmp_path: Path) -> None:
    """The same program, environment, restart after a fault, patience with a stop, and mask of new files."""
    argv = (sys.executable, "-m", "dorkos", "--home", str(tmp_path / _ODD), "up")
    service = service_files.Service("dorkos", argv, (("PATH", _ODD),), tmp_path / _ODD, tmp_path / "log")
    plist = plistlib.loads(service_files.agent(service).encode("utf-8"))
    lines = service_files.unit(service).splitlines()
    unit = dict(line.split("=", 1) for line in lines if "=" in line and line[0] not in "#[")

    def read(text: str, *, dollars: bool) -> list[str]:
        """The words as systemd reads them."""
        words = shlex.split(text.replace("%%", "%"))
        return [word.replace("$$", "$") for word in words] if dollars else words

    assert plist["ProgramArguments"] == list(argv) == read(unit["ExecStart"], dollars=True)
    told = [f"{key}={value}" for key, value in plist["EnvironmentVariables"].items()]
    assert told == [f"PATH={_ODD}"] == read(unit["Environment"], dollars=False)
    assert (plist["KeepAlive"], unit["Restart"]) == ({"SuccessfulExit": False}, "on-failure")
    assert plist["ExitTimeOut"] == int(unit["TimeoutStopSec"]) == 60
    assert plist["Umask"] == int(unit["UMask"], 8) == 0o077
    assert (plist["RunAtLoad"], unit["WantedBy"]) == (True, "default.target")
    for text in (service_files.unit(service), service_files.agent(service)):
        assert service_files.is_ours(text)


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_file_of_somebody_else_stays(environment: dict[str, str], verb: str) -> None:
    """Until the person says that it may go."""
    path = Path(environment["HOME"]) / ".config" / "systemd" / "user" / "dorkos.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/mine\n", "utf-8")
    done = call("service", verb, "--manager", "systemd", "--json", environment=environment)
    assert (done.code, json.loads(done.out)["code"]) == (4, "conflict")
    assert path.read_text("utf-8") == "[Service]\nExecStart=/mine\n"
    assert answer(environment, verb, "--manager", "systemd", "--force")["changed"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("install", "--name", "../x"), "usage"),
        (("install", "--name", ""), "usage"),
        (("install", "--manager", "cron"), "usage"),
        (("install", "--home", "/tmp/a\nb"), "invalid_text"),
        (("install", "--home", "/tmp/a\udce9"), "invalid_text"),
    ],
)
def test_what_cannot_be_a_service_is_refused(
    environment: dict[str, str], words: tuple[str, ...], code: str
) -> None:
    """A name that leads elsewhere, and a line break, which would begin a line of its own."""
    done = call("service", *words, "--json", environment=environment)
    assert (done.code, json.loads(done.out)["code"]) == (2, code)
    assert not (Path(environment["HOME"]) / ".config").exists()


def test_a_manager_that_fails_is_told_and_the_file_stays(environment: dict[str, str], tmp_path: Path) -> None:
    """With what it said; the person can mend that and switch it on by hand."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho no bus here >&2\nexit 1\n", "utf-8")
    program.chmod(0o755)
    environment |= {"PATH": str(program.parent)}
    done = call("service", "install", "--manager", "systemd", "--enable", environment=environment)
    assert done.code == 6
    assert "no bus here" in done.err
    assert (tmp_path / ".config" / "systemd" / "user" / "dorkos.service").exists()


def test_systemd_understands_whatever_a_person_calls_their_folders(tmp_path: Path) -> None:
    """Where `systemd-analyze` is there to be asked; the words are read back as they were in any case."""
    folder = tmp_path / _ODD
    folder.mkdir()
    service = service_files.Service(
        "dorkos",
        (sys.executable, "-m", "dorkos", "--home", str(folder), "up"),
        (("PATH", _ODD),),
        folder,
        folder,
    )
    text = service_files.unit(service)
    assert f'"{tmp_path}/a b\\"c\\\\d%%n$$HOME\'é"' in text
    assert 'Environment="PATH=a b\\"c\\\\d%%n$HOME\'é"' in text
    unit = tmp_path / "dorkos.service"
    unit.write_text(text, "utf-8")
    analyser = shutil.which("systemd-analyze")
    if analyser is not None:
        done = subprocess.run(
            [analyser, "--user", "verify", str(unit)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert str(unit.name) not in done.stderr, done.stderr
