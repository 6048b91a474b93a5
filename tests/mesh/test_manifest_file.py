"""The manifest on disk: three outcomes of reading, and a write that is whole or did not happen."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dorkos.mesh import manifest_file
from dorkos.mesh.manifest import MAX_BYTES, InvalidManifest, Manifest, NoManifest, encode_manifest, hash_of
from dorkos.mesh.manifest_file import (
    ManifestNotWrittenError,
    manifest_path,
    read_manifest,
    write_manifest,
)
from dorkos.mesh.manifest_lock import locked
from tests.mesh.fleet import make_project
from tests.mesh.unprivileged import unprivileged

SCOUT: dict[str, object] = {"name": "Scout", "runtime": "codex"}
DATA = encode_manifest(SCOUT)


def test_absent_invalid_and_valid_are_three_outcomes(tmp_path: Path) -> None:
    """None is ever taken for another."""
    bare = make_project(tmp_path / "bare")
    without_file = make_project(tmp_path / "folder only")
    (without_file / ".dork").mkdir()
    file_in_the_way = make_project(tmp_path / "file")
    (file_in_the_way / ".dork").touch()
    broken = make_project(tmp_path / "broken", b"")
    good = make_project(tmp_path / "gut ü", SCOUT)

    assert isinstance(read_manifest(bare), NoManifest)
    assert isinstance(read_manifest(without_file), NoManifest)
    assert isinstance(read_manifest(file_in_the_way), NoManifest)
    assert read_manifest(broken) == InvalidManifest(manifest_path(broken), "is empty")
    found = read_manifest(good)
    assert isinstance(found, Manifest)
    assert found.hash == hash_of(manifest_path(good).read_bytes())


def test_what_is_no_readable_file_is_invalid(tmp_path: Path) -> None:
    """A directory, a FIFO, a link out of the project, a link to nothing."""
    directory = make_project(tmp_path / "directory")
    manifest_path(directory).mkdir(parents=True)
    fifo = make_project(tmp_path / "fifo")
    (fifo / ".dork").mkdir()
    os.mkfifo(manifest_path(fifo))
    leak = make_project(tmp_path / "leak")
    (leak / ".dork").symlink_to(make_project(tmp_path / "other", SCOUT) / ".dork")
    dangling = make_project(tmp_path / "dangling")
    (dangling / ".dork").mkdir()
    manifest_path(dangling).symlink_to("gone.json")

    reasons = {}
    for project in (directory, fifo, leak, dangling):
        found = read_manifest(project)
        assert isinstance(found, InvalidManifest)
        reasons[project.name] = found.reason
    assert reasons == {
        "directory": "is a directory, not a regular file",
        "fifo": "is a FIFO, not a regular file",
        "leak": "is a link that leads out of the project",
        "dangling": "is a link to nothing",
    }


def test_a_file_that_is_too_large_is_invalid_even_if_its_beginning_is_not(tmp_path: Path) -> None:
    """Only the beginning of a large file is read, and it may be valid by itself."""
    project = make_project(tmp_path / "project", DATA.ljust(MAX_BYTES) + b"!")

    assert read_manifest(project) == InvalidManifest(manifest_path(project), "is larger than 256 KiB")


def test_an_unreadable_manifest_is_invalid_not_absent(tmp_path: Path) -> None:
    """Somebody who may not read a file must not be told that there is none."""
    with unprivileged() as person:
        project = make_project(person.folder / "project", SCOUT)
        manifest_path(project).chmod(0)

        said = person.run(
            "from dorkos.mesh.manifest_file import read_manifest\n"
            "from pathlib import Path\n"
            "print(read_manifest(Path(sys.argv[1])).reason)",
            str(project),
        )

    assert said == "cannot be read: Permission denied"


def test_a_new_manifest_is_written_whole(tmp_path: Path) -> None:
    """The folder is made, and nothing is left beside the file."""
    project = make_project(tmp_path / "project")

    write_manifest(project, DATA, replaces=None)

    assert manifest_path(project).read_bytes() == DATA
    assert [path.name for path in (project / ".dork").iterdir()] == ["agent.json"]


def test_what_a_killed_writer_left_is_taken_away(tmp_path: Path) -> None:
    """By the next one, which is alone at work under the lock; nothing else in the folder is touched."""
    project = make_project(tmp_path / "project", {})
    manifest_path(project).unlink()
    left, kept = project / ".dork" / ".agent-0123456789abcdef.tmp", project / ".dork" / ".agent-mine.tmp"
    left.touch()
    kept.touch()

    write_manifest(project, DATA, replaces=None)

    assert sorted((project / ".dork").iterdir()) == sorted([kept, manifest_path(project)])


def test_a_rewrite_keeps_the_mode_and_replaces_the_file(tmp_path: Path) -> None:
    """Whoever has the old file open goes on reading the old text."""
    project = make_project(tmp_path / "project", SCOUT)
    path = manifest_path(project)
    path.chmod(0o600)
    old = path.read_bytes()
    with path.open("rb") as reader:
        write_manifest(project, DATA, replaces=hash_of(old))
        assert reader.read() == old

    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_inside_the_project_stays_a_link(tmp_path: Path) -> None:
    """The file it leads to is the one that is rewritten."""
    project = make_project(tmp_path / "project", SCOUT)
    shared = project / "agent.json"
    manifest_path(project).rename(shared)
    manifest_path(project).symlink_to(shared)

    write_manifest(project, DATA, replaces=hash_of(shared.read_bytes()))

    assert manifest_path(project).is_symlink()
    assert shared.read_bytes() == DATA


def test_a_file_that_changed_since_is_not_overwritten(tmp_path: Path) -> None:
    """Neither one that was edited nor one that appeared: an earlier file is never lost."""
    edited = make_project(tmp_path / "edited", SCOUT)
    appeared = make_project(tmp_path / "appeared", SCOUT)

    for project, replaces in ((edited, hash_of(b"what was read")), (appeared, None)):
        with pytest.raises(ManifestNotWrittenError, match="in the meantime"):
            write_manifest(project, DATA, replaces=replaces)
        assert json.loads(manifest_path(project).read_bytes()) == SCOUT


def test_a_newer_file_is_not_overwritten(tmp_path: Path) -> None:
    """What its fields mean is not known here; nor is a file of such a version written."""
    newer = encode_manifest({**SCOUT, "schemaVersion": 2})
    project = make_project(tmp_path / "project", newer)

    for data, which in ((DATA, manifest_path(project)), (newer, "the new manifest")):
        with pytest.raises(ManifestNotWrittenError) as refusal:
            write_manifest(project, data, replaces=hash_of(newer))
        assert refusal.value.reason == f"{which} is of version 2, and this DorkOS writes 1"

    assert manifest_path(project).read_bytes() == newer


def test_of_many_writers_at_once_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    """Each looks and renames alone, so none writes over another's words unseen."""
    project = make_project(tmp_path / "project", SCOUT)
    before = hash_of(manifest_path(project).read_bytes())
    versions = [encode_manifest({**SCOUT, "name": f"Scout {number}"}) for number in range(8)]
    start = threading.Barrier(len(versions))

    def write(data: bytes) -> bytes | str:
        start.wait(60)
        try:
            write_manifest(project, data, replaces=before)
        except ManifestNotWrittenError as fault:
            return fault.reason
        return data

    with ThreadPoolExecutor(len(versions)) as threads:
        outcomes = set(threads.map(write, versions))

    in_the_file = manifest_path(project).read_bytes()
    assert outcomes == {in_the_file, f"{manifest_path(project)} was changed in the meantime"}
    assert [path.name for path in (project / ".dork").iterdir()] == ["agent.json"]


def test_the_look_happens_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had to wait for another writer sees what that one wrote."""
    project = make_project(tmp_path / "project", SCOUT)
    before = hash_of(manifest_path(project).read_bytes())
    theirs = encode_manifest({**SCOUT, "name": "Theirs"})

    @contextmanager
    def another_was_first(folder: Path, *, within_s: float) -> Iterator[None]:
        with locked(folder, within_s=within_s):
            manifest_path(project).write_bytes(theirs)
            yield

    monkeypatch.setattr(manifest_file, "locked", another_was_first)
    with pytest.raises(ManifestNotWrittenError, match="in the meantime"):
        write_manifest(project, DATA, replaces=before)

    assert manifest_path(project).read_bytes() == theirs


def test_a_writer_that_hangs_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock: a reason, and the file as it was."""
    project = make_project(tmp_path / "project", SCOUT)
    old = manifest_path(project).read_bytes()
    monkeypatch.setattr(manifest_file, "_LOCKED_WITHIN_S", 0)

    with locked(project / ".dork", within_s=0):
        with pytest.raises(ManifestNotWrittenError, match="is being written by another"):
            write_manifest(project, DATA, replaces=hash_of(old))
        assert manifest_path(project).read_bytes() == old

    write_manifest(project, DATA, replaces=hash_of(old))
    assert manifest_path(project).read_bytes() == DATA


def test_a_disk_without_such_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems over a network lock no directories. Any other fault of a lock is told."""
    project = make_project(tmp_path / "project")

    def fails_with(number: int) -> Callable[[int, int], None]:
        def flock(_descriptor: int, _operation: int) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr(fcntl, "flock", fails_with(errno.EIO))
    with pytest.raises(ManifestNotWrittenError, match=os.strerror(errno.EIO)):
        write_manifest(project, DATA, replaces=None)
    monkeypatch.setattr(fcntl, "flock", fails_with(errno.ENOLCK))
    write_manifest(project, DATA, replaces=None)

    assert manifest_path(project).read_bytes() == DATA


def test_an_invalid_file_is_not_overwritten(tmp_path: Path) -> None:
    """It may hold what somebody wants to mend."""
    project = make_project(tmp_path / "project", b'{"name": "almost"')

    with pytest.raises(ManifestNotWrittenError, match="is not JSON"):
        write_manifest(project, DATA, replaces=None)

    assert manifest_path(project).read_bytes() == b'{"name": "almost"'


def test_nothing_invalid_is_written(tmp_path: Path) -> None:
    """What could not be read back is refused before the disk is touched."""
    project = make_project(tmp_path / "project")

    with pytest.raises(ManifestNotWrittenError, match="has no `runtime`"):
        write_manifest(project, encode_manifest({"name": "x"}), replaces=None)

    assert not (project / ".dork").exists()


def test_nothing_is_written_out_of_the_project(tmp_path: Path) -> None:
    """A `.dork` that is a link elsewhere is refused."""
    project = make_project(tmp_path / "project")
    elsewhere = make_project(tmp_path / "elsewhere")
    (project / ".dork").symlink_to(elsewhere)

    with pytest.raises(ManifestNotWrittenError, match="out of the project"):
        write_manifest(project, DATA, replaces=None)

    assert list(elsewhere.iterdir()) == []


def test_a_project_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """Only `.dork` is made."""
    with pytest.raises(ManifestNotWrittenError, match="No such file or directory"):
        write_manifest(tmp_path / "gone", DATA, replaces=None)

    assert not (tmp_path / "gone").exists()


def test_a_disk_that_refuses_leaves_no_trace() -> None:
    """A folder that may not be written: a reason, the old file, and no temporary one."""
    with unprivileged() as person:
        project = make_project(person.folder / "project", SCOUT)
        manifest_path(project).chmod(0o644)
        (project / ".dork").chmod(0o555)

        said = person.run(
            "from dorkos.mesh.manifest_file import *\n"
            "from dorkos.mesh.manifest import encode_manifest\n"
            "from pathlib import Path\n"
            "project = Path(sys.argv[1])\n"
            "data = encode_manifest({'name': 'new', 'runtime': 'codex'})\n"
            "try:\n"
            "    write_manifest(project, data, replaces=read_manifest(project).hash)\n"
            "except ManifestNotWrittenError as fault:\n"
            "    print(fault.reason.removeprefix(str(project)))",
            str(project),
        )

        assert said == "/.dork/agent.json: Permission denied"
        assert [path.name for path in (project / ".dork").iterdir()] == ["agent.json"]
        assert json.loads(manifest_path(project).read_bytes()) == SCOUT


def test_a_disk_that_fills_up_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-written new one is removed."""
    project = make_project(tmp_path / "project", SCOUT)
    old = manifest_path(project).read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ManifestNotWrittenError, match="No space left on device"):
        write_manifest(project, DATA, replaces=hash_of(old))

    assert manifest_path(project).read_bytes() == old
    assert [path.name for path in (project / ".dork").iterdir()] == ["agent.json"]
