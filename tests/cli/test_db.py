"""`dorkos db`."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dorkos.db.unused_files import unused_files
from dorkos.testing import empty_postgres
from tests.cli.conftest import Dorkos
from tests.cli.terminal import Done, call
from tests.server_process import ServerProcess

LEGACY = Path(__file__).parents[1] / "fixtures" / "legacy"


def _db(home: Path, *words: str, **environment: str) -> Done:
    return call("db", *words, environment={"DORK_HOME": str(home), **environment})


def test_status_asks_the_running_server(dorkos: Dorkos, server: ServerProcess) -> None:
    """As JSON it is the REST answer."""
    with server.client() as client:
        answer = client.get("/api/db/status").json()
    answer.pop("sizeBytes")  # It may grow in between.
    found = dorkos("db", "status", "--json").json
    found.pop("sizeBytes")
    assert found == answer
    assert "0000_initial" in dorkos("db", "status").out


def test_status_without_a_server_looks_itself_and_makes_nothing(home: Path) -> None:
    """All migrations are pending, and the directory is still not there."""
    found = _db(home, "status", "--json").json
    assert found["migrations"] == []
    assert found["pending"][0] == "0000_initial"
    assert "db migrate" in _db(home, "status").out
    assert not home.exists()


def test_status_of_a_server_named_by_hand_does_not_look_elsewhere(home: Path) -> None:
    """Where that server does not run, the local file is not shown in its place."""
    done = _db(home, "status", "--json", "--url", "http://127.0.0.1:9", "--token", "t")
    assert (done.code, done.json["code"]) == (6, "not_running")


def test_migrate_brings_the_database_up_to_date_once(home: Path) -> None:
    """The second call has nothing to do, and says so."""
    first, second = _db(home, "migrate", "--json"), _db(home, "migrate")
    assert first.json["applied"][0]["id"] == "0000_initial"
    assert "nothing was changed" in second.out
    assert _db(home, "status", "--json").json["pending"] == []
    assert _db(home, "verify", "--json").json == {"ok": True, "problems": []}


def test_migrate_is_refused_while_a_server_holds_the_directory(dorkos: Dorkos) -> None:
    """Exit code 6, naming the directory."""
    done = dorkos("db", "migrate", "--json")
    assert (done.code, done.json["code"]) == (6, "home_locked")


def test_verify_works_beside_a_running_server(dorkos: Dorkos) -> None:
    """It only reads."""
    done = dorkos("db", "verify")
    assert (done.code, done.out) == (0, "The database is sound.\n")


def test_verify_names_each_problem_and_ends_with_1(home: Path) -> None:
    """A damaged file is an answer, not a fault."""
    home.mkdir()
    (home / "dork.db").write_bytes(b"not a database" * 100)
    done, as_json = _db(home, "verify"), _db(home, "verify", "--json")
    assert done.code == as_json.code == 1
    assert done.out.splitlines() == as_json.json["problems"]
    assert as_json.json["ok"] is False


def test_check_affirms_that_the_code_agrees(home: Path) -> None:
    """It needs no data directory and makes none."""
    done = _db(home, "check", "--json")
    assert (done.code, done.json) == (0, {"ok": True, "problems": []})
    assert not home.exists()


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "host=db password=secret", "secret"])
def test_a_database_url_of_another_kind_is_refused(home: Path, url: str) -> None:
    """The password in it is not repeated, by the doctor neither."""
    done = _db(home, "status", "--json", "--database", url)
    assert (done.code, done.json["code"]) == (2, "invalid_setting")
    assert "secret" not in done.out + done.err
    seen = call("doctor", "--database", url, environment={"DORK_HOME": str(home)})
    assert seen.code == 1
    assert "database.url" in seen.out
    assert "secret" not in seen.out + seen.err


def test_files_that_postgresql_stands_in_the_place_of_are_told(home: Path) -> None:
    """Else a DorkOS that was in use would look empty, with no word of where all of it is."""
    with empty_postgres() as url:
        assert _db(home, "migrate", "--database", url, "--json").json["notes"] == []
        assert _db(home, "migrate").code == 0
        before = (home / "dork.db").read_bytes()
        (note,) = _db(home, "migrate", "--database", url, "--json").json["notes"]
        assert f"{home / 'dork.db'} is not used" in note
        assert "db transfer" in note
        seen = call("doctor", "--json", "--database", url, environment={"DORK_HOME": str(home)}).json
        (line,) = [finding for finding in seen["findings"] if finding["name"] == "files"]
        assert (line["level"], line["message"]) == (
            "warning",
            f"{home / 'dork.db'} is not used: database.url names PostgreSQL",
        )
        assert (home / "dork.db").read_bytes() == before


@pytest.mark.parametrize("store", ["dork.db", "schedules.json"])
def test_what_dorkos_for_node_left_beside_postgresql_is_told(tmp_path: Path, store: str) -> None:
    """With the command that brings it there, whether it had a `dork.db` yet or not."""
    source = "home-node-0002" if store == "dork.db" else "home-three-databases"
    shutil.copy(LEGACY / source / store, tmp_path)
    unused = unused_files(tmp_path)
    assert unused is not None
    assert f"left in {tmp_path}" in unused.message
    assert f"db adopt '{tmp_path}' --database" in unused.advice


@pytest.mark.parametrize("content", [None, b"", b"no database at all"])
def test_beside_postgresql_what_is_nothing_of_dorkos_does_not_matter(
    tmp_path: Path, content: bytes | None
) -> None:
    """A server that has no use for the file must not fail for it."""
    if content is not None:
        (tmp_path / "dork.db").write_bytes(content)
    assert unused_files(tmp_path) is None


def test_a_postgresql_database_is_migrated_and_verified(home: Path) -> None:
    """The same commands, and the same answers, on the other engine."""
    with empty_postgres() as url:
        given = ("--database", url, "--json")
        assert _db(home, "migrate", *given).json["applied"][0]["id"] == "0000_initial"
        found = _db(home, "status", *given).json
        assert (found["dialect"], found["pending"]) == ("postgresql", [])
        assert found["location"].endswith("/" + urlsplit(url).path.strip("/"))
        assert _db(home, "verify", *given).json == {"ok": True, "problems": []}
