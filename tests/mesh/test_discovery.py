"""The walk finds what is there, ends where it must, and survives any tree."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from dorkos.clock import ManualClock
from dorkos.mesh.discovery import DEFAULT_LIMITS, Ground, Limits, Walk
from dorkos.mesh.model import Candidate, Discovery, Hints, Problem, Progress, Truncation
from dorkos.mesh.strategies.order import STRATEGIES
from dorkos.mesh.strategies.protocol import Folder, Strategy
from dorkos.vocabulary import AgentRuntime
from tests.mesh.fleet import make_project
from tests.mesh.unprivileged import unprivileged

SCOUT = {"name": "Scout", "runtime": "codex"}


class TickingClock(ManualClock):
    """A second passes with every look at it."""

    def monotonic(self) -> float:
        self._monotonic += 1
        return self._monotonic


def ground(denied: Collection[str] = (), registered: Collection[str] = (), home: str = "/home") -> Ground:
    """Places to respect; the data directory is elsewhere."""
    return Ground(denied=denied, registered=registered, data_directory="/data", home=home)


def walk(
    *roots: Path,
    on: Ground | None = None,
    limits: Limits = DEFAULT_LIMITS,
    clock: ManualClock | None = None,
    strategies: tuple[Strategy, ...] = STRATEGIES,
) -> Walk:
    """A walk with everything that a test does not care about."""
    return Walk(
        roots, strategies=strategies, ground=on or ground(), limits=limits, clock=clock or ManualClock()
    )


def seen(under_test: Walk) -> Discovery:
    """All that a walk finds."""
    found = list(under_test.run())
    return Discovery(
        tuple(one for one in found if isinstance(one, Candidate)),
        tuple(one for one in found if isinstance(one, Problem)),
        under_test.progress().directories,
        under_test.truncated,
    )


def explore(*roots: Path, **given: Any) -> Discovery:
    """All that a walk of these roots finds."""
    return seen(walk(*roots, **given))


def names(found: Discovery, root: Path) -> list[str]:
    """The candidates' paths below the root, in the order found."""
    return [str(Path(candidate.path).relative_to(root)) for candidate in found.candidates]


def test_breadth_first_in_the_order_of_names(tmp_path: Path) -> None:
    """Agents inside of agents are found, and the answer does not depend on the disk's order."""
    for name in ("b", "a/nested/deep", "a", "Ümläut mit Leerzeichen"):
        make_project(tmp_path / name, claude="Words.")
    make_project(tmp_path / "a/manifest", SCOUT)

    found = explore(tmp_path)

    assert names(found, tmp_path) == ["a", "b", "Ümläut mit Leerzeichen", "a/manifest", "a/nested/deep"]
    assert found.truncated is None
    assert found.problems == ()
    assert found.directories == 7
    assert {candidate.strategy for candidate in found.candidates} == {"claude-code", "manifest"}
    assert found.candidates[0].discovered_at == ManualClock().now()


def test_the_root_itself_may_be_an_agent_whatever_its_name(tmp_path: Path) -> None:
    """Neither exclusions nor the rule for dots concern a root."""
    roots = [make_project(tmp_path / name, claude="Words.") for name in (".hidden", "node_modules")]

    assert names(explore(*roots), tmp_path) == [".hidden", "node_modules"]


def test_depth_counts_from_the_root(tmp_path: Path) -> None:
    """A directory at the depth is examined, one below is not; that is no truncation."""
    make_project(tmp_path / "1/2", claude="Words.")
    make_project(tmp_path / "1/2/3", claude="Words.")

    found = explore(tmp_path, limits=Limits(depth=2))

    assert names(found, tmp_path) == ["1/2"]
    assert found.truncated is None


@pytest.mark.parametrize(
    "name", ["node_modules", ".git", "dist", "build", ".cache", "__pycache__", ".venv", "venv", "extensions"]
)
def test_copies_and_caches_are_passed_over(tmp_path: Path, name: str) -> None:
    """What lies there is not a project of the person."""
    make_project(tmp_path / name / "package", claude="Words.")

    assert explore(tmp_path).candidates == ()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "agent.tmp",
            "agent.bak",
            "agent.BAK",
            "agent.bak2",
            "agent.old",
            "agent.orig",
            "agent.tmp-3fa9c2d1",
        ),
        *("agent.backup-20260301", "agent.bak.20260301T090000Z", "agent~", "~agent", "#agent#", "agent.part"),
    ],
)
def test_what_a_crash_or_an_editor_left_is_passed_over(tmp_path: Path, name: str) -> None:
    """A copy that was made on the way to something is no agent, though it looks like one."""
    make_project(tmp_path / name, SCOUT)

    assert explore(tmp_path).candidates == ()


@pytest.mark.parametrize(
    "name", ["template", "agent.template", "my.older", "C#", "backup", "db.backup-service", "bak", "old"]
)
def test_a_name_that_only_resembles_those_is_a_project(tmp_path: Path, name: str) -> None:
    """The rule is about how a name ends, not about the words in it."""
    make_project(tmp_path / name, SCOUT)

    assert names(explore(tmp_path), tmp_path) == [name]


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "CACHEDIR.TAG"])
def test_a_folder_that_says_it_is_a_cache_is_believed(tmp_path: Path, mark: str) -> None:
    """Whatever it is called. A root that a person named is looked at all the same."""
    environment = make_project(tmp_path / "env", claude="Words.")
    make_project(environment / "package", claude="Words.")
    (environment / mark).touch()

    assert explore(tmp_path).candidates == ()
    assert names(explore(environment), environment) == [".", "package"]


@pytest.mark.parametrize("name", [".claude", ".cursor", ".codex", ".gemini", ".opencode", ".dork"])
def test_a_persons_settings_are_no_project(tmp_path: Path, name: str) -> None:
    """In the home directory they are for all projects: neither they nor the home are an agent by them."""
    make_project(tmp_path / name, claude="Words for all my projects.")
    make_project(tmp_path / name / "inner", SCOUT)
    make_project(tmp_path / "project", claude="Words.")

    found = explore(tmp_path, on=ground(home=str(tmp_path)))

    assert names(found, tmp_path) == ["project"]


def test_a_file_of_instructions_makes_a_home_a_project(tmp_path: Path) -> None:
    """That is written for a place, not for a product; and elsewhere a directory is mark enough."""
    home = make_project(tmp_path / "home", claude="Words.")
    (tmp_path / "project/.codex").mkdir(parents=True)

    assert names(explore(tmp_path, on=ground(home=str(home))), tmp_path) == ["home", "project"]


def test_the_data_directory_is_not_entered(tmp_path: Path) -> None:
    """Nor is a folder offered whose manifest would lie there."""
    data = make_project(tmp_path / "data", SCOUT)
    make_project(data / "inner", claude="Words.")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/.dork").symlink_to(data)
    make_project(tmp_path / "linked", claude="Words.")
    nested = make_project(tmp_path / "holder", claude="Words.")
    (nested / ".dork").mkdir()

    def found(data_directory: Path) -> list[str]:
        on = Ground(denied=(), registered=(), data_directory=str(data_directory), home="/home")
        return names(explore(tmp_path, on=on), tmp_path)

    assert found(data) == ["holder"]
    assert found(nested / ".dork") == ["data", "data/inner"]


def test_trees_that_a_kernel_makes_up_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a person names one."""
    processes = make_project(tmp_path / "proc", claude="Words.")
    monkeypatch.setattr("dorkos.mesh.discovery.VIRTUAL", {str(processes)})

    assert explore(tmp_path).candidates == ()
    assert names(explore(processes), tmp_path) == ["proc"]


def test_a_denial_wins_over_a_manifest_and_ends_there(tmp_path: Path) -> None:
    """Nothing at or below a denied path is offered, not even looked at."""
    denied = make_project(tmp_path / "denied", SCOUT)
    make_project(denied / "below", claude="Words.")
    make_project(denied / "broken", b"{")

    found = explore(tmp_path, on=ground(denied={str(denied)}))

    assert found.candidates == ()
    assert found.problems == ()
    assert found.directories == 1
    assert explore(denied, on=ground(denied={str(denied)})).directories == 0


def test_a_registered_folder_is_no_candidate_but_may_hold_some(tmp_path: Path) -> None:
    """A repository of agents may be an agent itself."""
    registered = make_project(tmp_path / "registered", SCOUT)
    make_project(registered / "below", claude="Words.")

    found = explore(tmp_path, on=ground(registered={str(registered)}))

    assert names(found, tmp_path) == ["registered/below"]


def test_overlapping_roots_give_no_duplicates(tmp_path: Path) -> None:
    """Each directory is seen once, and from the nearest root, so the depth counts from there."""
    make_project(tmp_path / "1/2/3/4", claude="Words.")
    inner = tmp_path / "1/2"

    found = explore(tmp_path, inner, inner, limits=Limits(depth=2))

    assert names(found, tmp_path) == ["1/2/3/4"]
    assert found.directories == 5


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither out of the root nor in a circle."""
    root = make_project(tmp_path / "root")
    make_project(tmp_path / "outside", claude="Words.")
    make_project(root / "inside", claude="Words.")
    (root / "leak").symlink_to(tmp_path / "outside")
    (root / "again").symlink_to(root / "inside")
    (root / "inside" / "up").symlink_to(root)
    (root / "self").symlink_to("self")

    assert names(explore(root), root) == ["inside"]


def test_an_odd_tree_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIFOs, sockets and loops where a marker is expected; empty manifests and manifests that are folders."""
    monkeypatch.chdir(tmp_path)  # The address of a socket must be short.
    for name in ("fifo", "loop", "socket", "empty", "folder", "good"):
        make_project(tmp_path / name)
    os.mkfifo(tmp_path / "fifo/CLAUDE.md")
    (tmp_path / "loop/CLAUDE.md").symlink_to("CLAUDE.md")
    (tmp_path / "loop/.dork").symlink_to(".dork")
    make_project(tmp_path / "empty", b"")
    (tmp_path / "folder/.dork/agent.json").mkdir(parents=True)
    make_project(tmp_path / "good", SCOUT)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket/CLAUDE.md")
        found = explore(tmp_path)

    assert names(found, tmp_path) == ["good"]
    assert {Path(problem.path).parts[-3]: problem.reason for problem in found.problems} == {
        "empty": "is empty",
        "folder": "is a directory, not a regular file",
    }


def test_a_name_that_is_not_utf8_is_reported_and_passed_over(tmp_path: Path) -> None:
    """It could be neither stored nor sent."""
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102  # A Path cannot say such a name plainly.
    make_project(tmp_path / "good", claude="Words.")

    found = explore(tmp_path)

    assert names(found, tmp_path) == ["good"]
    (problem,) = found.problems
    assert problem.path == f"{tmp_path}/caf\ufffd"
    assert "not UTF-8" in problem.reason
    json.dumps(problem.path).encode()


def test_a_directory_that_may_not_be_read_is_reported() -> None:
    """The walk goes on beside it."""
    with unprivileged() as person:
        make_project(person.folder / "closed/inner", claude="Words.")
        make_project(person.folder / "open", claude="Words.")
        (person.folder / "closed").chmod(0)

        said = person.run(
            "from dorkos.mesh.discovery import *\n"
            "from dorkos.mesh.strategies.order import STRATEGIES\n"
            "from dorkos.clock import SystemClock\n"
            "ground = Ground(denied=(), registered=(), data_directory='/data', home='/home')\n"
            "for one in Walk([Path(sys.argv[1])], strategies=STRATEGIES, ground=ground,\n"
            "        limits=Limits(), clock=SystemClock()).run():\n"
            "    print(Path(one.path).name, getattr(one, 'reason', ''))",
            str(person.folder),
        )

    assert [line.strip() for line in said.splitlines()] == [
        "closed cannot be listed: Permission denied",
        "open",
    ]


def test_a_root_that_is_no_directory_is_a_problem(tmp_path: Path) -> None:
    """Neither silence nor an error: the other roots are walked."""
    (tmp_path / "file").touch()
    good = make_project(tmp_path / "good", claude="Words.")

    found = explore(tmp_path / "gone", tmp_path / "file", good)

    assert names(found, tmp_path) == ["good"]
    assert [problem.reason for problem in found.problems] == [
        "cannot be listed: No such file or directory",
        "cannot be listed: Not a directory",
    ]


def test_what_is_found_is_told_before_the_walk_goes_on(tmp_path: Path) -> None:
    """The first candidate does not wait for the last directory."""
    make_project(tmp_path / "a", claude="Words.")
    make_project(tmp_path / "b/inner", claude="Words.")
    under_test = walk(tmp_path)
    findings = under_test.run()

    first = next(findings)

    assert isinstance(first, Candidate)
    assert (Path(first.path).name, first.scan_root) == ("a", str(tmp_path))
    assert under_test.progress() == Progress(directories=2, waiting=1, candidates=1, problems=0)
    assert len(list(findings)) == 1
    assert under_test.progress() == Progress(directories=4, waiting=0, candidates=2, problems=0)


def test_nothing_waits_at_the_end_whatever_was_passed_over(tmp_path: Path) -> None:
    """Denied, unreadable and doubly named directories are counted as dealt with."""
    denied = make_project(tmp_path / "denied")
    inner = make_project(tmp_path / "a/inner")
    under_test = walk(tmp_path, inner, tmp_path / "gone", on=ground(denied={str(denied)}))

    seen(under_test)

    assert under_test.progress() == Progress(directories=3, waiting=0, candidates=0, problems=1)


def test_each_candidate_names_the_root_it_was_found_below(tmp_path: Path) -> None:
    """Of overlapping roots, the nearest."""
    make_project(tmp_path / "a/inner", claude="Words.")
    make_project(tmp_path / "b", claude="Words.")

    found = explore(tmp_path, tmp_path / "a")

    roots = {Path(one.path).name: Path(one.scan_root).name for one in found.candidates}
    assert roots == {"inner": "a", "b": tmp_path.name}


def test_one_directory_with_very_many_is_bounded_too(tmp_path: Path) -> None:
    """Its names do not fill the memory before they are counted."""
    for number in range(2100):
        (tmp_path / str(number)).mkdir()

    found = explore(tmp_path, limits=Limits(directories=6))

    assert (found.directories, found.truncated) == (6, Truncation.DIRECTORIES)
    assert len(walk(tmp_path)._list(str(tmp_path), 6)[0]) < 6 + 1024


def test_nothing_that_is_found_is_run_or_changed(tmp_path: Path) -> None:
    """No program is started, no code compiled, no file opened for writing, none read but marks."""
    entrypoint = {"name": "x", "runtime": "command", "entrypoint": ["./run"]}
    project = make_project(tmp_path / "project", entrypoint, claude="Words.")
    (project / "run").write_text("#!/bin/sh\ntouch ran\n", encoding="utf-8")
    (project / "run").chmod(0o755)
    for name in ("sitecustomize.py", "conftest.py", "setup.py"):
        (project / name).write_text("open('ran', 'w')", encoding="utf-8")
    other = make_project(tmp_path / "other", claude="`touch ran`")
    (other / ".claude").mkdir()
    (other / ".claude/settings.json").write_text('{"hooks": {}}', encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-c", _WATCHED_WALK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    *events, count = done.stdout.splitlines()
    assert count == "2"
    assert sorted(events) == [
        f"open {other}/CLAUDE.md",
        f"open {project}/.dork/agent.json",
        *(f"os.scandir {path}" for path in sorted((tmp_path, other, project))),
    ]


# Tells what the interpreter is asked to do to the outside while a walk is at work.
_WATCHED_WALK = """
import os, sys
from pathlib import Path
from dorkos.clock import SystemClock
from dorkos.mesh.discovery import Ground, Limits, Walk
from dorkos.mesh.strategies.order import STRATEGIES

ground = Ground(denied=(), registered=(), data_directory="/data", home="/home")
root = [Path(sys.argv[1])]
walk = Walk(root, strategies=STRATEGIES, ground=ground, limits=Limits(), clock=SystemClock())
for name in ("encodings.utf_8_sig", "encodings.idna"):
    __import__(name)
told = []

def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC), arguments
        told.append(f"open {os.fspath(path)}")
    elif event.startswith(("os.", "subprocess.", "socket.", "import", "exec", "compile", "shutil.")):
        told.append(" ".join(map(str, (event, *arguments))))

sys.addaudithook(hook)
found = list(walk.run())
lines, told = told, []
print(*lines, len(found), sep="\\n")
"""


def test_the_number_of_directories_is_bounded(tmp_path: Path) -> None:
    """Exactly so many are examined, and the answer says that there were more."""
    for number in range(10):
        make_project(tmp_path / f"{number}/inner")

    found = explore(tmp_path, limits=Limits(directories=5))
    assert (found.directories, found.truncated) == (5, Truncation.DIRECTORIES)

    found = explore(tmp_path, limits=Limits(directories=21))
    assert (found.directories, found.truncated) == (21, None)


def test_more_roots_than_directories_are_all_looked_at(tmp_path: Path) -> None:
    """A person named them; below them there is no room then."""
    roots = [make_project(tmp_path / name, claude="Words.") for name in "abc"]
    for root in roots:
        make_project(root / "one", claude="Words.")
        make_project(root / "two", claude="Words.")

    found = explore(*roots, limits=Limits(directories=2))

    assert names(found, tmp_path) == ["a", "b", "c"]
    assert found.truncated is Truncation.DIRECTORIES


def test_a_directory_that_goes_away_meanwhile_is_no_problem(tmp_path: Path) -> None:
    """Nobody has to mend it."""
    make_project(tmp_path / "a", claude="Words.")
    (tmp_path / "b").mkdir()
    under_test = walk(tmp_path)
    findings = under_test.run()
    next(findings)

    (tmp_path / "b").rmdir()

    assert list(findings) == []


def test_the_number_of_candidates_is_bounded(tmp_path: Path) -> None:
    """A full list alone is no truncation; one more candidate is."""
    for number in range(3):
        make_project(tmp_path / str(number), claude="Words.")

    found = explore(tmp_path, limits=Limits(candidates=2))
    assert (len(found.candidates), found.truncated) == (2, Truncation.CANDIDATES)

    found = explore(tmp_path, limits=Limits(candidates=3))
    assert (len(found.candidates), found.truncated) == (3, None)


def test_many_problems_do_not_hide_the_agents_beside_them(tmp_path: Path) -> None:
    """The list of problems ends, the walk does not."""
    for number in range(3):
        make_project(tmp_path / str(number), b"{")
    make_project(tmp_path / "good", SCOUT)

    found = explore(tmp_path, limits=Limits(problems=2))

    assert names(found, tmp_path) == ["good"]
    assert (len(found.problems), found.truncated) == (2, Truncation.PROBLEMS)


def test_time_is_bounded_by_the_monotonic_clock(tmp_path: Path) -> None:
    """What was found until then is kept."""
    make_project(tmp_path / "1/2/3", claude="Words.")
    make_project(tmp_path, claude="Words.")

    found = explore(tmp_path, limits=Limits(seconds=3), clock=TickingClock())

    assert found.truncated is Truncation.TIME
    assert names(found, tmp_path) == ["."]


def test_one_huge_directory_cannot_outlast_the_limit(tmp_path: Path) -> None:
    """The clock is looked at while a directory is listed, too."""
    for number in range(1100):
        (tmp_path / str(number)).touch()

    found = explore(tmp_path, limits=Limits(seconds=2), clock=TickingClock())

    assert (found.directories, found.truncated) == (0, Truncation.TIME)


def test_a_walk_can_be_cancelled(tmp_path: Path) -> None:
    """It ends before the next directory and keeps what it found."""

    class Cancelling:
        name = "cancelling"
        markers = frozenset({"CLAUDE.md"})

        def look(self, folder: Folder) -> Hints | None:
            under_test.cancel()
            return Hints("x", AgentRuntime.OTHER)

    make_project(tmp_path, claude="Words.")
    make_project(tmp_path / "below", claude="Words.")
    under_test = walk(tmp_path, strategies=(Cancelling(),))

    found = seen(under_test)

    assert (len(found.candidates), found.directories, found.truncated) == (1, 1, Truncation.CANCELLED)
