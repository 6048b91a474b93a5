"""The file `.dork/agent.json` of a project: read with three outcomes, written atomically or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from dorkos.mesh.manifest import (
    MAX_BYTES,
    SCHEMA_VERSION,
    InvalidManifest,
    Manifest,
    NoManifest,
    parse_manifest,
)
from dorkos.mesh.manifest_lock import locked
from dorkos.mesh.untrusted import UnreadableFileError, read_file, real_path

_MODE = 0o644
_TEMPORARY = re.compile(r"\.agent-[0-9a-f]{16}\.tmp")
# A write takes milliseconds; whoever holds the lock for longer hangs on its disk.
_LOCKED_WITHIN_S = 5.0


class ManifestNotWrittenError(Exception):
    """The file stands as it was. `reason` says why, for people."""

    def __init__(self, reason: str) -> None:
        """Keep the reason as it is shown."""
        super().__init__(reason)
        self.reason = reason


def manifest_path(project: Path) -> Path:
    """Where the manifest of a project is."""
    return project / ".dork" / "agent.json"


def read_manifest(project: Path) -> Manifest | NoManifest | InvalidManifest:
    """What the project's manifest says: it, that there is none, or what is wrong with the file.

    `project` must be a real path. Blocks on the disk, so call it in a thread.
    """
    path = manifest_path(project)
    try:
        data = read_file(path, within=project, limit=MAX_BYTES + 1)
    except FileNotFoundError:
        return NoManifest(path)
    except UnreadableFileError as fault:
        return InvalidManifest(path, fault.reason)
    return parse_manifest(data, path)


def write_manifest(project: Path, data: bytes, *, replaces: str | None) -> None:
    """Put `data` in the place of the manifest whose hash is `replaces`, or of none.

    Durable on return, and never half there: a new file is synced, then renamed over the old one, and one
    writer at a time looks and renames. Raises `ManifestNotWrittenError`, and leaves the file alone, when
    the disk refuses, when `data` is no valid manifest, when the file is not the one to be replaced, or
    when a newer DorkOS wrote it. (An editor knows no lock: between the look and the rename there is a
    moment in which its change would be lost.) Blocks on the disk.
    """
    _refuse_unwritable(parse_manifest(data, manifest_path(project)), "the new manifest")
    try:
        path = real_path(manifest_path(project), within=project)
        is_new_folder = not path.parent.exists()
        path.parent.mkdir(exist_ok=True)
        with locked(path.parent, within_s=_LOCKED_WITHIN_S) as is_alone:
            _refuse_if_changed(project, replaces)
            if is_alone:
                _remove_leftovers(path.parent)
            _replace(path, data)
        if is_new_folder:
            _sync_folder(path.parent.parent)
    except UnreadableFileError as fault:
        raise ManifestNotWrittenError(f"{manifest_path(project)} {fault.reason}") from fault
    except TimeoutError as fault:
        raise ManifestNotWrittenError(f"{manifest_path(project)} is being written by another") from fault
    except OSError as fault:
        raise ManifestNotWrittenError(f"{manifest_path(project)}: {fault.strerror}") from fault


def _refuse_if_changed(project: Path, replaces: str | None) -> None:
    there = read_manifest(project)
    _refuse_unwritable(there, str(there.path))
    if (there.hash if isinstance(there, Manifest) else None) != replaces:
        raise ManifestNotWrittenError(f"{there.path} was changed in the meantime")


def _refuse_unwritable(manifest: Manifest | NoManifest | InvalidManifest, which: str) -> None:
    if isinstance(manifest, InvalidManifest):
        raise ManifestNotWrittenError(f"{which} {manifest.reason}")
    if isinstance(manifest, Manifest) and manifest.is_newer:
        raise ManifestNotWrittenError(
            f"{which} is of version {manifest.schema_version}, and this DorkOS writes {SCHEMA_VERSION}"
        )


def _remove_leftovers(folder: Path) -> None:
    """Take away what a writer left that was killed: whoever holds the lock is the only one at work."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.parent / f".agent-{secrets.token_hex(8)}.tmp"
    try:
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        mode = _MODE
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Without this a power cut could take the rename back.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
