"""How fast discovery is, beside `find` over the same tree in the same run."""

from __future__ import annotations

import subprocess
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Row
from dorkos.clock import SystemClock
from dorkos.mesh.discovery import DEFAULT_LIMITS, Ground, Walk
from dorkos.mesh.model import Candidate
from dorkos.mesh.strategies.order import STRATEGIES

_DIRECTORIES = 20_000
_PROJECTS = 1_000
_ROUNDS = 5
_INSTRUCTIONS = "# Agent\n\nLooks after one thing and says what it did.\n"
_MANIFEST = '{"name": "agent", "runtime": "command", "entrypoint": ["./agent"]}'
# How projects are marked; each way has its share of them.
_MARKS = ("CLAUDE.md", "AGENTS.md", "GEMINI.md", "opencode.json", ".dork/agent.json")


def rows() -> list[Row]:
    """Walk a tree of 20,000 directories with 1,000 projects, in turns with `find`. The first warms up."""
    with TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "tree"
        _grow(root)
        find, walk, first = [], [], []
        for _ in range(_ROUNDS + 1):  # In turns, so that both meet the same machine.
            find.append(_seconds(lambda: _find(root)))
            walk.append(_seconds(lambda: _all(root)))
            first.append(_seconds(lambda: next(_walk(root).run())))
        ratios = [ours / theirs for ours, theirs in zip(walk, find, strict=True)]
        small = _peak_bytes(lambda: _all(root / "group0"))
        large = _peak_bytes(lambda: _all(root))
    return [
        Row.of("find over 20,000 directories", find[1:], "s"),
        Row.of("discovery of 1,000 agents in them", walk[1:], "s"),
        Row.of("discovery, in times of find", ratios[1:], "x", 3.0),
        Row.of("first candidate", [seconds * 1000 for seconds in first[1:]], "ms", 200),
        Row("memory of discovery at its peak", large / 1_000_000, "MB", 10),
        Row("the same over a tenth of the tree", small / 1_000_000, "MB", None),
    ]


def _grow(root: Path) -> None:
    """10 groups of 10 areas of 10 projects, and in each project folders, half of them in the other half."""
    made = 1 + 10 + 100 + _PROJECTS
    for number in range(_PROJECTS):
        group, area, place = number // 100, number // 10 % 10, number % 10
        project = root / f"group{group}" / f"area{area}" / f"project{place}"
        mark = project / _MARKS[number % len(_MARKS)]
        mark.parent.mkdir(parents=True)
        mark.write_text(_MANIFEST if mark.name == "agent.json" else _INSTRUCTIONS, encoding="utf-8")
        made += mark.parent != project
        share = (_DIRECTORIES - made) // (_PROJECTS - number)
        for inner in range(share):
            outer = project / f"source{inner // 2}"
            folder = outer / "part" if inner % 2 else outer
            folder.mkdir()
            (folder / "code.py").touch()
            (folder / "notes.txt").touch()
        made += share


def _walk(root: Path) -> Walk:
    ground = Ground(denied=(), registered=(), data_directory="/nowhere", home="/nowhere")
    return Walk([root], strategies=STRATEGIES, ground=ground, limits=DEFAULT_LIMITS, clock=SystemClock())


def _all(root: Path) -> None:
    """Takes what is found as a stream does: nothing is kept."""
    walk = _walk(root)
    found = sum(isinstance(one, Candidate) for one in walk.run())
    if walk.truncated is not None or found == 0:
        raise SystemExit(f"Discovery ended early: {found} found, {walk.truncated}.")


def _find(root: Path) -> None:
    done = subprocess.run(
        ["find", str(root), "-maxdepth", "5", "-type", "d"], stdout=subprocess.PIPE, check=True
    )
    seen = done.stdout.count(b"\n")
    if seen != _DIRECTORIES:
        raise SystemExit(f"The tree has {seen} directories, not {_DIRECTORIES}.")


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
