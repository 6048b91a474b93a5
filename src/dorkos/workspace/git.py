"""What git says of a folder, asked with a deadline and without running what a repository brings along."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dorkos.errors import DorkError, ErrorCode

_WITHIN_S = 5.0
# A repository's own configuration may name programs; these would run for a mere look.
_HARMLESS = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.untrackedCache=false",
)
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "XDG_CONFIG_HOME", "USER")


@dataclass(frozen=True, slots=True)
class GitStatus:
    """A working tree in numbers. `tracking` is the branch it follows; None if it follows none."""

    branch: str
    ahead: int
    behind: int
    modified: int
    staged: int
    untracked: int
    conflicted: int
    detached: bool
    tracking: str | None

    @property
    def clean(self) -> bool:
        """Whether nothing was changed and nothing is new."""
        return not (self.modified or self.staged or self.untracked or self.conflicted)


def status(folder: Path, *, within: Path) -> GitStatus | None:
    """The state of the working tree that `folder` lies in, None if it lies in none or there is no git.

    A working tree above `within` is not looked for.

    Raises `not_ready` if git takes longer than five seconds.
    """
    said = ask(folder, within, "status", "--porcelain=v2", "--branch", "-z")
    return None if said is None else _parsed(said.decode("utf-8", "replace"))


def ask(folder: Path, within: Path, *words: str) -> bytes | None:
    """What git writes, None if it refuses or is not there. Raises `not_ready` after five seconds."""
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": str(within.parent),
    }
    try:
        done = subprocess.run(
            ["git", *_HARMLESS, "-C", str(folder), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise DorkError(
            ErrorCode.NOT_READY,
            f"git did not answer within {_WITHIN_S:.0f} s about {folder}.",
            hint="The repository may be very large, or its disk slow. Try again.",
        ) from fault
    except OSError:
        return None  # There is no git on this machine.
    return done.stdout if done.returncode == 0 else None


def _parsed(text: str) -> GitStatus:
    head, upstream, ahead, behind = "", None, 0, 0
    modified = staged = untracked = conflicted = 0
    parts = iter(text.split("\0"))
    for part in parts:
        words = part.split(" ")
        if part.startswith("# branch.head "):
            head = part.removeprefix("# branch.head ")
        elif part.startswith("# branch.upstream "):
            upstream = part.removeprefix("# branch.upstream ")
        elif part.startswith("# branch.ab "):
            ahead, behind = (abs(int(word)) for word in words[2:4])
        elif words[0] in ("1", "2"):
            staged += words[1][0] != "."
            modified += words[1][1] != "."
            if words[0] == "2":
                next(parts, None)  # The name it had before.
        elif words[0] == "u":
            conflicted += 1
        elif words[0] == "?":
            untracked += 1
    detached = head == "(detached)"
    return GitStatus(
        "HEAD" if detached else head,
        ahead,
        behind,
        modified,
        staged,
        untracked,
        conflicted,
        detached,
        upstream,
    )


def files(folder: Path, *, within: Path) -> Sequence[str] | None:
    """Tracked files and new ones that are not ignored, below `folder`; None where git knows nothing."""
    said = ask(folder, within, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if said is None:
        return None
    names = dict.fromkeys(name for name in said.split(b"\0") if name)
    return [name.decode("utf-8", "replace") for name in names]
