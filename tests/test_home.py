"""The data directory and the lock on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dorkos.errors import DorkError, ErrorCode
from dorkos.home import Home

_HOLDER = """
import sys
from pathlib import Path
from dorkos.home import Home
Home(Path(sys.argv[1])).lock()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A prepared home whose path has a space and non-ASCII letters."""
    home = Home(tmp_path / "dörk höme" / ".dork")
    home.prepare()
    return home


def _hold(home: Home) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_preparing_makes_it_for_its_owner_alone(home: Home) -> None:
    """Missing parents are made; the directory is 0700; preparing again changes nothing and leaves no file."""
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.prepare()
    assert list(home.path.iterdir()) == []


def test_a_mode_that_was_chosen_is_left_alone(tmp_path: Path) -> None:
    """A directory that exists keeps its mode."""
    (tmp_path / "home").mkdir(mode=0o750)
    Home(tmp_path / "home").prepare()
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o750


def test_a_path_is_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a later change of directory nor `~` leads it elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    relative, own = Home(Path("here")), Home(Path("~/.dork"))
    monkeypatch.chdir("/")
    assert (relative.path, own.path) == (tmp_path.resolve() / "here", tmp_path.resolve() / "me" / ".dork")


def test_everything_lies_inside(home: Home) -> None:
    """Database, token, settings, snapshots and lock have their names in one place."""
    places = (home.database_path, home.token_path, home.config_path, home.backups_path, home.lock_path)
    assert [place.name for place in places] == ["dork.db", "token", "config.toml", "backups", "lock"]
    assert {place.parent for place in places} == {home.path}


def test_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Nothing is made: it would stand in answers and files, which are UTF-8."""
    home = Home(tmp_path / os.fsdecode(b"h\xff"))
    with pytest.raises(DorkError) as refusal:
        home.prepare()
    assert refusal.value.code is ErrorCode.HOME_UNWRITABLE
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where the directory should be: refused with a hint, and the file stays."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/dev/null/below")):
        with pytest.raises(DorkError) as refusal:
            Home(path).prepare()
        assert refusal.value.code is ErrorCode.HOME_UNWRITABLE
        assert "--home" in (refusal.value.hint or "")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_another_process_is_refused_until_the_holder_ends(home: Home) -> None:
    """The refusal names the directory and the process; a kill frees the lock, whatever files stay."""
    holder = _hold(home)
    with pytest.raises(DorkError) as refusal:
        home.lock()
    assert refusal.value.code is ErrorCode.HOME_LOCKED
    assert str(home.path) in refusal.value.message
    assert str(holder.pid) in refusal.value.message
    holder.kill()
    holder.communicate()
    assert home.lock_path.exists()
    home.lock()
    home.unlock()


def test_a_link_leads_to_the_same_lock(home: Home, tmp_path: Path) -> None:
    """Two paths to one directory are one home, also within one process."""
    (tmp_path / "link").symlink_to(home.path)
    home.lock()
    with pytest.raises(DorkError) as refusal:
        Home(tmp_path / "link").lock()
    assert refusal.value.code is ErrorCode.HOME_LOCKED
    home.unlock()
    other = Home(tmp_path / "link")
    other.lock()
    other.unlock()


def test_a_program_started_by_the_holder_does_not_keep_the_lock(home: Home) -> None:
    """A run that outlives its server must not block the next one."""
    script = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from dorkos.home import Home\n"
        "Home(Path(sys.argv[1])).lock()\n"
        "idle = [sys.executable, '-c', 'import sys; sys.stdin.read()']\n"
        "child = subprocess.Popen(idle, stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline()
    with pytest.raises(DorkError):
        home.lock()
    server.kill()
    server.wait()
    home.lock()
    home.unlock()
    server.communicate()


def test_an_unreadable_note_of_the_holder_changes_nothing(home: Home) -> None:
    """The process id is for people; the lock alone decides."""
    home.lock()
    home.holder_path.write_text("not a number", encoding="ascii")
    with pytest.raises(DorkError, match="Another DorkOS server holds") as refusal:
        Home(home.path).lock()
    assert refusal.value.code is ErrorCode.HOME_LOCKED
    home.unlock()
    home.unlock()
