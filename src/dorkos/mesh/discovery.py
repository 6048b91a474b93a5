"""The walk that looks for agents: breadth first, bounded in every direction, reading and never running.

It goes by real paths: a root is resolved by the caller, and links to directories are not followed, so
no walk leaves its roots or goes in circles. Names that are not UTF-8 cannot be stored or sent, so such
directories are reported and passed over.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from dorkos.clock import Clock
from dorkos.mesh.model import Candidate, Problem, Progress, Truncation
from dorkos.mesh.strategies.order import first_answer
from dorkos.mesh.strategies.protocol import Folder, Strategy
from dorkos.mesh.territory import KEEP_OUT, VIRTUAL, is_walked

_PIECE = 1024
_MANIFEST_FOLDER = ".dork"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a walk ends. The roots are at depth 0, and directories at `depth` are still examined."""

    depth: int = 5
    directories: int = 100_000
    seconds: float = 10.0
    candidates: int = 1000
    problems: int = 1000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Ground:
    """What a walk has to know of the places it passes, all as real paths.

    A `denied` one is not entered. A `registered` one is no candidate, but what lies below it may be. The
    `data_directory` is nobody's project, nor is a folder whose manifest would lie in it. In `home` the
    directories of products hold a person's settings for all projects, so they mark none.
    """

    denied: Collection[str]
    registered: Collection[str]
    data_directory: str
    home: str


@dataclass(frozen=True, slots=True)
class _Family:
    """The directories in one folder that wait to be visited. Only names are kept: paths would be long."""

    folder: str
    names: list[str]
    depth: int
    root: str


@dataclass(slots=True)
class _Marks:
    """The names in one directory that somebody asked for."""

    files: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)

    def note(self, entry: os.DirEntry[str]) -> None:
        """Remember it for what it is. Links are followed: only to look at, not to go there."""
        if entry.is_file():
            self.files.add(entry.name)
        elif entry.is_dir():
            self.directories.add(entry.name)


class _EndedError(Exception):
    """The walk ends here, before everything was seen."""

    def __init__(self, by: Truncation) -> None:
        super().__init__(by)
        self.by = by


class Walk:
    """One discovery. `run` blocks, so it belongs in a thread; the other methods may be called meanwhile."""

    def __init__(
        self,
        roots: Iterable[Path],
        *,
        strategies: Sequence[Strategy],
        ground: Ground,
        limits: Limits,
        clock: Clock,
    ) -> None:
        """`roots` are real paths."""
        self.limits = limits
        self.truncated: Truncation | None = None
        self._strategies = strategies
        self._markers = frozenset[str]().union(*(strategy.markers for strategy in strategies))
        self._noted = self._markers | KEEP_OUT
        self._ground = ground
        self._clock = clock
        self._roots = [root for root in dict.fromkeys(map(str, roots)) if root not in ground.denied]
        # A root below another is walked from itself, so that the depth counts from there, and only once.
        self._barred = _names_by_folder({*ground.denied, *self._roots, ground.data_directory, *VIRTUAL})
        self._waiting: deque[_Family] = deque()
        self._found: list[Candidate | Problem] = []
        # Directories that wait or waited, those that wait no more, and of these the ones that were listed.
        self._taken_on = len(self._roots)
        self._settled = 0
        self._directories = 0
        self._candidates = 0
        self._problems = 0
        self._deadline = float("inf")
        self._is_cancelled = False

    def run(self) -> Iterator[Candidate | Problem]:
        """Walk to the end or to the first bound that ends it, and give what is found as it is found.

        The order is by depth, then by name, on every disk.
        """
        self._deadline = self._clock.monotonic() + self.limits.seconds
        try:
            for root in self._roots:
                self._visit(root, 0, root)
                yield from self._new()
            while self._waiting:
                family = self._waiting.popleft()
                start = family.folder.rstrip("/")
                for name in family.names:
                    self._visit(f"{start}/{name}", family.depth, family.root)
                    if self._found:
                        yield from self._new()
        except _EndedError as end:
            self.truncated = end.by
        yield from self._new()

    def cancel(self) -> None:
        """End the walk at its next step."""
        self._is_cancelled = True

    def progress(self) -> Progress:
        """How far it has come."""
        waiting = self._taken_on - self._settled
        return Progress(self._directories, waiting, self._candidates, self._problems)

    def _new(self) -> list[Candidate | Problem]:
        found, self._found = self._found, []
        return found

    def _check(self) -> None:
        if self._is_cancelled:
            raise _EndedError(Truncation.CANCELLED)
        if self._clock.monotonic() >= self._deadline:
            raise _EndedError(Truncation.TIME)

    def _visit(self, path: str, depth: int, root: str) -> None:
        self._check()
        # One more than there is room for shows that there were more.
        most = self._room() + 1 if depth < self.limits.depth else 0
        try:
            children, marks = self._list(path, most)
        except OSError as fault:
            has_gone = depth > 0 and isinstance(fault, FileNotFoundError)
            if not has_gone:  # What went away since it was listed is nothing that anybody has to mend.
                self._report(Problem(path, f"cannot be listed: {fault.strerror}"))
            return
        finally:
            self._settled += 1
        self._directories += 1
        if marks is not None:
            if path != root and not KEEP_OUT.isdisjoint(marks.files):
                return
            self._examine(path, marks, root)
        if children:
            self._take_on(path, children, depth + 1, root)

    def _list(self, path: str, most: int) -> tuple[list[str], _Marks | None]:
        """At most so many directories in `path` that are worth a visit, and the marks in it if any."""
        children: list[str] = []
        marks: _Marks | None = None
        noted = self._noted
        with os.scandir(path) as entries:
            # In pieces, so that one huge directory neither outlasts the limit nor fills the memory.
            while piece := list(islice(entries, _PIECE)):
                for entry in piece:
                    try:
                        if entry.name in noted:
                            marks = marks or _Marks()
                            marks.note(entry)
                        elif most and entry.is_dir(follow_symlinks=False) and is_walked(entry.name):
                            children.append(entry.name)
                    except OSError:  # A link in a circle, or what is gone since it was listed.
                        continue
                if len(piece) == _PIECE:
                    self._check()
                    del children[most:]
        return children, marks

    def _take_on(self, folder: str, children: list[str], depth: int, root: str) -> None:
        """Let the children wait, sorted: the order in which a disk lists them is another on each."""
        barred = self._barred.get(folder, frozenset())
        names = [
            name
            for name in children
            if name not in barred and (name.isascii() or self._can_be_told(folder, name))
        ]
        room = self._room()
        if len(names) > room:
            # What waits is still examined; the memory for what waits is bounded, too.
            self.truncated = self.truncated or Truncation.DIRECTORIES
        names = sorted(names)[:room]
        self._taken_on += len(names)
        self._waiting.append(_Family(folder, names, depth, root))

    def _room(self) -> int:
        """How many more directories may be taken on."""
        return max(0, self.limits.directories - self._taken_on)

    def _can_be_told(self, folder: str, name: str) -> bool:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(f"{folder}/{name}").decode(errors="replace")
            self._report(Problem(shown, "has a name that is not UTF-8"))
            return False
        return True

    def _examine(self, path: str, marks: _Marks, root: str) -> None:
        ground = self._ground
        if path == ground.home:
            marks.directories &= {_MANIFEST_FOLDER}
        if path in ground.registered or self._holds_our_data(path, marks):
            return
        folder = Folder(Path(path), frozenset(marks.files), frozenset(marks.directories))
        answer = first_answer(self._strategies, folder)
        if answer is None:
            return
        strategy, said = answer
        if isinstance(said, Problem):
            self._report(said)
        elif self._candidates >= self.limits.candidates:
            raise _EndedError(Truncation.CANDIDATES)
        else:
            self._candidates += 1
            self._found.append(Candidate(path, strategy.name, said, self._clock.now(), root))

    def _holds_our_data(self, path: str, marks: _Marks) -> bool:
        """Whether the folder's `.dork` is or leads to the data directory, where no manifest may lie."""
        if _MANIFEST_FOLDER not in marks.directories:
            return False
        real = os.path.realpath(f"{path}/{_MANIFEST_FOLDER}")
        return f"{real}/".startswith(f"{self._ground.data_directory}/")

    def _report(self, problem: Problem) -> None:
        if self._problems < self.limits.problems:
            self._problems += 1
            self._found.append(problem)
        else:
            # A thousand unreadable directories must not hide the agents beside them: the walk goes on.
            self.truncated = self.truncated or Truncation.PROBLEMS


def _names_by_folder(paths: Iterable[str]) -> Mapping[str, Collection[str]]:
    """The paths, told by what lies in which folder, so that most folders need no look at their children."""
    found: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        found.setdefault(folder, set()).add(name)
    return found
