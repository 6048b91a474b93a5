"""The walk that looks for agents: breadth first, bounded in every direction, reading and never running.

It goes by real paths: a root is resolved by the caller, and links to directories are not followed, so
no walk leaves its roots or goes in circles. Names that are not UTF-8 cannot be stored or sent, so such
directories are reported and passed over.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dorkos.clock import Clock
from dorkos.mesh.model import Candidate, Discovery, Problem, Truncation
from dorkos.mesh.strategies.order import first_answer
from dorkos.mesh.strategies.protocol import Folder, Strategy

# What holds copies, caches and build results. Directories that begin with a dot are passed over as well:
# `.claude`, `.codex` and their like hold a product's settings, not projects.
EXCLUDED = frozenset({"node_modules", "dist", "build", "__pycache__", "venv", "extensions"})

_ENTRIES_BETWEEN_CHECKS = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a walk ends. The roots are at depth 0, and directories at `depth` are still examined."""

    depth: int = 5
    directories: int = 20_000
    seconds: float = 10.0
    candidates: int = 1000
    problems: int = 1000


DEFAULT_LIMITS = Limits()


@dataclass(slots=True)
class _Listing:
    """What one directory holds, as far as it matters here."""

    files: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    children: list[str] = field(default_factory=list)


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
        denied: Collection[str],
        registered: Collection[str],
        limits: Limits,
        clock: Clock,
    ) -> None:
        """`roots`, `denied` and `registered` are real paths. A denied one is not entered; a registered
        one is no candidate, but what lies below it may be."""
        self.limits = limits
        self._strategies = strategies
        self._markers = frozenset[str]().union(*(strategy.markers for strategy in strategies))
        self._denied = denied
        self._registered = registered
        self._clock = clock
        # All roots wait first, so a directory is reached by the shortest way and roots may overlap.
        self._waiting = deque((path, 0) for path in dict.fromkeys(str(root) for root in roots))
        self._seen = {path for path, _ in self._waiting}
        self._candidates: list[Candidate] = []
        self._problems: list[Problem] = []
        self._directories = 0
        self._truncated: Truncation | None = None
        self._deadline = float("inf")
        self._cancelled = threading.Event()

    def run(self) -> Discovery:
        """Walk to the end or to the first bound that ends it."""
        self._deadline = self._clock.monotonic() + self.limits.seconds
        try:
            while self._waiting:
                self._check()
                path, depth = self._waiting.popleft()
                self._visit(path, depth)
        except _EndedError as end:
            self._truncated = end.by
        return self.so_far()

    def cancel(self) -> None:
        """End the walk at its next step."""
        self._cancelled.set()

    def so_far(self, *, truncated: Truncation | None = None) -> Discovery:
        """What was found until now."""
        return Discovery(
            tuple(self._candidates), tuple(self._problems), self._directories, self._truncated or truncated
        )

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise _EndedError(Truncation.CANCELLED)
        if self._clock.monotonic() >= self._deadline:
            raise _EndedError(Truncation.TIME)

    def _visit(self, path: str, depth: int) -> None:
        if path in self._denied:
            return
        try:
            listing = self._list(path, descend=depth < self.limits.depth)
        except OSError as fault:
            self._report(Problem(path, f"cannot be listed: {fault.strerror}"))
            return
        self._directories += 1
        # Most folders hold no marker; asking the strategies about them would double the cost of a walk.
        if (listing.files or listing.directories) and path not in self._registered:
            self._examine(Folder(Path(path), frozenset(listing.files), frozenset(listing.directories)))
        # Sorted, because the order in which a disk lists a directory differs from one to the next.
        for child in sorted(listing.children):
            self._seen.add(child)
            self._waiting.append((child, depth + 1))

    def _list(self, path: str, *, descend: bool) -> _Listing:
        listing = _Listing()
        with os.scandir(path) as entries:
            for number, entry in enumerate(entries, start=1):
                if number % _ENTRIES_BETWEEN_CHECKS == 0:
                    self._check()
                self._take(listing, entry, descend=descend)
        return listing

    def _take(self, listing: _Listing, entry: os.DirEntry[str], *, descend: bool) -> None:
        try:
            if entry.name in self._markers:
                if entry.is_file():
                    listing.files.add(entry.name)
                elif entry.is_dir():
                    listing.directories.add(entry.name)
            if not descend or not _is_walked(entry) or entry.path in self._seen:
                return
        except OSError:  # A link in a circle, or gone since it was listed.
            return
        if not _is_utf8(entry.name):
            shown = os.fsencode(entry.path).decode(errors="replace")
            self._report(Problem(shown, "has a name that is not UTF-8"))
        elif len(self._seen) + len(listing.children) < self.limits.directories:
            listing.children.append(entry.path)
        else:
            # What is waiting is still examined; the memory for what waits is bounded, too.
            self._truncated = self._truncated or Truncation.DIRECTORIES

    def _examine(self, folder: Folder) -> None:
        answer = first_answer(self._strategies, folder)
        if answer is None:
            return
        strategy, said = answer
        if isinstance(said, Problem):
            self._report(said)
        elif len(self._candidates) >= self.limits.candidates:
            raise _EndedError(Truncation.CANDIDATES)
        else:
            self._candidates.append(Candidate(str(folder.path), strategy.name, said, self._clock.now()))

    def _report(self, problem: Problem) -> None:
        if len(self._problems) < self.limits.problems:
            self._problems.append(problem)
        else:
            # A thousand unreadable directories must not hide the agents beside them: the walk goes on.
            self._truncated = self._truncated or Truncation.PROBLEMS


def _is_walked(entry: os.DirEntry[str]) -> bool:
    return (
        not entry.name.startswith(".") and entry.name not in EXCLUDED and entry.is_dir(follow_symlinks=False)
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
