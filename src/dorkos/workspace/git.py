"""What git says of a folder, asked with a deadline and without running what a repository brings along.

Whoever can write a repository's configuration can name programs in it, and folders elsewhere to look at. A
look must run none of these, and see no more than other paths may lead to.
"""

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
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.untrackedCache", "false"),
    ("safe.bareRepository", "explicit"),
)
# Filters of the person, such as that of LFS, are wanted; those of a repository are switched off by name.
_TRUSTED = frozenset({b"system", b"global", b"command"})
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
    # What is changed inside a submodule would be asked of another git, by that repository's configuration.
    words = ("status", "--porcelain=v2", "--branch", "-z", "--ignore-submodules=dirty")
    said = ask(folder, within, *words)
    return None if said is None else _parsed(said.decode("utf-8", "replace"))


def ask(folder: Path, within: Path, *words: str) -> bytes | None:
    """What git writes, None if it refuses, is not there, or its repository leads out of `within`.

    Raises `not_ready` after five seconds.
    """
    if not _is_confined(folder, within):
        return None
    return _run(folder, within, words, _without_filters(folder, within))


def _is_confined(folder: Path, within: Path) -> bool:
    """Whether working tree and repository lie inside. `.git` may be a file that leads anywhere, and
    `core.worktree` may say that the tree is elsewhere."""
    said = _run(folder, within, ("rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-common-dir"))
    if said is None:
        return False
    places = [(folder / os.fsdecode(line)).resolve() for line in said.split(b"\n")[:-1]]
    # A line break in a name makes more than three.
    return (
        len(places) == 3
        and all(place.is_relative_to(within) for place in places)
        and folder.is_relative_to(places[0])
    )


def _without_filters(folder: Path, within: Path) -> list[tuple[str, str]]:
    """Settings that take the programs away by which this repository would read its files."""
    words = ("config", "--show-scope", "--includes", "-z", "--get-regexp", r"^filter\..*\.[a-z]+$")
    parts = (_run(folder, within, words) or b"").split(b"\0")
    named = zip(parts[::2], parts[1::2], strict=False)
    keys = [key.split(b"\n", 1)[0] for scope, key in named if scope not in _TRUSTED]
    drivers = {os.fsdecode(key).rpartition(".")[0] for key in keys}
    off = (("clean", ""), ("process", ""), ("required", "false"))
    return [(f"{driver}.{name}", value) for driver in sorted(drivers) for name, value in off]


def _run(
    folder: Path, within: Path, words: Sequence[str], settings: Sequence[tuple[str, str]] = ()
) -> bytes | None:
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": str(within.parent),
        # What is missing is not fetched: a repository may name the program that would fetch it.
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
    }
    # Not by `-c`, which would end a name at the first `=` in it.
    chosen = [*_HARMLESS, *settings]
    environment["GIT_CONFIG_COUNT"] = str(len(chosen))
    for number, (key, value) in enumerate(chosen):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
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
