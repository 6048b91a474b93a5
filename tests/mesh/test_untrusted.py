"""Files of unknown folders are read without being trusted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dorkos.mesh.untrusted import UnreadableFileError, read_file


def test_reads_at_most_the_limit(tmp_path: Path) -> None:
    """However large the file is, no more than asked for comes into memory."""
    (tmp_path / "big").write_bytes(b"x" * 10_000)

    assert read_file(tmp_path / "big", within=tmp_path, limit=100) == b"x" * 100


def test_a_missing_file_is_not_an_unreadable_one(tmp_path: Path) -> None:
    """Also when a file stands where a folder would have to be."""
    (tmp_path / "file").touch()
    for missing in (tmp_path / "no", tmp_path / "no" / "deeper", tmp_path / "file" / "inside"):
        with pytest.raises(FileNotFoundError):
            read_file(missing, within=tmp_path, limit=1)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    """Opening a FIFO nobody writes to would block for ever; it is refused by name."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(UnreadableFileError, match="is a FIFO, not a regular file"):
        read_file(tmp_path / "pipe", within=tmp_path, limit=1)


def test_a_socket_and_a_directory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only regular files are read."""
    monkeypatch.chdir(tmp_path)  # The address of a socket must be short.
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(UnreadableFileError, match="is a socket"):
            read_file(tmp_path / "socket", within=tmp_path, limit=1)
    with pytest.raises(UnreadableFileError, match="is a directory"):
        read_file(tmp_path, within=tmp_path, limit=1)


def test_links_work_inside_the_folder_only(tmp_path: Path) -> None:
    """A link within the project is followed, one out of it is refused, whatever it leads to."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "real").write_bytes(b"mine")
    (project / "near").symlink_to("real")
    (tmp_path / "secret").write_bytes(b"theirs")
    (project / "far").symlink_to(tmp_path / "secret")
    (project / "device").symlink_to("/dev/zero")

    assert read_file(project / "near", within=project, limit=9) == b"mine"
    for name in ("far", "device"):
        with pytest.raises(UnreadableFileError, match="out of the project"):
            read_file(project / name, within=project, limit=9)


def test_dots_are_no_way_out(tmp_path: Path) -> None:
    """Neither through the folder above nor through a link and back."""
    (tmp_path / "secret").write_bytes(b"theirs")
    project = tmp_path / "project"
    (project / "inner").mkdir(parents=True)
    (project / "out").symlink_to(tmp_path / "elsewhere" / "deep")
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "secret").write_bytes(b"theirs")

    for name in ("../secret", "inner/../../secret", "out/../secret"):
        with pytest.raises(UnreadableFileError, match="out of the project"):
            read_file(project / name, within=project, limit=9)


def test_links_that_lead_nowhere_are_unreadable_not_absent(tmp_path: Path) -> None:
    """Something is there, so writing a new file in its place would destroy it."""
    (tmp_path / "dangling").symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")

    for name in ("dangling", "loop"):
        with pytest.raises(UnreadableFileError, match="link"):
            read_file(tmp_path / name, within=tmp_path, limit=1)


def test_what_takes_the_files_place_in_between_is_not_waited_for_or_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the opening, somebody may put a FIFO or a link where the file was."""
    (tmp_path / "secret").write_bytes(b"theirs")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("secret")
    regular = (tmp_path / "secret").stat()
    monkeypatch.setattr(os, "lstat", lambda _: regular)

    with pytest.raises(UnreadableFileError, match="is a FIFO"):
        read_file(tmp_path / "pipe", within=tmp_path, limit=9)
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_file(tmp_path / "link", within=tmp_path, limit=9)
