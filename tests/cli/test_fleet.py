"""`dorkos fleet`, with a server and without one, and who else tells of the mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dorkos.home import Home
from tests.cli.conftest import Dorkos
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

MAILBOX = "relay.human.fleet"


@pytest.fixture
def fleet_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of this test's own: a hold would stand in the way of all others."""
    with ServerProcess(tmp_path / "served", boundary=tmp_path) as running:
        yield running


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A data directory with a database, in which no server was ever started."""
    home = tmp_path / "stored"
    assert call("db", "migrate", environment={"DORK_HOME": str(home)}).code == 0
    return home


def at(home: Path, *words: str, **environment: str) -> Done:
    """Call `dorkos` on a data directory."""
    return call(*words, environment={"DORK_HOME": str(home), **environment})


def test_a_hold_is_set_shown_and_lifted(fleet_server: ServerProcess) -> None:
    """On the running server: what it refuses meanwhile says how to lift it."""
    home = fleet_server.home
    assert at(home, "relay", "open", MAILBOX).code == 0
    assert "running" in at(home, "fleet").out

    held = at(home, "fleet", "hold", "--reason", "too dear")
    assert held.code == 0
    assert "The fleet is on hold." in held.out
    assert "too dear" in held.out
    assert "dorkos fleet resume" in held.out
    assert "already" in at(home, "fleet", "hold").out

    assert at(home, "relay", "send", MAILBOX, "hello").code == 0
    refused = at(home, "relay", "claim", MAILBOX)
    assert (refused.code, "fleet_on_hold" in refused.err) == (6, True)
    assert "dorkos fleet resume" in refused.err
    lines = dict(line.split(None, 1) for line in at(home, "fleet").out.splitlines())
    assert lines["waiting"] == "0 runs, 1 message"
    assert "on hold since" in at(home, "status").out

    assert "running" in at(home, "fleet", "resume").out
    assert at(home, "relay", "claim", MAILBOX).code == 0
    assert "fleet" not in at(home, "status").out


@pytest.mark.parametrize(
    ("verb", "mode"), [("hold", "hold"), ("drain", "drain"), ("stop", "stop"), ("resume", "running")]
)
def test_each_mode_is_set_without_a_server(stored: Path, verb: str, mode: str) -> None:
    """In a directory where none was ever started; as JSON it is the answer that a server would give."""
    if mode == "running":
        at(stored, "fleet", "hold")
    answer = at(stored, "fleet", verb, "--reason", "why not", "--json").json

    assert (answer["mode"], answer["reason"], answer["changed"]) == (mode, "why not", True)
    assert at(stored, "fleet", "--json").json == {k: v for k, v in answer.items() if k != "changed"}
    assert at(stored, "--json", "fleet").json["mode"] == mode


def test_a_server_that_starts_on_hold_says_so(stored: Path, tmp_path: Path) -> None:
    """Below its ready line, in readiness, which stays green, and in its status."""
    at(stored, "fleet", "hold", "--reason", "adopted")
    with ServerProcess(stored, boundary=tmp_path) as server:
        with server.client() as client:
            ready = client.get("/api/ready")
            assert client.get("/api/status").json()["fleet"]["mode"] == "hold"
        server.stop()

    (check,) = [check for check in ready.json()["checks"] if check["name"] == "fleet"]
    assert (ready.status_code, check["ok"]) == (200, True)
    assert "on hold since" in check["detail"]
    place = next(number for number, line in enumerate(server.output) if line.startswith("DorkOS ready on "))
    assert server.output[place + 1].startswith("The fleet is on hold since ")
    assert ": adopted. `dorkos fleet` shows" in server.output[place + 1]


def test_an_address_left_over_from_a_killed_server_does_not_matter(fleet_server: ServerProcess) -> None:
    """Nobody answers there, and the directory is free."""
    fleet_server.kill()
    assert (fleet_server.home / "server.json").exists()

    assert at(fleet_server.home, "fleet", "hold", "--json").json["mode"] == "hold"


def test_where_nothing_was_ever_stored_nothing_is_made(home: Path) -> None:
    """There is no fleet to put on hold."""
    done = at(home, "fleet", "hold", "--json")

    assert (done.code, done.json["code"]) == (6, "not_running")
    assert not home.exists()


def test_a_server_that_was_named_is_not_replaced(stored: Path) -> None:
    """The mode of another database would be set."""
    done = at(stored, "fleet", "hold", "--json", "--url", "http://127.0.0.1:9", "--token", "t")

    assert (done.code, done.json["code"]) == (6, "not_running")
    assert at(stored, "fleet", "--json").json["mode"] == "running"


def test_a_directory_that_is_held_is_left_to_its_holder(stored: Path) -> None:
    """It is asked instead; here nobody answers."""
    place = Home(stored)
    place.lock()
    try:
        done = at(stored, "fleet", "hold", "--json")
    finally:
        place.unlock()

    assert (done.code, done.json["code"]) == (6, "not_running")
    assert at(stored, "fleet", "--json").json["mode"] == "running"


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"DORKOS_RUN_ID": "01M85CX6A97BDANPNW2TCFCGDT"}, "token_missing"),
        ({"DORKOS_TOKEN": "a-token-of-nobody"}, "token_invalid"),
    ],
    ids=str,
)
def test_tokens_count_without_a_server_too(stored: Path, environment: dict[str, str], code: str) -> None:
    """A run does not lift a hold by waiting for the server to be gone."""
    at(stored, "fleet", "hold")
    done = at(stored, "fleet", "resume", "--json", **environment)

    assert (done.code, done.json["code"]) == (5, code)
    assert at(stored, "fleet", "--json").json["mode"] == "hold"


def test_it_needs_nothing_that_only_work_needs(stored: Path) -> None:
    """A server does not start with a boundary that is not there; the hold can be lifted all the same."""
    at(stored, "fleet", "hold")
    (stored / "config.json").write_text('{"server": {"boundary": "/srv/not/there"}}', encoding="utf-8")
    done = at(stored, "fleet", "resume", "--json")

    assert (done.code, done.json["mode"]) == (0, "running")


def test_a_bad_reason_is_refused_alike(stored: Path, dorkos: Dorkos) -> None:
    """With a server and without one; the fleet of the shared server runs on."""
    words = ("fleet", "hold", "--reason", "x" * 501, "--json")
    for done in (at(stored, *words), dorkos(*words)):
        assert (done.code, done.json["code"]) == (2, "validation_failed")
    assert dorkos("fleet", "--json").json["mode"] == "running"


def test_a_schedule_that_needs_attention_stands_out(dorkos: Dorkos) -> None:
    """The filter takes the state; with none in it, nothing is listed."""
    assert dorkos("pulse", "list", "--state", "needs_attention", "--json").json == []
    assert dorkos("pulse", "list", "--state", "odd", "--json").json["code"] == "validation_failed"
