"""The walk finds what is there, ends where it must, and survives any tree."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection
from pathlib import Path

import pytest

from dorkos.clock import ManualClock
from dorkos.mesh.discovery import DEFAULT_LIMITS, Limits, Walk
from dorkos.mesh.model import Discovery, Hints, Truncation
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


def walk(
    *roots: Path,
    denied: Collection[str] = (),
    registered: Collection[str] = (),
    limits: Limits = DEFAULT_LIMITS,
    clock: ManualClock | None = None,
    strategies: tuple[Strategy, ...] = STRATEGIES,
) -> Walk:
    """A walk with everything that a test does not care about."""
    return Walk(
        roots,
        strategies=strategies,
        denied=denied,
        registered=registered,
        limits=limits,
        clock=clock or ManualClock(),
    )


def names(found: Discovery, root: Path) -> list[str]:
    """The candidates' paths below the root, in the order found."""
    return [str(Path(candidate.path).relative_to(root)) for candidate in found.candidates]


def test_breadth_first_in_the_order_of_names(tmp_path: Path) -> None:
    """Agents inside of agents are found, and the answer does not depend on the disk's order."""
    for name in ("b", "a/nested/deep", "a", "Ümläut mit Leerzeichen"):
        make_project(tmp_path / name, claude="Words.")
    make_project(tmp_path / "a/manifest", SCOUT)

    found = walk(tmp_path).run()

    assert names(found, tmp_path) == ["a", "b", "Ümläut mit Leerzeichen", "a/manifest", "a/nested/deep"]
    assert found.truncated is None
    assert found.problems == ()
    assert found.directories == 7
    assert {candidate.strategy for candidate in found.candidates} == {"claude-code", "manifest"}
    assert found.candidates[0].discovered_at == ManualClock().now()


def test_the_root_itself_may_be_an_agent_whatever_its_name(tmp_path: Path) -> None:
    """Neither exclusions nor the rule for dots concern a root."""
    roots = [make_project(tmp_path / name, claude="Words.") for name in (".hidden", "node_modules")]

    assert names(walk(*roots).run(), tmp_path) == [".hidden", "node_modules"]


def test_depth_counts_from_the_root(tmp_path: Path) -> None:
    """A directory at the depth is examined, one below is not; that is no truncation."""
    make_project(tmp_path / "1/2", claude="Words.")
    make_project(tmp_path / "1/2/3", claude="Words.")

    found = walk(tmp_path, limits=Limits(depth=2)).run()

    assert names(found, tmp_path) == ["1/2"]
    assert found.truncated is None


@pytest.mark.parametrize(
    "name", ["node_modules", ".git", "dist", "build", ".cache", "__pycache__", ".venv", "venv", "extensions"]
)
def test_copies_and_caches_are_passed_over(tmp_path: Path, name: str) -> None:
    """What lies there is not a project of the person."""
    make_project(tmp_path / name / "package", claude="Words.")

    assert walk(tmp_path).run().candidates == ()


@pytest.mark.parametrize("name", [".claude", ".cursor", ".codex", ".dork"])
def test_a_products_settings_are_no_project(tmp_path: Path, name: str) -> None:
    """The global instructions in `~/.claude/CLAUDE.md` are not an agent."""
    make_project(tmp_path / name, claude="Words for all my projects.")
    make_project(tmp_path / name / "inner", SCOUT)

    assert walk(tmp_path).run().candidates == ()


def test_a_denial_wins_over_a_manifest_and_ends_there(tmp_path: Path) -> None:
    """Nothing at or below a denied path is offered, not even looked at."""
    denied = make_project(tmp_path / "denied", SCOUT)
    make_project(denied / "below", claude="Words.")
    make_project(denied / "broken", b"{")

    found = walk(tmp_path, denied={str(denied)}).run()

    assert found.candidates == ()
    assert found.problems == ()
    assert found.directories == 1


def test_a_registered_folder_is_no_candidate_but_may_hold_some(tmp_path: Path) -> None:
    """A repository of agents may be an agent itself."""
    registered = make_project(tmp_path / "registered", SCOUT)
    make_project(registered / "below", claude="Words.")

    found = walk(tmp_path, registered={str(registered)}).run()

    assert names(found, tmp_path) == ["registered/below"]


def test_overlapping_roots_give_no_duplicates(tmp_path: Path) -> None:
    """Each directory is seen once, and from the nearest root, so the depth counts from there."""
    make_project(tmp_path / "1/2/3/4", claude="Words.")
    inner = tmp_path / "1/2"

    found = walk(tmp_path, inner, inner, limits=Limits(depth=2)).run()

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

    assert names(walk(root).run(), root) == ["inside"]


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
        found = walk(tmp_path).run()

    assert names(found, tmp_path) == ["good"]
    assert {Path(problem.path).parts[-3]: problem.reason for problem in found.problems} == {
        "empty": "is empty",
        "folder": "is a directory, not a regular file",
    }


def test_a_name_that_is_not_utf8_is_reported_and_passed_over(tmp_path: Path) -> None:
    """It could be neither stored nor sent."""
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")  # noqa: PTH102  # A Path cannot say such a name plainly.
    make_project(tmp_path / "good", claude="Words.")

    found = walk(tmp_path).run()

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
            "found = Walk([Path(sys.argv[1])], strategies=STRATEGIES, denied=(), registered=(),\n"
            "    limits=Limits(), clock=SystemClock()).run()\n"
            "for candidate in found.candidates: print(Path(candidate.path).name)\n"
            "for problem in found.problems: print(Path(problem.path).name, problem.reason)",
            str(person.folder),
        )

    assert said.splitlines() == ["open", "closed cannot be listed: Permission denied"]


def test_a_root_that_is_no_directory_is_a_problem(tmp_path: Path) -> None:
    """Neither silence nor an error: the other roots are walked."""
    (tmp_path / "file").touch()
    good = make_project(tmp_path / "good", claude="Words.")

    found = walk(tmp_path / "gone", tmp_path / "file", good).run()

    assert names(found, tmp_path) == ["good"]
    assert [problem.reason for problem in found.problems] == [
        "cannot be listed: No such file or directory",
        "cannot be listed: Not a directory",
    ]


def test_the_number_of_directories_is_bounded(tmp_path: Path) -> None:
    """Exactly so many are examined, and the answer says that there were more."""
    for number in range(10):
        make_project(tmp_path / f"{number}/inner")

    found = walk(tmp_path, limits=Limits(directories=5)).run()
    assert (found.directories, found.truncated) == (5, Truncation.DIRECTORIES)

    found = walk(tmp_path, limits=Limits(directories=21)).run()
    assert (found.directories, found.truncated) == (21, None)


def test_the_number_of_candidates_is_bounded(tmp_path: Path) -> None:
    """A full list alone is no truncation; one more candidate is."""
    for number in range(3):
        make_project(tmp_path / str(number), claude="Words.")

    found = walk(tmp_path, limits=Limits(candidates=2)).run()
    assert (len(found.candidates), found.truncated) == (2, Truncation.CANDIDATES)

    found = walk(tmp_path, limits=Limits(candidates=3)).run()
    assert (len(found.candidates), found.truncated) == (3, None)


def test_many_problems_do_not_hide_the_agents_beside_them(tmp_path: Path) -> None:
    """The list of problems ends, the walk does not."""
    for number in range(3):
        make_project(tmp_path / str(number), b"{")
    make_project(tmp_path / "good", SCOUT)

    found = walk(tmp_path, limits=Limits(problems=2)).run()

    assert names(found, tmp_path) == ["good"]
    assert (len(found.problems), found.truncated) == (2, Truncation.PROBLEMS)


def test_time_is_bounded_by_the_monotonic_clock(tmp_path: Path) -> None:
    """What was found until then is kept."""
    make_project(tmp_path / "1/2/3", claude="Words.")
    make_project(tmp_path, claude="Words.")

    found = walk(tmp_path, limits=Limits(seconds=3), clock=TickingClock()).run()

    assert found.truncated is Truncation.TIME
    assert names(found, tmp_path) == ["."]


def test_one_huge_directory_cannot_outlast_the_limit(tmp_path: Path) -> None:
    """The clock is looked at while a directory is listed, too."""
    for number in range(1100):
        (tmp_path / str(number)).touch()

    found = walk(tmp_path, limits=Limits(seconds=2), clock=TickingClock()).run()

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

    found = under_test.run()

    assert (len(found.candidates), found.directories, found.truncated) == (1, 1, Truncation.CANCELLED)
