"""What may not be read, entered or written, as an unprivileged user: modes do not bind root."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

# What it answers is asked for once, by one process.
pytestmark = pytest.mark.xdist_group("unprivileged")

# Everything is imported, and once used, before the rights are dropped: the code may lie where nobody else may
# read. Each case gets a folder of its own, and answers what its commands did.
_PROGRAM = """
import contextlib, json, os, pkgutil, importlib, shutil, sys
from pathlib import Path
import dorkos
from tests.cli.terminal import call
from tests.db.legacy.relay_kit import FIXTURES

root = Path(sys.argv[1])
for module in pkgutil.walk_packages(dorkos.__path__, "dorkos."):
    if module.name.startswith(("dorkos.db", "dorkos.cli", "dorkos.offline", "dorkos.s")):
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
import dorkos.testing

def run(home, *words):
    done = call("--home", str(home), *words, "--json", environment={})
    answer = json.loads(done.out)
    return {"code": done.code, "answer": answer}

run(root / "warm", "db", "adopt", str(FIXTURES / "home-wal"))
run(root / "warm", "doctor")
CASES = ("readonly", "shut", "file", "owner", "pulse.db", "relay/mailboxes", "mesh", "home")
for case in CASES:
    (root / case.replace("/", "-") / "home").mkdir(parents=True)
    dorkos.testing.create_sqlite_file(root / case.replace("/", "-") / "home" / "dork.db")
    shutil.copytree(FIXTURES / "home-three-databases", root / case.replace("/", "-") / "old")
if os.geteuid() == 0:
    for folder, _, files in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

def content(folder):
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

@contextlib.contextmanager
def mode(path, bits):
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)

found = {}
base, home = root / "readonly", root / "readonly" / "home"
before = content(home)
with mode(home, 0o555):
    for words in (["up"], ["db", "migrate"], ["db", "backup"], ["db", "status"], ["db", "verify"],
                  ["db", "backup", str(base / "copy.db")], ["db", "rehearse", str(base / "copy.db")]):
        found[" ".join(words).replace(str(base) + "/", "")] = [run(home, *words), content(home) == before]

base, home = root / "shut", root / "shut" / "home"
with mode(base, 0o000):
    found["shut"] = run(home, "doctor")

base, home = root / "file", root / "file" / "home"
(home / "backups").write_text("mine")
found["file"] = run(home, "db", "rehearse")

base, home = root / "owner", root / "owner" / "home"
run(home, "db", "backup", str(base / "copy.db"))
with mode(home / "dork.db", 0o444):
    before = (home / "dork.db").read_bytes()
    done = run(home, "db", "restore", "--yes", str(base / "copy.db"))
    found["owner"] = [done, (home / "dork.db").read_bytes() == before and not (home / "backups").exists()]

for case in ("pulse.db", "relay/mailboxes", "mesh", "home"):
    base = root / case.replace("/", "-")
    with mode(base / "old" / ("" if case == "home" else case), 0o000):
        refused = run(base / "home", "db", "adopt", str(base / "old"))
        rows = run(base / "home", "db", "digest")["answer"]["tables"]
    found[case] = [refused, sum(table["rows"] for table in rows.values())]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> Any:
    """What became of each case."""
    with tempfile.TemporaryDirectory(prefix="dorkos-unprivileged-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, folder],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("words", "code", "refusal"),
    [
        ("up", 6, "home_unwritable"),
        ("db migrate", 6, "home_unwritable"),
        ("db backup", 7, "backup_failed"),
        ("db status", 0, None),
        ("db verify", 0, None),
        ("db backup copy.db", 0, None),
        ("db rehearse copy.db", 0, None),
    ],
)
def test_a_read_only_directory_is_open_to_a_look_alone(
    words: str, code: int, refusal: str | None, found: Any
) -> None:
    """A backup to another place is a look as well. Nothing is made or changed."""
    done, unchanged = found[words]
    assert (done["code"], done["answer"].get("code")) == (code, refusal)
    assert unchanged


def test_the_doctor_names_a_directory_that_cannot_be_looked_at(found: Any) -> None:
    """A folder above it may not be entered: that is a finding, not a fault of ours."""
    assert found["shut"]["code"] == 1
    by_name = {finding["name"]: finding for finding in found["shut"]["answer"]["findings"]}
    assert "cannot be looked at: Permission denied" in by_name["directory"]["message"]
    assert by_name["disk"]["level"] in ("ok", "warning")


def test_a_file_in_the_place_of_the_backups_is_named(found: Any) -> None:
    """There may be backups, and they cannot be told."""
    assert found["file"]["answer"]["code"] == "restore_failed"
    assert "backups cannot be read: Not a directory" in found["file"]["answer"]["error"]


def test_a_database_that_may_not_be_written_is_not_replaced(found: Any) -> None:
    """Its log cannot be merged into it; and somebody may have meant it."""
    done, unchanged = found["owner"]
    assert done["answer"]["code"] == "database_readonly"
    assert unchanged


@pytest.mark.parametrize("case", ["pulse.db", "relay/mailboxes", "mesh", "home"])
def test_what_may_not_be_read_ends_an_adoption(case: str, found: Any) -> None:
    """A store, a folder of it, or the home: with the right modes all of it comes, so none is left out now."""
    done, rows = found[case]
    assert done["answer"]["code"] == "database_unreachable"
    assert "may not be read: Permission denied" in done["answer"]["error"]
    assert rows == 0
