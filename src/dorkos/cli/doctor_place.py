"""What `dorkos doctor` says of what surrounds the database: Python, settings, data directory, disk, token."""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dorkos.config_file import lineage_path
from dorkos.db.filesystem import Trust, mount_of, trust_in
from dorkos.db.finding import Finding, examined, fault, fine, size, warning
from dorkos.db.unused_files import unused_files
from dorkos.plain_file import read_file

if TYPE_CHECKING:
    from dorkos.home import Home
    from dorkos.settings import LoadedSettings

# Below the first an upgrade may not find the room for its snapshot, below the second nothing works for long.
_ROOM_LITTLE = 500 * 10**6
_ROOM_NONE = 50 * 10**6
_COPIES = 3


def examine_python() -> Finding:
    """The interpreter and the machine."""
    told = f"{platform.python_version()} on {platform.system()} {platform.release()}, {platform.machine()}"
    return fine("python", told, version=platform.python_version(), machine=platform.machine())


def examine_settings(loaded: LoadedSettings, config: Path) -> Iterator[Finding]:
    """Where the settings come from, who can read those that are secret, and what nothing here reads."""
    from dorkos.config_view import unknown_keys
    from dorkos.settings import SETTINGS
    from dorkos.start_rules import start_problems

    given = {key: source for key, source in loaded.sources.items() if source != "default"}
    told = ", ".join(f"{key} from {source}" for key, source in sorted(given.items())) or "all as they come"
    holding = {given.get(row.key, "").removeprefix("file ") for row in SETTINGS if row.secret}
    for file in (config, lineage_path(config)):
        if str(file) in holding and file.stat().st_mode & 0o077:
            yield warning(
                "settings", f"{file} may hold a password, and others may read it", f"chmod 600 '{file}'"
            )
            break
    else:
        yield fine("settings", told, given=given)
    for key, problem in start_problems(loaded.values).items():
        if key == "scheduler.timezone":
            continue  # It has a finding of its own.
        yield fault(
            "settings",
            f"{key} from {loaded.sources[key]} keeps a server from starting: {problem}",
            f"`dorkos config set {key} VALUE`, then look again.",
        )
    for one in unknown_keys(config):
        if one.is_lineage:
            continue  # They are as they should be in its file, and do nothing.
        likely = f"Did you mean {one.meant}? " if one.meant else ""
        yield warning(
            "settings",
            f"{one.key} from {one.source} is no setting of this version, and has no effect",
            f"{likely}`dorkos config list` shows those that there are.",
            key=one.key,
        )


def examine_zone(setting: str | None) -> Finding:
    """The time zone of schedules that name none."""

    def look() -> Finding:
        from dorkos.pulse.zones import Zones

        name = Zones(setting).inherited.key
        source = "by scheduler.timezone" if setting else "as this machine is set"
        return fine("time zone", f"{name}, {source}", zone=name)

    return examined("time zone", look)


def examine_home(home: Home, *, postgres: bool) -> Iterator[Finding]:
    """The data directory, the disk below it, and the operator's token. Nothing is made or changed."""
    yield examined("directory", lambda: _directory(home.path))
    yield examined("disk", lambda: _disk(home, postgres=postgres))
    if os.access(home.path, os.X_OK):
        yield examined("token", lambda: _token(home))
        if postgres and (unused := unused_files(home.path)) is not None:
            yield warning("files", unused.message, unused.advice)


def _directory(path: Path) -> Finding:
    try:
        is_there = path.exists()
    except PermissionError as refused:
        return fault(
            "directory",
            f"{path} cannot be looked at: {refused.strerror}",
            "A folder above it may not be entered: correct its mode, or name another by --home or DORK_HOME.",
            path=str(path),
        )
    if not is_there:
        return fine("directory", f"{path} does not exist yet; the first start makes it", path=str(path))
    if not path.is_dir():
        return fault("directory", f"{path} is no directory", "Name another with --home or DORK_HOME.")
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    facts = {"path": str(path), "mode": f"{mode:04o}", "owner": found.st_uid}
    told = f"{path}, mode {mode:04o}"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        advice = "Correct its owner and mode, or name another with --home or DORK_HOME."
        return fault("directory", f"{told}: you may not write there", advice, **facts)
    if found.st_uid != os.geteuid():
        return warning(
            "directory",
            f"{told}, owned by user {found.st_uid} while you are user {os.geteuid()}",
            "Run DorkOS as its owner: files that another user makes there may lock the owner out.",
            **facts,
        )
    if mode & 0o077:
        return warning("directory", f"{told}: others may look into it", f"chmod 700 '{path}'", **facts)
    return fine("directory", f"{told}, yours alone", **facts)


def _disk(home: Home, *, postgres: bool) -> Finding:
    # Below a folder that may not be entered nothing can be asked; the same disk, most likely, is above it.
    place = next(path for path in (home.path, *home.path.parents) if os.access(path, os.F_OK))
    mount, free = mount_of(home.database_path), shutil.disk_usage(place).free
    facts: dict[str, object] = {"freeBytes": free}
    told = f"{size(free)} free"
    if mount is not None:
        facts |= {"kind": mount.kind, "mount": str(mount.point)}
        told = f"{mount.kind} at {mount.point}, {told}"
    trust = Trust.LOCAL if mount is None or postgres else trust_in(mount)
    if trust is Trust.NETWORK:
        return fault(
            "disk",
            f"{told}: a network file system, where SQLite can lose data",
            "Name a directory on a local disk with --home or DORK_HOME, or keep the state in PostgreSQL.",
            **facts,
        )
    if free < _ROOM_NONE:
        return fault(
            "disk", f"{told}: as good as full", "Make room: writes are about to be refused.", **facts
        )
    needed = max(_ROOM_LITTLE, _COPIES * _bytes_of(home.database_path))
    if free < needed:
        advice = "Make room: an upgrade needs a snapshot beside the database, and room to rebuild its tables."
        return warning("disk", f"{told}, and {size(needed)} would be well", advice, **facts)
    if trust is Trust.FLEETING:
        return warning(
            "disk",
            f"{told}: in memory, so all is gone when the machine starts anew",
            "Name a data directory on a disk with --home or DORK_HOME.",
            **facts,
        )
    if trust is Trust.UNPROVED:
        return warning(
            "disk",
            f"{told}: layered, shared, or of a kind that is not known here",
            "It will do if only this machine uses it and a restart leaves it there; if you are not sure, put "
            "the data directory on a local disk or a volume.",
            **facts,
        )
    return fine("disk", told, **facts)


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _token(home: Home) -> Finding:
    path = home.token_path
    if not path.exists():
        return fine("token", "none yet; the first start makes it")
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    facts = {"path": str(path), "mode": f"{mode:04o}"}
    if mode & 0o077:
        return fault(
            "token",
            f"{path} has mode {mode:04o}: others may read the key to everything",
            f"chmod 600 '{path}'. If somebody may have read it, delete it; the next start makes a new one.",
            **facts,
        )
    if not os.access(path, os.R_OK):
        return fault(
            "token", f"{path} cannot be read", "Run this as the user who started the server.", **facts
        )
    if not read_file(path).strip():
        return fault("token", f"{path} is empty", "Delete it; the next start makes a new one.", **facts)
    return fine("token", f"{path}, mode {mode:04o}", **facts)
