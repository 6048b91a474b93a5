"""The command line as a whole: help, misuse, refusals, faults, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer.main

from dorkos import __version__
from dorkos.cli import status
from dorkos.cli.main import app
from dorkos.errors import ERRORS, ErrorCode
from tests.cli.conftest import Dorkos
from tests.cli.scripted_server import ScriptedServer
from tests.cli.terminal import call

# For each exit code, the first error code that has it.
_ONE_OF_EACH_CLASS = tuple({row.exit_code: code for code, row in reversed(list(ERRORS.items()))}.values())


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    members = getattr(command, "commands", None)
    if members is None:
        yield path
        return
    for name, member in members.items():
        yield from _commands(member, (*path, name))


COMMANDS = tuple(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    """It fits 80 columns, and the example is that command on a line of its own."""
    done = call(*path, "--help", environment={"COLUMNS": "80"})
    lines = done.out.splitlines()
    assert done.code == 0
    assert max(map(len, lines)) <= 80
    assert any(line.strip().startswith("dorkos " + " ".join(path)) for line in lines), done.out
    assert "--json" in done.out


def test_every_command_of_the_first_version_is_there() -> None:
    """What the guide and the issue of users name can be called."""
    nouns: dict[str, set[str]] = {}
    for path in COMMANDS:
        nouns.setdefault(path[0], set()).update(path[1:])
    first = {
        "up": set(),
        "status": set(),
        "doctor": set(),
        "events": set(),
        "mcp": set(),
        "fleet": {"hold", "drain", "stop", "resume"},
        "db": {
            "adopt", "backup", "check", "digest", "export", "import",
            "migrate", "rehearse", "restore", "revision", "status", "transfer", "verify",
        },
        "pulse": {
            "add", "edit", "preview", "list", "run", "runs", "show", "logs", "cancel", "pause", "resume",
            "delete", "test", "stats", "missed", "simulate",
        },
        "approvals": {"list", "show", "approve", "reject"},
        "runtime": {"list", "test"},
        "relay": {
            "send", "messages", "endpoints", "open", "close", "inbox", "claim", "ack", "nack", "dead-letters",
            "explain", "rules", "list", "add", "remove", "adapters", "watch",
            "request", "await", "reply", "close-circuit", "trace", "metrics", "search", "show", "redrive",
            "purge", "export",
        },
        "mesh": {
            "discover", "schema", "register", "list", "inspect", "update", "move", "token", "ping", "status",
            "topology", "access", "reconcile", "unregister", "deny", "denied", "allow",
        },
    }  # fmt: skip
    assert {noun: words - nouns[noun] for noun, words in first.items() if not words <= nouns[noun]} == {}


@pytest.mark.parametrize("words", [(), ("pulse",), ("relay",), ("mesh",), ("db",)])
def test_a_noun_without_a_verb_shows_its_help(words: tuple[str, ...]) -> None:
    """As misuse, because nothing was done."""
    done = call(*words, environment={})
    assert done.code == 2
    assert "Usage: dorkos" in done.out


@pytest.mark.parametrize(
    "words", [("--json",), ("--json", "pulse"), ("pulse", "--json"), ("--json", "token"), ("db", "--json")]
)
def test_a_noun_without_a_verb_is_one_json_document_where_json_was_asked_for(words: tuple[str, ...]) -> None:
    """A program reads standard output, in which help would be noise; it learns which verbs there are."""
    done = call(*words, environment={})
    assert (done.code, done.json["code"], done.err) == (2, "usage", "")


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("pulse", "lst"),
        ("status", "--nonsense"),
        ("status", "extra"),
        ("pulse", "run"),
        ("pulse", "runs", "--limit", "many"),
        ("pulse", "runs", "--limit", "501"),
        ("status", "--home"),
        ("status", "--token", ""),
        ("status", "--url", ""),
        ("--json",),
    ],
    ids=" ".join,
)
def test_misuse_is_told_like_any_refusal(words: tuple[str, ...], home: Path) -> None:
    """Exit code 2, `error:` and `hint:` on standard error, and the same as JSON."""
    environment = {"DORK_HOME": str(home)}
    as_json = call("--json", *words, environment=environment)
    assert (as_json.code, as_json.json["code"], as_json.err) == (2, "usage", "")
    if "--json" not in words:
        done = call(*words, environment=environment)
        error, hint = done.err.splitlines()
        assert (done.code, done.out) == (2, "")
        assert error == f"error: {as_json.json['error']} (usage)"
        assert hint == f"hint: {as_json.json['hint']}"
        assert "--help` shows" in hint


@pytest.mark.parametrize("code", _ONE_OF_EACH_CLASS)
def test_each_refusal_has_its_exit_code_and_the_servers_shape(
    scripted: ScriptedServer, code: ErrorCode, home: Path
) -> None:
    """With --json standard output holds exactly the body that REST gave."""
    body = {"error": "It says\nno.", "code": code.value, "details": {"a": [1]}, "hint": "Do this."}
    environment = {"DORK_HOME": str(home), "DORKOS_URL": scripted.url, "DORKOS_TOKEN": "t"}
    scripted.answer(body, ERRORS[code].http_status)
    scripted.answer(body, ERRORS[code].http_status)

    as_json = call("status", "--json", environment=environment)
    as_text = call("status", environment=environment)

    assert as_json.code == as_text.code == ERRORS[code].exit_code
    assert (as_json.json, as_json.err) == (body, "")
    assert (as_text.out, as_text.err) == ("", f"error: It says no. ({code.value})\nhint: Do this.\n")


@pytest.mark.parametrize("line", ["--json mesh list", "mesh --json list", "mesh list --json"])
def test_shared_options_stand_where_one_likes(scripted: ScriptedServer, home: Path, line: str) -> None:
    """Before the noun, after it, and after the verb; the innermost wins."""
    scripted.answer({"agents": [], "nextCursor": None})
    words = line.split()
    place = words.index("--json")
    given = ("--url", scripted.url, "--token", "t", "--home", str(home))
    done = call(*words[:place], *given, *words[place:], environment={"DORKOS_URL": "http://127.0.0.1:1"})
    assert done.json == {"agents": [], "nextCursor": None}


def test_words_behind_two_dashes_belong_to_the_program(home: Path) -> None:
    """Its --json is not ours, so the refusal is text."""
    done = call("pulse", "add", "x", "--manual", "--", "tool", "--json", environment={"DORK_HOME": str(home)})
    assert done.code == 6
    assert done.err.startswith("error: ")


def test_no_server_is_told_with_the_way_to_start_one(home: Path) -> None:
    """Exit code 6 in a directory where none was ever started."""
    done = call("status", "--json", environment={"DORK_HOME": str(home)})
    assert (done.code, done.json["code"]) == (6, "not_running")
    assert "dorkos up" in done.json["hint"]
    assert not home.exists()


def test_the_version_is_told() -> None:
    """As text and as JSON."""
    assert call("--version", environment={}).out == f"dorkos {__version__}\n"
    assert call("--json", "--version", environment={}).json == {"version": __version__}


def test_a_fault_of_ours_is_told_without_a_traceback(tmp_path: Path) -> None:
    """The outside sees `internal_error` and where the details are; the file has them."""
    with (
        mock.patch.object(status, "find_url", side_effect=RuntimeError("a secret path")),
        mock.patch("tempfile.tempdir", str(tmp_path)),
    ):
        done = call("status", environment={})
        as_json = call("status", "--json", environment={})
    assert done.code == as_json.code == 70
    assert as_json.json["code"] == "internal_error"
    assert "Traceback" not in done.err + as_json.out
    assert "a secret path" not in done.err + as_json.out
    report = next(Path(word.rstrip(".")) for word in done.err.split() if word.startswith(str(tmp_path)))
    assert "RuntimeError: a secret path" in report.with_suffix(".log").read_text(encoding="utf-8")


def test_ctrl_c_ends_quietly() -> None:
    """With the exit code that a shell gives to an interrupted program."""
    with mock.patch.object(status, "find_url", side_effect=KeyboardInterrupt):
        done = call("status", environment={})
    assert (done.code, done.out, done.err) == (130, "", "")


def test_the_shell_can_ask_what_comes_next() -> None:
    """Completion of nouns and verbs works, also behind options."""
    asked = {"_DORKOS_COMPLETE": "complete_bash", "COMP_WORDS": "dorkos --json pulse r", "COMP_CWORD": "3"}
    command = [sys.executable, "-m", "dorkos"]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert set(done.stdout.split()) == {"run", "runs", "resume"}


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    """`dorkos … | head -1` shows no complaint, and the exit code does not claim an answer."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dorkos", "--version"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_that_lacks_letters_gets_escapes(tmp_path: Path) -> None:
    """An ASCII-only terminal ends no command, and JSON stays JSON."""
    home = tmp_path / "zürich"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "DORK_HOME": str(home)}

    def status_of(*words: str) -> str:
        command = [sys.executable, "-m", "dorkos", "db", "status", *words]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode(
            "ascii"
        )

    assert "z\\xfcrich" in status_of()
    assert json.loads(status_of("--json"))["location"] == str(home / "dork.db")


@pytest.mark.parametrize("part", [".", ".."])
def test_an_id_that_an_address_would_swallow_is_refused(dorkos: Dorkos, part: str) -> None:
    """It would reach another operation: the list of runs would be answered as a run."""
    done = dorkos("pulse", "show", part, "--json")

    assert (done.code, done.json["code"]) == (2, "usage")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_answer_that_cannot_be_written_is_told_as_that(more: tuple[str, ...]) -> None:
    """Not as a fault that invites to repeat: what the command did is done."""
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "dorkos", "--version", *more]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert done.returncode == 74
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_no_fault() -> None:
    """Started with `>&-` there is nobody to tell, and the exit code says how it went."""
    command = f"'{sys.executable}' -m dorkos --version >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
