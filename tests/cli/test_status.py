"""`dorkos status`."""

from __future__ import annotations

from tests.cli.conftest import Dorkos
from tests.server_process import ServerProcess


def test_status_says_where_and_how_much(dorkos: Dorkos, server: ServerProcess) -> None:
    """The address, the database and each part stand on lines of their own."""
    done = dorkos("status")
    lines = dict(line.split(None, 1) for line in done.out.splitlines())
    assert done.code == 0
    assert lines["server"] == server.url
    assert str(server.home / "dork.db") in lines["database"]
    assert {"pulse", "relay", "mesh"} <= lines.keys()


def test_status_as_json_is_the_rest_answer(dorkos: Dorkos, server: ServerProcess) -> None:
    """Nothing is added, left out or renamed."""
    with server.client() as client:
        answer = client.get("/api/status").json()
    done = dorkos("status", "--json")
    assert done.json.keys() == answer.keys()
    assert done.json["node"] == answer["node"]


def test_a_wrong_token_is_refused(dorkos: Dorkos) -> None:
    """Exit code 5, and the operator's file does not step in."""
    done = dorkos("status", "--token", "wrong-but-well-formed-token", "--json")
    assert (done.code, done.json["code"]) == (5, "token_invalid")


def test_a_run_does_not_fall_back_on_the_operators_token(dorkos: Dorkos) -> None:
    """Within a run without a token nothing is sent, although the file lies there."""
    done = dorkos("status", "--json", DORKOS_RUN_ID="01M85CX6A97BDANPNW2TCFCGDT")
    assert (done.code, done.json["code"]) == (5, "token_missing")
