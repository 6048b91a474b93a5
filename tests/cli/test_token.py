"""`dorkos token`: made, used, listed and ended on a real server."""

from __future__ import annotations

from tests.cli.conftest import Dorkos


def test_a_read_only_token_sees_and_changes_nothing_until_it_is_revoked(dorkos: Dorkos) -> None:
    """It is printed alone, so that a script can take it; what it may do stands in `whoami`."""
    made = dorkos("token", "create", "wall screen", "--days", "2")
    secret = made.out.strip()
    assert made.out == f"{secret}\n"
    assert "not shown again" in made.err

    seen = dorkos("token", "whoami", "--json", DORKOS_TOKEN=secret).json
    assert (seen["kind"], seen["scopes"]) == ("read-only", ["observe"])
    assert dorkos("status", DORKOS_TOKEN=secret).code == 0
    for words in (
        ("fleet", "hold"),
        ("relay", "send", "relay.human.operator", "hi"),
        ("config", "set", "relay.maxHops", "3"),
        ("token", "list"),
        ("token", "create", "another"),
        ("pulse", "create", "x", "--every", "1h", "--", "true"),
    ):
        assert dorkos(*words, DORKOS_TOKEN=secret).code in (2, 5), words

    row = next(row for row in dorkos("token", "list", "--json").json if row["name"] == "wall screen")
    assert secret not in dorkos("token", "list", "--json").out
    assert "wall screen is revoked" in dorkos("token", "revoke", row["id"]).out
    assert dorkos("status", DORKOS_TOKEN=secret).code == 5
    assert dorkos("token", "revoke", row["id"]).code == 3
    assert "wall screen" not in dorkos("token", "list").out
    assert "revoked" in dorkos("token", "list", "--all").out


def test_an_operators_token_may_do_all_and_speaks_by_its_name(dorkos: Dorkos) -> None:
    """Also make others."""
    made = dorkos("token", "create", "laptop", "--operator", "--json").json
    assert made["subject"] == "relay.human.laptop"
    assert dorkos("token", "create", "third", DORKOS_TOKEN=made["token"]).code == 0
    third = next(row for row in dorkos("token", "list", "--json").json if row["name"] == "third")
    assert third["createdBy"] == "relay.human.laptop"
    assert "relay.human.operator" in dorkos("token", "whoami").out
    assert dorkos("token", "revoke", made["id"]).code == 0


def test_pages_follow_one_another(dorkos: Dorkos) -> None:
    """The table says how to see the next one."""
    for name in ("page one", "page two"):
        dorkos("token", "create", name)
    done = dorkos("token", "list", "--limit", "1")
    assert "page two" in done.out
    cursor = done.out.strip().rsplit("--cursor ", 1)[1]
    assert "page one" in dorkos("token", "list", "--limit", "1", "--cursor", cursor).out


def test_a_bad_request_makes_nothing(dorkos: Dorkos) -> None:
    """A name must be there, and a lifetime within bounds."""
    assert dorkos("token", "create", " ").code == 2
    assert dorkos("token", "create", "x" * 101).code == 2
    assert dorkos("token", "create", "x", "--days", "0").code == 2
