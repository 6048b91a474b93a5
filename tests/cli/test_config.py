"""`dorkos config` and `dorkos init`, with a server and without one."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Dorkos
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess


def at(home: Path, *words: str, **environment: str) -> Done:
    """Call `dorkos` on a data directory."""
    return call(*words, environment={"DORK_HOME": str(home), **environment})


def test_a_setting_is_set_shown_and_unset_without_a_server(home: Path) -> None:
    """In a directory that the first `set` makes."""
    assert at(home, "config", "get", "server.port").out == "4242\n"
    assert not home.exists()
    assert at(home, "config", "set", "server.port", "5000").out == "Changed server.port.\n"
    assert at(home, "config", "get", "server.port").out == "5000\n"
    assert stat.S_IMODE((home / "config.toml").stat().st_mode) == 0o600
    rows = {row["key"]: row for row in at(home, "config", "--json").json}
    assert rows["server.port"]["source"] == f"file {home / 'config.toml'}"
    assert "config.toml" in at(home, "config", "list").out
    assert at(home, "config", "unset", "server.port").code == 0
    assert at(home, "config", "unset", "server.port").out.startswith("The file says so already.")
    assert at(home, "config", "get", "server.port").out == "4242\n"


def test_lists_and_nothing_have_their_words(home: Path) -> None:
    """Several values make a list, `null` takes a setting out, and what has no value prints an empty line."""
    assert at(home, "config", "set", "mesh.scanRoots", "/a", "/b").code == 0
    assert at(home, "config", "get", "mesh.scanRoots").out == "/a /b\n"
    assert at(home, "config", "set", "mesh.scanRoots", "null").code == 0
    assert at(home, "config", "get", "mesh.scanRoots").out == "\n"
    assert at(home, "config", "get", "scheduler.timezone").out == "\n"
    assert at(home, "config", "set", "server.port", "1", "2").code == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("get", "server.prot"), 3, "did you mean server.port?"),
        (("set", "server.port", "70000"), 2, "server.port"),
        (("set", "server.prot", "1"), 2, "server.port?"),
        (("set", "scheduler.timezone", "Mars/X"), 2, "IANA"),
    ],
)
def test_a_refusal_says_what_to_mend(home: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """And nothing is written."""
    done = at(home, "config", *words)
    assert (done.code, told in done.err) == (code, True), done.err
    assert not (home / "config.toml").exists()


def test_a_change_after_which_no_server_would_start_is_told(home: Path) -> None:
    """It is made all the same: a second one may belong to it."""
    done = at(home, "config", "set", "server.host", "0.0.0.0")
    assert (done.code, "No server would start" in done.err) == (0, True)
    done = at(home, "config", "set", "server.allowedHosts", "box.example")
    assert (done.code, done.err) == (0, "")


def test_a_secret_is_never_printed(home: Path) -> None:
    """Neither by get, nor list, nor as JSON, nor in the warning that it now stands in a file."""
    done = at(home, "config", "set", "database.url", "postgresql://u:swordfish@h/n")
    assert "DORKOS_DATABASE_URL" in done.err
    for words in (("get", "database.url"), ("list",), ("list", "--json"), ("validate",)):
        assert "swordfish" not in at(home, "config", *words).out
    assert at(home, "config", "get", "database.url").out == "postgresql://u:[redacted]@h/n\n"


def test_the_running_server_is_told(dorkos: Dorkos, server: ServerProcess) -> None:
    """A live setting holds at once, another from the next start on; a start's flags show."""
    done = dorkos("config", "set", "relay.maxHops", "7")
    assert "relay.maxHops: from the next start of the server on." in done.out
    rows = {row["key"]: row for row in dorkos("config", "--json").json}
    assert (rows["relay.maxHops"]["value"], rows["relay.maxHops"]["coming"]) == (5, 7)
    assert rows["server.boundary"]["source"] == "environment"
    assert "relay.maxHops becomes 7" in dorkos("config").out
    done = dorkos("config", "set", "logging.level", "debug")
    assert "next start" not in done.out
    assert dorkos("config", "get", "logging.level").out == "debug\n"
    assert dorkos("config", "unset", "relay.maxHops", "logging.level").code == 0


def test_a_run_may_not_change_settings_behind_the_servers_back(home: Path) -> None:
    """Without a token of its own it is refused, whether a server runs or not."""
    for words in (("set", "server.port", "1"), ("unset", "server.port"), ("edit",), ("reset", "--yes")):
        done = at(home, "config", *words, DORKOS_RUN_ID="01JD8Q2M5W7ZC3K9VXN4T6BRAE", EDITOR="true")
        assert done.code == 5, done
    assert at(home, "init", "--yes", DORKOS_RUN_ID="01JD8Q2M5W7ZC3K9VXN4T6BRAE").code == 5
    assert not home.exists()


def test_validate_names_what_is_wrong_and_what_nothing_reads(home: Path) -> None:
    """Exit code 1, and nothing is changed."""
    assert at(home, "config", "validate").code == 0
    home.mkdir()
    file = home / "config.toml"
    file.write_text("[server]\nprot = 1\n", "utf-8")
    done = at(home, "config", "validate", "--json")
    assert (done.code, done.json["ok"], len(done.json["problems"])) == (1, False, 1)
    for text, told in (
        ('[server]\nhost = "0.0.0.0"\n', "no name is allowed"),
        ('[server]\nboundary = "/no/such/folder"\n', "no directory"),
        ('[scheduler]\ntimezone = "Mars/X"\n', "IANA"),
        ('[database]\nurl = "mysql://u:swordfish@h/n"\n', "PostgreSQL"),
    ):
        file.write_text(text, "utf-8")
        done = at(home, "config", "validate")
        assert (done.code, told in done.out, "swordfish" in done.out) == (1, True, False), done
    file.write_text("[server\n", "utf-8")
    done = at(home, "config", "validate")
    assert (done.code, "line 1" in done.out) == (1, True)
    assert file.read_text("utf-8") == "[server\n"


def test_an_edit_is_taken_over_only_if_a_server_would_start_with_it(home: Path, tmp_path: Path) -> None:
    """Else the draft is kept, and its place told."""
    editor = tmp_path / "an editor"
    editor.write_text('#!/bin/sh\nprintf "%s\\n" "$TEXT" > "$1"\n', "utf-8")
    editor.chmod(0o755)
    edit = {"EDITOR": f"'{editor}'", "VISUAL": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEXT", "[server]\nport = 5000")
        assert at(home, "config", "edit", **edit).out == "Changed.\n"
        assert at(home, "config", "get", "server.port").out == "5000\n"
        patch.setenv("TEXT", "[server]\nport = 70000")
        done = at(home, "config", "edit", **edit)
    assert done.code != 0
    draft = Path(done.err.strip().rsplit(" ", 1)[-1].rstrip("."))
    assert "70000" in draft.read_text("utf-8")
    draft.unlink()
    assert at(home, "config", "get", "server.port").out == "5000\n"
    assert at(home, "config", "edit", EDITOR="true", VISUAL="").out == "Nothing was changed.\n"
    assert at(home, "config", "edit", EDITOR="false", VISUAL="").code == 2
    assert at(home, "config", "edit", EDITOR="/no/such/editor", VISUAL="").code == 2
    done = at(home, "config", "edit", EDITOR="", VISUAL="")
    assert (done.code, "Nobody is here" in done.err) == (2, True)


def test_a_reset_keeps_the_old_file(home: Path) -> None:
    """Of all settings only when somebody says yes; of one it takes out the line."""
    at(home, "config", "set", "server.port", "5000")
    at(home, "config", "set", "relay.maxHops", "7")
    assert at(home, "config", "reset", "relay.maxHops").code == 0
    assert at(home, "config", "reset").code == 2
    answer = at(home, "config", "reset", "--yes", "--json").json
    assert "5000" in Path(answer["keptAs"]).read_text("utf-8")
    assert at(home, "config", "get", "server.port").out == "4242\n"
    assert at(home, "config", "reset", "--yes", "--json").json["keptAs"] is None
    assert at(home, "config", "path").out == f"{home / 'config.toml'}\n"


def test_init_without_questions_writes_a_file_and_keeps_the_old(home: Path) -> None:
    """And where nobody can answer, it says how to do without."""
    assert at(home, "init").code == 2
    assert at(home, "init", "--yes").code == 0
    assert "version = 1" in (home / "config.toml").read_text("utf-8")
    kept = at(home, "init", "--yes", "--json").json["keptAs"]
    assert kept is not None
    assert Path(kept).exists()


def test_init_asks_and_writes_what_differs_from_the_default(home: Path, tmp_path: Path) -> None:
    """A wrong answer is asked again at once. On a real terminal, with an old file that is put aside."""
    home.mkdir()
    (home / "config.toml").write_text("[server]\nport = 7\n", "utf-8")
    answers = ["y", "70000", "5000", "", "Mars/X", "Europe/Berlin", f"{tmp_path}, /srv"]
    code, said = _on_a_terminal(home, answers)
    assert code == 0, said
    text = (home / "config.toml").read_text("utf-8")
    assert "port = 5000" in text
    assert 'timezone = "Europe/Berlin"' in text
    assert f'scanRoots = ["{tmp_path}", "/srv"]' in text
    assert "boundary" not in text
    assert len(list(home.glob("config.toml.*.bak"))) == 1
    assert _on_a_terminal(home, ["n"])[0] == 1
    assert (home / "config.toml").read_text("utf-8") == text


def _on_a_terminal(home: Path, answers: list[str]) -> tuple[int, str]:
    master, terminal = pty.openpty()
    environment = {**os.environ, "DORK_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "dorkos", "init"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    )
    try:
        os.write(master, "".join(f"{answer}\n" for answer in answers).encode())
        said = process.communicate(timeout=30)[0]
    finally:
        process.kill()
        os.close(terminal)
        os.close(master)
    return process.returncode, said
