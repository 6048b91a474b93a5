"""Network file systems are refused before anything is touched; doubtful ones are not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path, PurePath

import psutil
import pytest

from dorkos.clock import ManualClock
from dorkos.db import filesystem
from dorkos.db.engine import Role, sqlite_engine
from dorkos.db.filesystem import (
    Mount,
    Trust,
    mount_of,
    read_mounts,
    refuse_network_filesystem,
    trust_in,
)
from dorkos.db.migrate import migrate_sqlite
from dorkos.db.sqlite import SqliteDatabase
from dorkos.errors import DorkError, ErrorCode
from dorkos.serving import run
from dorkos.testing import create_sqlite_file
from tests.cli.terminal import call

ROOT = Mount(PurePath("/"), "ext4", "/dev/sda1")


@pytest.mark.parametrize(
    ("kind", "source", "trust"),
    [
        ("nfs", "nas:/vol", Trust.NETWORK),
        ("nfs4", "nas:/vol", Trust.NETWORK),
        ("cifs", "//nas/share", Trust.NETWORK),
        ("smb3", "//nas/share", Trust.NETWORK),
        ("smbfs", "//kim@nas/share", Trust.NETWORK),
        ("afpfs", "//kim@nas/share", Trust.NETWORK),
        ("fuse.sshfs", "kim@nas:/vol", Trust.NETWORK),
        ("FUSE.SSHFS", "nas", Trust.NETWORK),
        ("fuse.rclone", "drive:", Trust.NETWORK),
        ("fuse.s3fs", "bucket", Trust.NETWORK),
        ("davfs", "https://nas/dav", Trust.NETWORK),
        ("macfuse", "kim@nas:/vol", Trust.NETWORK),
        ("macfuse", "nas:", Trust.NETWORK),
        ("fuse", "https://nas/dav", Trust.NETWORK),
        ("macfuse", "/dev/disk4s1", Trust.UNPROVED),
        ("fuse.mergerfs", "disk1:disk2", Trust.UNPROVED),
        ("9p", "C:\\", Trust.UNPROVED),
        ("virtiofs", "home", Trust.UNPROVED),
        ("overlay", "overlay", Trust.UNPROVED),
        ("ceph", "10.0.0.1:/", Trust.UNPROVED),
        ("brandnewfs", "nas:/vol", Trust.UNPROVED),
        ("tmpfs", "tmpfs", Trust.FLEETING),
        ("ext4", "/dev/sda1", Trust.LOCAL),
        ("apfs", "/dev/disk1s5", Trust.LOCAL),
        ("zfs", "tank/home:a", Trust.LOCAL),
        ("fuseblk", "/dev/sdb1", Trust.LOCAL),
    ],
)
def test_a_kind_is_trusted_for_what_it_is(kind: str, source: str, trust: Trust) -> None:
    """Only what certainly reaches over a network is refused; the kernel's and each system's names for it."""
    mount = Mount(PurePath("/srv"), kind, source)
    assert trust_in(mount) is trust
    if trust is not Trust.NETWORK:
        refuse_network_filesystem(Path("/srv/dork.db"), (ROOT, mount))
        return
    with pytest.raises(DorkError) as refusal:
        refuse_network_filesystem(Path("/srv/dork.db"), (ROOT, mount))
    assert refusal.value.code is ErrorCode.NETWORK_FILESYSTEM
    assert refusal.value.hint is not None
    assert "PostgreSQL" in refusal.value.hint


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/srv/nas/dork.db", "/srv/nas"),
        ("/srv/nas/not/yet/made/dork.db", "/srv/nas"),
        ("/srv/nas2/dork.db", "/"),
        ("/srv/nas/local/dork.db", "/srv/nas/local"),
        ("/srv/dork.db", "/"),
    ],
)
def test_the_longest_mount_above_a_path_is_its_own(path: str, point: str) -> None:
    """By whole names, also below a folder that does not exist yet."""
    mounts = (
        Mount(PurePath("/srv/nas/local"), "xfs", "/dev/sdb"),
        Mount(PurePath("/srv/nas"), "nfs", "n:/"),
        ROOT,
    )
    found = mount_of(Path(path), mounts)
    assert found is not None
    assert str(found.point) == point


def test_of_two_mounts_on_one_point_the_later_counts() -> None:
    """The automounter's stays in the list below what it mounted."""
    mounts = (
        ROOT,
        Mount(PurePath("/srv/home"), "autofs", "auto.home"),
        Mount(PurePath("/srv/home"), "nfs4", "nas:/home"),
    )
    found = mount_of(Path("/srv/home/kim/dork.db"), mounts)
    assert found is not None
    assert found.kind == "nfs4"


def test_links_are_followed_first(tmp_path: Path) -> None:
    """A link on the local disk that leads to a share does not help, whether folder or file."""
    share = tmp_path / "share"
    share.mkdir()
    mounts = (ROOT, Mount(PurePath(share.resolve()), "nfs", "nas:/"))
    (tmp_path / "home").symlink_to(share)
    (tmp_path / "dork.db").symlink_to(share / "dork.db")
    for path in (tmp_path / "home" / "dork.db", tmp_path / "dork.db"):
        with pytest.raises(DorkError):
            refuse_network_filesystem(path, mounts)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refuse_network_filesystem(tmp_path / "circle", (ROOT,))


def test_the_table_of_this_machine_is_read() -> None:
    """It tells the mount that a file of this machine lies on; a kind that cannot be told is let pass."""
    found = mount_of(Path(__file__))
    assert found is not None
    assert found.kind
    assert mount_of(Path(__file__), ()) is None
    refuse_network_filesystem(Path(__file__), ())


def _table(folder: Path, kind: str, point: Path) -> Path:
    """A kernel's table of mounts, with a blank in a name as the kernel writes it."""
    where = str(point).replace("\\", r"\134").replace(" ", r"\040")
    table = folder / "mountinfo"
    table.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "torn line\n"
        f"40 22 0:40 / {where} rw,relatime shared:2 master:3 - {kind} nas:/a\\040b rw,vers=4.2\n",
        encoding="utf-8",
    )
    return table


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that lies on NFS, as far as the kernel's table says."""
    folder = tmp_path.resolve() / "a shäre"
    folder.mkdir()
    monkeypatch.setattr(filesystem, "MOUNT_TABLE", _table(tmp_path, "nfs4", folder))
    return folder


def test_the_kernels_table_is_understood(share: Path) -> None:
    """Optional fields, escaped blanks, and lines that are none."""
    assert read_mounts() == (
        Mount(PurePath("/"), "ext4", "/dev/vda"),
        Mount(PurePath(share), "nfs4", "nas:/a b"),
    )


def test_without_a_kernels_table_the_system_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS. Its answer is the same for the root of this machine."""
    monkeypatch.setattr(filesystem, "MOUNT_TABLE", tmp_path / "nothing")
    points = {str(mount.point) for mount in read_mounts()}
    assert points == {part.mountpoint for part in psutil.disk_partitions(all=True)}


def test_a_server_does_not_start_on_a_share(share: Path) -> None:
    """Neither does a database come about, whether the directory was there before or not."""
    for home in (share, share / "not" / "yet"):
        with pytest.raises(DorkError) as refusal:
            run(home, {"server.port": 0}, echo=print)
        assert refusal.value.code is ErrorCode.NETWORK_FILESYSTEM
        assert str(share) in refusal.value.message
        assert not list(home.rglob("dork.db*"))


def test_a_database_on_a_share_is_neither_migrated_nor_opened(share: Path) -> None:
    """It keeps every byte, and no file appears beside it."""
    path = share / "dork.db"
    create_sqlite_file(path)
    before = path.read_bytes()
    database = SqliteDatabase
    for attempt in (
        lambda: migrate_sqlite(path, backups=share / "backups", clock=ManualClock()),
        lambda: sqlite_engine(path, Role.WRITER),
        lambda: asyncio.run(database(path, clock=ManualClock()).open()),
    ):
        with pytest.raises(DorkError) as refusal:
            attempt()
        assert refusal.value.code is ErrorCode.NETWORK_FILESYSTEM
    done = call("db", "migrate", "--json", environment={"DORK_HOME": str(share)})
    assert (done.code, done.json["code"]) == (7, "network_filesystem")
    assert path.read_bytes() == before
    assert sorted(file.name for file in share.iterdir()) == ["dork.db", "lock"]


def test_a_start_does_not_load_psutil_to_look_at_the_mounts() -> None:
    """It would cost more than the whole rest of opening a database."""
    if not filesystem.MOUNT_TABLE.exists():
        return
    program = (
        "import sys; from pathlib import Path; from dorkos.db.filesystem import refuse_network_filesystem\n"
        "refuse_network_filesystem(Path('/')); print('psutil' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
