"""`dorkos db digest`, `export`, `import` and `transfer`."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dorkos.db.connections import migrating_postgres
from dorkos.db.engine import sqlite_driver
from dorkos.home import Home
from dorkos.testing import empty_postgres
from tests.cli.conftest import Dorkos
from tests.cli.terminal import Done, call
from tests.db.any_rows import NEWEST, any_rows, filled_sqlite
from tests.db.legacy.adopt_kit import content_of, copy_of
from tests.db.legacy.relay_kit import FIXTURES


def db(home: Path, *words: str, stdin: bytes = b"") -> Done:
    return call("db", *words, environment={"DORK_HOME": str(home)}, stdin=stdin)


def lines_of(done: Done) -> list[Any]:
    """Only a line feed ends a line; Python would also split at what texts hold."""
    return [json.loads(line) for line in done.out.split("\n") if line]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory whose database has rows in every table."""
    home = tmp_path / "a fülled home"
    home.mkdir()
    filled_sqlite(home / "dork.db", any_rows(0))
    return home


def test_a_digest_counts_every_table(filled: Path) -> None:
    """As JSON and as a table with one digest for all of it."""
    as_json, as_text = db(filled, "digest", "--json"), db(filled, "digest")
    found = as_json.json
    assert found["tables"]["agents"]["rows"] == len(any_rows(0)["agents"])
    assert found["migration"] == NEWEST
    assert len(found["digest"]) == 64
    assert found["digest"] in as_text.out
    assert "agents" in as_text.out


def test_a_digest_works_beside_a_server(dorkos: Dorkos) -> None:
    """It reads one moment of the database that the server writes; and so does an export."""
    found = dorkos("db", "digest", "--json")
    assert (found.code, found.json["tables"]["nodes"]["rows"]) == (0, 1)
    exported = dorkos("db", "export", "-")
    assert lines_of(exported)[-1]["tables"]["nodes"]["rows"] == 1


def test_an_export_is_read_back_into_another_directory(filled: Path, tmp_path: Path) -> None:
    """The same digest in all answers, and the person is told about secrets and the hold."""
    file = tmp_path / "out.jsonl.gz"
    exported = db(filled, "export", str(file))
    assert (exported.code, exported.err) == (0, "")
    assert "secrets" in exported.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    digest = db(filled, "digest", "--json").json["digest"]
    assert digest in exported.out

    imported = db(tmp_path / "new", "import", str(file), "--json")
    assert (imported.code, imported.json["digest"]) == (0, digest)
    assert db(tmp_path / "new", "digest", "--json").json["digest"] == digest
    told = db(tmp_path / "newer", "import", str(file))
    assert "on hold" in told.out
    assert db(tmp_path / "newer", "verify", "--json").json["ok"]


def test_an_export_without_a_name_lies_in_the_backups_folder(filled: Path) -> None:
    """Compressed, under a name that tells time and migration."""
    made = db(filled, "export", "--json").json
    file = Path(made["file"])
    assert file.parent == filled / "backups"
    assert file.name.endswith(f"-{NEWEST}.jsonl.gz")
    assert made["sizeBytes"] == file.stat().st_size


def test_an_export_goes_through_a_pipe(filled: Path, tmp_path: Path) -> None:
    """Only the lines on standard output, the remark beside it; `import -` takes them."""
    sent = db(filled, "export", "-")
    assert lines_of(sent)[0]["format"] == "dorkos-export"
    assert "Exported" in sent.err
    received = db(tmp_path / "new", "import", "-", "--json", stdin=sent.out.encode())
    assert received.code == 0
    assert received.json["tables"] == lines_of(sent)[-1]["tables"]


def test_an_import_is_refused_in_words(filled: Path, tmp_path: Path) -> None:
    """A file that is not there, one that is no export, and a target that holds rows."""
    missing = db(tmp_path / "new", "import", str(tmp_path / "none"), "--json")
    assert (missing.code, missing.json["code"]) == (3, "not_found")
    assert not (tmp_path / "new").exists()
    (tmp_path / "bad").write_bytes(b"hello\n")
    bad = db(tmp_path / "new", "import", str(tmp_path / "bad"), "--json")
    assert (bad.code, bad.json["code"]) == (2, "import_invalid")
    assert "Line 1" in bad.json["error"]
    file = tmp_path / "out.jsonl"
    db(filled, "export", str(file))
    full = db(filled, "import", str(file), "--json")
    assert (full.code, full.json["code"]) == (7, "target_not_empty")
    again = db(filled, "export", str(file), "--json")
    assert (again.code, again.json["code"]) == (2, "validation_failed")


def test_a_fifo_is_read_while_somebody_writes_into_it(filled: Path, tmp_path: Path) -> None:
    """As from a pipe; where nobody has it open for writing the import ends at once."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    alone = db(tmp_path / "new", "import", str(fifo), "--json")
    assert (alone.code, alone.json["code"]) == (2, "import_invalid")
    writer = subprocess.Popen(
        ["sh", "-c", 'exec cat "$0" > "$1"', str(_exported(filled, tmp_path)), str(fifo)],
    )
    # Held open for reading, so that the other end can be opened; what comes is left for the import.
    keeper = os.open(fifo, os.O_RDONLY)
    try:
        done = db(tmp_path / "new", "import", str(fifo), "--json")
    finally:
        os.close(keeper)
        writer.wait()
    assert done.json["digest"] == db(filled, "digest", "--json").json["digest"]


def _exported(home: Path, folder: Path) -> Path:
    assert db(home, "export", str(folder / "out.jsonl.gz")).code == 0
    return folder / "out.jsonl.gz"


def test_what_was_not_taken_over_yet_is_not_hidden(filled: Path, tmp_path: Path) -> None:
    """A database beside older stores would keep everybody from looking at them: it is not made."""
    old = copy_of("home-three-databases", tmp_path)
    before = content_of(old)
    export = _exported(filled, tmp_path)
    backup = db(filled, "backup", "--json").json["file"]
    for words in (
        ("import", str(export)),
        ("restore", "--yes", backup),
        ("adopt", str(FIXTURES / "home-wal")),
    ):
        refused = db(old, *words, "--json").json
        assert refused["code"] == "database_lineage", words
        assert "db migrate" in refused["hint"]
        assert {path: held for path, held in content_of(old).items() if path != "lock"} == before
    assert db(old, "migrate").code == 0
    assert db(old, "restore", "--yes", backup).code == 0


def test_who_holds_the_directory_is_left_alone(filled: Path, tmp_path: Path) -> None:
    """`import` and `transfer` are refused while a server holds it; `export` and `digest` are not."""
    file = tmp_path / "out.jsonl"
    home = Home(filled)
    home.lock()
    try:
        assert db(filled, "export", str(file)).code == 0
        assert db(filled, "import", str(file), "--json").json["code"] == "home_locked"
        moved = db(filled, "transfer", "postgresql://nobody@127.0.0.1:1/none", "--json")
        assert moved.json["code"] == "home_locked"
    finally:
        home.unlock()


def test_a_transfer_moves_the_file_into_postgresql(filled: Path) -> None:
    """Equal digests, told in words and as JSON; afterwards the target is in use, and refused."""
    digest = db(filled, "digest", "--json").json["digest"]
    before = (filled / "dork.db").read_bytes()
    with empty_postgres() as url:
        told = db(filled, "transfer", url)
        assert told.code == 0, told.err
        assert "dorkos up --database" in told.out
        assert "on hold" in told.out
        assert db(filled, "digest", "--database", url, "--json").json["digest"] == digest
        again = db(filled, "transfer", url, "--json")
        assert (again.code, again.json["code"]) == (7, "target_not_empty")
        discarded = db(filled, "transfer", url, "--discard", "--json")
        assert (discarded.code, discarded.json["code"]) == (3, "not_found")
        # From there back into a file, and into another data directory.
        sent = db(filled, "export", "-", "--database", url)
        assert lines_of(sent)[-1]["tables"] == lines_of(db(filled, "export", "-"))[-1]["tables"]
    with empty_postgres() as url:
        as_json = db(filled, "transfer", url, "--json").json
        assert (as_json["digest"], as_json["resumedRows"]) == (digest, 0)
    assert (filled / "dork.db").read_bytes() == before


def test_an_unfinished_transfer_is_discarded_on_request(filled: Path) -> None:
    """The target is empty again, and takes the next one."""
    with empty_postgres() as url:
        assert db(filled, "transfer", url).code == 0
        with migrating_postgres(url) as connection, connection.begin():
            connection.exec_driver_sql("INSERT INTO system_state VALUES ('transfer', '{}')")
        assert db(filled, "transfer", url, "--json").json["code"] == "move_unfinished"
        rows = sum(map(len, any_rows(0).values()))
        done = db(filled, "transfer", url, "--discard")
        assert (done.code, "empty again" in done.out) == (0, True)
        # The rows of `system_state` are facts, and go with the mark uncounted.
        assert f"{rows - len(any_rows(0)['system_state'])} rows" in done.out
        assert db(filled, "transfer", url).code == 0


def test_a_transfer_needs_a_file_and_a_postgresql(filled: Path, tmp_path: Path) -> None:
    """Anything else is refused before anything is made; a password is not repeated."""
    for url in ("sqlite:///x.db", "x", ""):
        done = db(filled, "transfer", url, "--json")
        assert (done.code, done.json["code"]) == (2, "usage"), url
    secret = "postgresql://me:geheim@127.0.0.1:1/none"
    nothing = db(tmp_path / "new", "transfer", secret, "--json")
    assert (nothing.code, nothing.json["code"]) == (3, "not_found")
    assert not (tmp_path / "new").exists()
    away = db(filled, "transfer", secret)
    assert (away.code, "database_unreachable" in away.err) == (7, True)
    assert "geheim" not in away.err + away.out


def test_a_database_that_is_half_moved_is_not_started(filled: Path) -> None:
    """`up`, `migrate`, `verify`, `export` and `digest` say so, and what to do."""
    connection = sqlite_driver().connect(str(filled / "dork.db"), isolation_level=None)
    connection.execute("INSERT INTO system_state VALUES ('import', '{}')")
    connection.close()
    environment = {"DORK_HOME": str(filled), "DORKOS_PORT": "0"}
    for words in (("up",), ("db", "migrate"), ("db", "export", "-"), ("db", "digest")):
        done = call(*words, environment=environment)
        assert (done.code, "move_unfinished" in done.err) == (7, True), words
        assert "db import" in done.err
    verified = call("db", "verify", "--json", environment=environment)
    assert verified.code == 1
    assert "import" in verified.json["problems"][0]
