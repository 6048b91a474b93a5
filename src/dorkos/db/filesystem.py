"""Which file system a path lies on, and whether SQLite can keep its promises there.

Locks and the shared memory of the write-ahead log do not reach from one machine to another: two machines
that open one file over a network can destroy it without either noticing. Such a file system is refused
before the file is touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePath

from dorkos.errors import DorkError, ErrorCode

# The kernel's list of mounts, where there is one. Elsewhere psutil asks the system.
MOUNT_TABLE = Path("/proc/self/mountinfo")

_NETWORK = frozenset(
    {
        *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afp", "afpfs", "ncp", "ncpfs"),
        *("afs", "coda", "davfs", "webdav", "ftp", "ftpfs", "sshfs"),
    }
)
# Programs that show another machine, or a store of objects, as a folder.
_NETWORK_PROGRAMS = frozenset(
    {
        *("sshfs", "smbnetfs", "rclone", "s3fs", "gcsfuse", "goofys", "blobfuse", "blobfuse2"),
        *("davfs", "davfs2", "curlftpfs", "httpdirfs", "gvfsd-fuse", "cifs", "nfs"),
    }
)
# Where the kind does not name the program, the source has to tell: host:path, //host/share, or an address.
_NAMELESS_PROGRAMS = frozenset({"fuse", "fusefs", "macfuse", "osxfuse"})
_REMOTE_SOURCE = re.compile(r"//[^/]|[\w.+-]+://|([^/:@]+@)?[^/:@]+:")
_LOCAL = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "nilfs2"),
        *("apfs", "hfs", "ufs", "ffs", "ntfs", "ntfs3", "exfat", "vfat", "msdos", "fuseblk"),
    }
)
_FLEETING = frozenset({"tmpfs", "ramfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Trust(StrEnum):
    """What may be expected of a file system."""

    LOCAL = "local"
    # In memory: the next start of the machine finds it empty.
    FLEETING = "fleeting"
    # Layered, shared with a host, or of a kind that is not known here: usually well, and not proved.
    UNPROVED = "unproved"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted file system: where it is, its kind such as `ext4`, and what it shows."""

    point: PurePath
    kind: str
    source: str


def mount_of(path: Path, mounts: Sequence[Mount] | None = None) -> Mount | None:
    """The file system that `path` lies on, or would if it existed; None where that cannot be told.

    `mounts` in the order in which they were mounted; by default those of this machine.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError):  # Links in a circle; whoever opens it next says so.
        resolved = path.absolute()
    found: Mount | None = None
    for mount in read_mounts() if mounts is None else mounts:
        if not resolved.is_relative_to(mount.point):
            continue
        # Of two on one point the later hides the earlier, such as the automounter's behind what it mounts.
        if found is None or len(mount.point.parts) >= len(found.point.parts):
            found = mount
    return found


def trust_in(mount: Mount) -> Trust:
    """What may be expected of it, by its kind."""
    kind, _, program = mount.kind.lower().partition(".")
    if kind in _NETWORK or program in _NETWORK_PROGRAMS:
        return Trust.NETWORK
    if kind in _NAMELESS_PROGRAMS and not program and _REMOTE_SOURCE.match(mount.source):
        return Trust.NETWORK
    if kind in _FLEETING:
        return Trust.FLEETING
    return Trust.LOCAL if kind in _LOCAL and not program else Trust.UNPROVED


def refuse_network_filesystem(path: Path, mounts: Sequence[Mount] | None = None) -> None:
    """Raise `network_filesystem` if `path` lies, or would lie, on one. Touches nothing.

    Kinds that are only doubtful pass: `dorkos doctor` warns of them.
    """
    mount = mount_of(path, mounts)
    if mount is None or trust_in(mount) is not Trust.NETWORK:
        return
    raise DorkError(
        ErrorCode.NETWORK_FILESYSTEM,
        f"{path} lies on a network file system ({mount.kind}, mounted at {mount.point}), where SQLite can "
        "lose data. Nothing was opened.",
        hint="Name a data directory on a local disk with --home or DORK_HOME, or keep the state in "
        "PostgreSQL with --database.",
        details={"kind": mount.kind, "mount": str(mount.point)},
    )


def refuse_dangling_link(path: Path) -> None:
    """Raise `database_unreachable` if `path` is a link to a file that is not there.

    A new database would be made behind it: on the disk under a mount point, say, whose own disk holds the
    real one and is not mounted just now.
    """
    if path.exists() or not path.is_symlink():
        return
    raise DorkError(
        ErrorCode.DATABASE_UNREACHABLE,
        f"{path} is a link to {path.readlink()}, which is not there. Nothing was made.",
        hint="Mount the disk that it lies on. For a new database, remove the link, or make an empty file "
        "where it leads.",
    )


def read_mounts() -> tuple[Mount, ...]:
    """The mounts that this process sees, in order. Empty where they cannot be read."""
    try:
        table = os.fsdecode(MOUNT_TABLE.read_bytes())
    except OSError:
        return tuple(_from_system())
    return tuple(_from_table(table))


def _from_table(table: str) -> Iterable[Mount]:
    for line in table.split("\n"):
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) >= 5 and len(rest) >= 2:
            yield Mount(PurePath(_plain(fields[4])), rest[0], _plain(rest[1]))


def _plain(field: str) -> str:
    """A field of the table: blanks and backslashes stand there as octal numbers."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)


def _from_system() -> Iterable[Mount]:
    import psutil  # Costs more than all the rest of a start, and Linux can do without.

    try:
        return [
            # Of another machine's disk Windows tells the kind that it has there.
            Mount(PurePath(part.mountpoint), "smb" if "remote" in part.opts else part.fstype, part.device)
            for part in psutil.disk_partitions(all=True)
        ]
    except (psutil.Error, OSError):
        return []
